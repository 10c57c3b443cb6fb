package httpmw_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// HostKey returns one key for all spellings of an origin.
func TestHostKey_canonical(t *testing.T) {
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
		"http://\u212a.example":                 "http://\u212a.example:80", // a Kelvin sign is not a k
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

// KeyOf returns HostKey of a request with that URL, and an error for a URL that no request
// can have.
func TestKeyOf_spellings(t *testing.T) {
	for _, test := range []struct{ url, key, err string }{
		{"https://api.example.com", "https://api.example.com:443", ""},
		{"https://api.example.com/", "https://api.example.com:443", ""},
		{"https://api.example.com:443", "https://api.example.com:443", ""},
		{"HTTPS://API.example.com:0443/v1/orders?id=1", "https://api.example.com:443", ""},
		{"http://api.example.com:080", "http://api.example.com:80", ""},
		{"http://[0:0::1]", "http://[::1]:80", ""},
		{"https://ada:secret@api.example.com", "https://api.example.com:443", ""},
		{"http://api.example.com.", "http://api.example.com.:80", ""}, // another host
		{"unix://socket", "unix://socket", ""},
		{"", "", "no scheme"},
		{"api.example.com", "", "no scheme"},
		{"api.example.com:443", "", "no scheme"},
		{"127.0.0.1:80", "", "no scheme"},
		{"//api.example.com", "", "no scheme"},
		{"://api.example.com", "", "no scheme"},
		{"https://", "", "no host"},
		{"https:///orders", "", "no host"},
		{"https://:443", "", "no host"},
		{"https://ada:secret@:443", "", "no host"},
		{"https://api.example.com:https", "", "invalid port"},
		{"https://ada:secret@api.example.com:70000", "", "must be at most 65535"},
		{"https://ada:secret@[::1", "", "invalid"},
		{"https://ada:secret/x@api.example.com", "", "not escaped"},
		{"https://ada:secret#x@api.example.com", "", "not escaped"},
		{"https://ada:secret?@api.example.com", "", "not escaped"},
		{"http://[fe80::1%25Eth0]", "http://[fe80::1%eth0]:80", ""},
		{"http://[fe80::1%eth0]:80", "http://[fe80::1%eth0]:80", ""},
		{"https://api example.com", "", "invalid"},
	} {
		key, err := httpmw.KeyOf(test.url)
		if key != test.key || (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q: %q, %v, want %q, %q", test.url, key, err, test.key, test.err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error has the password in it: %v", test.url, err)
		}
	}
}

// KeyOf equals HostKey of a request with the URL, and KeyOf of a key is the key.
func FuzzKeyOf(f *testing.F) {
	for _, s := range []string{
		"http://example.com", "https://EXAMPLE.com:0443/", "http://[0:0::1]:080", "http://[fe80::1%25en0]",
		"http://u:p@h:", "x://y", "http://h:65536", "//h", "h:80", "http://bücher.example/a b?c#d",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		key, err := httpmw.KeyOf(raw)
		if err != nil {
			return
		}
		req, err := http.NewRequest("GET", raw, nil)
		if err != nil && strings.Contains(raw, "[") && strings.Contains(raw, "%") {
			return // a key has its zone without the escape that a URL needs
		}
		if err != nil {
			t.Fatalf("%q has the key %q, but no request can have it: %v", raw, key, err)
		}
		if got := httpmw.HostKey(req); got != key {
			t.Errorf("%q: KeyOf %q, HostKey %q", raw, key, got)
		}
		again, err := httpmw.KeyOf(key)
		if strings.ContainsAny(key, "%/?#@\\ ") && err != nil {
			return // net/url decodes some characters that it does not accept itself
		}
		if again != key {
			t.Errorf("%q: key %q of the key %q: %v", raw, again, key, err)
		}
	})
}

// All spellings of one origin have one HostKey, and different ports have different keys.
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
		upper := strings.Map(func(r rune) rune {
			if 'a' <= r && r <= 'z' {
				return r - 'a' + 'A'
			}
			return r
		}, u.Host)
		if strings.ToValidUTF8(u.Host, "") == u.Host {
			other := &url.URL{Scheme: strings.ToUpper(u.Scheme), Host: upper, User: url.User("x"), Path: "/y"}
			if got := httpmw.HostKey(&http.Request{URL: other}); got != key {
				t.Errorf("%s: %q, in capitals %q", raw, key, got)
			}
		}
		scheme, host, _ := strings.Cut(key, "://")
		if got := httpmw.HostKey(&http.Request{URL: &url.URL{Scheme: scheme, Host: host}}); got != key {
			t.Errorf("%s: key %q of the key %q", raw, got, key)
		}
		port := u.Port()
		if port != "" {
			port = cmp.Or(strings.TrimLeft(port, "0"), "0")
		}
		if port != "" && !strings.HasSuffix(key, ":"+port) || u.Scheme == "http" && port == "" && !strings.HasSuffix(key, ":80") {
			t.Errorf("%s: port in %q", raw, key)
		}
	})
}

// Without a Key, a policy gets the key of HostKey; otherwise Key's.
func TestTransport_keyReachesPolicies(t *testing.T) {
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

// A cached key equals HostKey, also when requests to many hosts run at once.
func TestTransport_cachedKeysEqualHostKey(t *testing.T) {
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

// The key of a request is its pattern, or Key's.
func TestServer_key(t *testing.T) {
	var keys []string
	policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		keys = append(keys, next.Key())
		return next.Run(ctx)
	})
	mux := http.NewServeMux()
	mux.Handle("GET /items/{id}", httpmw.Server{Policy: policy}.Wrap(http.NotFoundHandler()))
	mux.Handle("/own", httpmw.Server{Policy: policy, Key: func(r *http.Request) string { return r.Host }}.Wrap(http.NotFoundHandler()))
	for _, path := range []string{"/items/7", "/own"} {
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	if len(keys) != 2 || keys[0] != "GET /items/{id}" || keys[1] != "example.com" {
		t.Errorf("keys %q", keys)
	}
}
