package httpmw_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

func TestHostKeyIsCanonical(t *testing.T) {
	for raw, want := range map[string]string{
		"http://example.com":                    "http://example.com:80",
		"http://example.com/":                   "http://example.com:80",
		"http://example.com:/":                  "http://example.com:80",
		"http://example.com:80/path?q#f":        "http://example.com:80",
		"HTTP://EXAMPLE.com":                    "http://example.com:80",
		"https://example.com":                   "https://example.com:443",
		"https://user:password@Example.com:443": "https://example.com:443",
		"https://example.com:80":                "https://example.com:80",
		"https://example.com:8443":              "https://example.com:8443",
		"http://[::1]":                          "http://[::1]:80",
		"http://[2001:DB8::1]:8080":             "http://[2001:db8::1]:8080",
		"http://[::1]:":                         "http://[::1]:80",
		"http://[0:0::1]":                       "http://[::1]:80",
		"http://example.com:080":                "http://example.com:80",
		"http://127.0.0.1:80":                   "http://127.0.0.1:80",
		"http://bücher.example":                 "http://bücher.example:80",
		"http://xn--bcher-kva.example":          "http://xn--bcher-kva.example:80",
		"http://\u212a.example":                 "http://\u212a.example:80", // a Kelvin sign is no k
		"unix://socket":                         "unix://socket",
		"/path":                                 "://",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := httpmw.HostKey(&http.Request{URL: u, Host: "other.example"}); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
	if got := httpmw.HostKey(&http.Request{}); got != "" {
		t.Errorf("no URL: %q", got)
	}
}

func FuzzHostKey(f *testing.F) {
	for _, s := range []string{"http://example.com", "https://EXAMPLE.com:443/", "http://[::1]:80", "http://[fe80::1%25en0]", "http://u:p@h:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" {
			t.Skip()
		}
		key := httpmw.HostKey(&http.Request{URL: u})
		// All spellings of one origin have one key.
		ascii := strings.Map(func(r rune) rune {
			if 'a' <= r && r <= 'z' {
				return r - 'a' + 'A'
			}
			return r
		}, u.Host)
		if strings.ToValidUTF8(u.Host, "") == u.Host {
			other := &url.URL{Scheme: strings.ToUpper(u.Scheme), Host: ascii, User: url.User("x"), Path: "/y"}
			if got := httpmw.HostKey(&http.Request{URL: other}); got != key {
				t.Errorf("%s: %q, in capitals %q", raw, key, got)
			}
		}
		// A key is an origin of its own key, and others differ from it.
		scheme, host, _ := strings.Cut(key, "://")
		if got := httpmw.HostKey(&http.Request{URL: &url.URL{Scheme: scheme, Host: host}}); got != key {
			t.Errorf("%s: key %q of the key %q", raw, got, key)
		}
		if u.Port() != "" && !strings.HasSuffix(key, ":"+cmp.Or(strings.TrimLeft(u.Port(), "0"), "0")) || u.Scheme == "http" && u.Port() == "" && !strings.HasSuffix(key, ":80") {
			t.Errorf("%s: port in %q", raw, key)
		}
	})
}

func TestKeyReachesThePolicies(t *testing.T) {
	var key string
	policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error { key = next.Key(); return next.Run(ctx) })
	for want, tr := range map[string]*httpmw.Transport{
		"http://example.com:80": {Base: answer(200), Policy: policy},
		"/path":                 {Base: answer(200), Policy: policy, Key: func(r *http.Request) string { return r.URL.Path }},
	} {
		resp, err := tr.RoundTrip(newRequest(t, "GET", "http://example.com/path", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if key != want {
			t.Errorf("key %q, want %q", key, want)
		}
	}
}

// Whoever asks at the same time, and whatever was asked before: the key of a request
// without a Key is that of HostKey.
func TestRememberedKeysAreThoseOfHostKey(t *testing.T) {
	tr := &httpmw.Transport{Base: answer(200), Policy: testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		if want := ctx.Value(wanted{}); next.Key() != want {
			t.Errorf("key %q, want %q", next.Key(), want)
		}
		return next.Run(ctx)
	})}
	testkit.AtOnce(8, func(i int) {
		for n := range 500 {
			url := fmt.Sprintf("%s://h%d", []string{"http", "https", "HTTP"}[n%3], (i+n)%40)
			req := newRequest(t, "GET", url, nil)
			resp, err := tr.RoundTrip(req.WithContext(context.WithValue(req.Context(), wanted{}, httpmw.HostKey(req))))
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		}
	})
}

type wanted struct{}
