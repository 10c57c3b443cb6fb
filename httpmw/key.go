package httpmw

import (
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/resilience-go/resilience/internal/adapter"
)

// HostKey returns scheme, host and port of the URL of r, as in
// "https://api.example.com:443" and "http://[::1]:8080". All spellings of one origin have
// one key (RFC 9110, section 4.2.3):
//
//   - scheme and host are in lower case;
//   - an IPv6 address has its shortest form (RFC 5952);
//   - the port has no leading zeros, and the default port of http and https is added. With
//     another scheme, a URL without a port gives a key without a port.
//
// A dot at the end of a name stays: for RFC 3986 and for the URL standard of WHATWG,
// "example.com." is another host than "example.com". Names are not resolved, and
// international names are not converted. User name, password, path and the Host header are
// not part of the key. HostKey returns "" if r has no URL.
//
// KeyOf returns the key for keyed.Config.Keys.
func HostKey(r *http.Request) string {
	if r.URL == nil {
		return ""
	}
	return adapter.CanonicalOrigin(r.URL.Scheme, r.URL.Host)
}

// KeyOf returns the key that HostKey returns for requests to rawURL, for instance for
// keyed.Config.Keys:
//
//	Keys: map[string]resilience.Policy{
//		resilience.Must(httpmw.KeyOf("https://reports.example.com")): reports,
//	}
//
// It returns an error if no request can have such a URL: it has no scheme, no host, or an
// invalid port. KeyOf ignores the path and the query of rawURL.
func KeyOf(rawURL string) (string, error) {
	const remedy = `write scheme and host, as in "https://api.example.com"`
	if scheme, _, ok := strings.Cut(rawURL, "://"); !ok || scheme == "" {
		return "", errors.New("httpmw: no key: the URL has no scheme: " + remedy)
	}
	u, err := adapter.ParseURL(rawURL)
	if err != nil {
		return "", fmt.Errorf("httpmw: no key: the URL is invalid: %w", err)
	}
	if u.Hostname() == "" {
		return "", fmt.Errorf("httpmw: no key: URL %q has no host: %s", u.Redacted(), remedy)
	}
	if p := u.Port(); !adapter.ValidPort(p) {
		return "", fmt.Errorf("httpmw: no key: URL %q has port %s: must be at most 65535", u.Redacted(), p)
	}
	return adapter.CanonicalOrigin(u.Scheme, u.Host), nil
}

// origins caches the keys of a few hosts, so that a request does not build its key again.
// Hosts may share an entry, which then is about the host that was used last.
type origins [16]atomic.Pointer[origin]

type origin struct {
	scheme, host, key string

	// unreachable is whether the last dial that net/http made for an attempt did not
	// succeed in time. It is used only if Base bounds its connections.
	unreachable atomic.Bool
}

var seed = maphash.MakeSeed()

// key returns HostKey of r.
func (o *origins) key(r *http.Request) string {
	if r.URL == nil {
		return ""
	}
	return o.find(r.URL).key
}

// find returns the entry of the host of u.
func (o *origins) find(u *url.URL) *origin {
	entry := &o[maphash.String(seed, u.Host)%uint64(len(o))]
	if known := entry.Load(); known != nil && known.host == u.Host && known.scheme == u.Scheme {
		return known
	}
	// Clones, because scheme and host may be parts of a long URL.
	made := &origin{scheme: strings.Clone(u.Scheme), host: strings.Clone(u.Host), key: adapter.CanonicalOrigin(u.Scheme, u.Host)}
	entry.Store(made)
	return made
}
