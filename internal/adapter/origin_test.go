package adapter_test

import (
	"strings"
	"testing"

	"github.com/resilience-go/resilience/internal/adapter"
)

// All spellings of one origin have one canonical form.
func TestCanonical_spellings(t *testing.T) {
	for _, test := range []struct{ scheme, hostport, want string }{
		{"https", "api.example.com", "https://api.example.com:443"},
		{"HTTPS", "API.example.com:443", "https://api.example.com:443"},
		{"https", "api.example.com:", "https://api.example.com:443"},
		{"https", "api.example.com:0443", "https://api.example.com:443"},
		{"http", "api.example.com:080", "http://api.example.com:80"},
		{"http", "api.example.com:000", "http://api.example.com:0"},
		{"http", "[0:0::1]", "http://[::1]:80"},
		{"http", "[2001:DB8:0:0::1]:8080", "http://[2001:db8::1]:8080"},
		{"http", "[fe80::1%en0]", "http://[fe80::1%en0]:80"},
		{"http", "[::1", "http://[::1"},
		{"http", "\u212a.example", "http://\u212a.example:80"},
		{"unix", "socket", "unix://socket"},
		{"", "", "://"},
	} {
		if got := adapter.CanonicalOrigin(test.scheme, test.hostport); got != test.want {
			t.Errorf("%s, %s: %s, want %s", test.scheme, test.hostport, got, test.want)
		}
	}
}

// Only a key that can be nothing but an origin is changed.
func TestCanonicalKey_spellings(t *testing.T) {
	for key, want := range map[string]string{
		"https://api.example.com":            "https://api.example.com:443",
		"https://api.example.com/":           "https://api.example.com:443",
		"https://api.example.com?":           "https://api.example.com:443",
		"https://api.example.com#":           "https://api.example.com:443",
		"https://api.example.com:443":        "https://api.example.com:443",
		"https://%C3%A9.example.com":         "https://é.example.com:443",
		"HTTP://[0:0::1]:080/":               "http://[::1]:80",
		"http://[fe80::1%25Eth0]":            "http://[fe80::1%eth0]:80",
		"http://[fe80::1%eth0]:80":           "http://[fe80::1%eth0]:80",
		"https://ada:secret@api.example.com": "",
		"https://api.example.com/orders":     "",
		"https://a.example/@b":               "",
		"https://api.example.com?q":          "",
		"https://api.example.com:https":      "",
		"https://api.example.com:99999":      "",
		" https://api.example.com":           "",
		"https://":                           "",
		"https://:443":                       "",
		"api.example.com:443":                "",
		"dns:///payments:443/a.B/C":          "",
		"/payments.v1.Payments/Charge":       "",
		"":                                   "",
	} {
		if got, ok := adapter.CanonicalKey(key); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", key, got, ok, want)
		}
	}
}

// HasUser finds a user name or a password, also one that is not escaped.
func TestHasUser_spellings(t *testing.T) {
	for key, want := range map[string]bool{
		"https://ada@api.example.com":          true,
		"https://ada:secret@api.example.com/a": true,
		"https://ada:secret/x@api.example.com": true,
		"https://ada:secret?@api.example.com":  true,
		"postgres://ada:secret@db/users":       true,
		"https://api.example.com/@ada":         false,
		"tenant://ada@example.com":             false,
		"dns:///payments:443/a.B/C":            false,
		"ada@example.com":                      false,
		"":                                     false,
	} {
		if got := adapter.HasUser(key); got != want {
			t.Errorf("%q: %v", key, got)
		}
	}
}

// The canonical form of a canonical form is itself, and no input makes it panic.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"http://a", "HTTPS://A:0443", "http://[0:0::1]:080", "x://[::1%25En0]", "http://[:", "http://a::", "://:00:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		scheme, hostport, _ := strings.Cut(s, "://")
		want := adapter.CanonicalOrigin(scheme, hostport)
		scheme, hostport, _ = strings.Cut(want, "://")
		if got := adapter.CanonicalOrigin(scheme, hostport); got != want {
			t.Errorf("%q: %q of %q", s, got, want)
		}
		key, ok := adapter.CanonicalKey(s)
		if strings.ContainsAny(key[strings.Index(key, "//")+1:], "%?#@\\ ") {
			return // net/url decodes some characters that it does not accept itself
		}
		if again, still := adapter.CanonicalKey(key); ok && (!still || again != key) {
			t.Errorf("%q: key %q of %q", s, again, key)
		}
	})
}
