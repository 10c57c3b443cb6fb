package httpmw

import (
	"hash/maphash"
	"net/http"
	"strings"
	"sync/atomic"
)

// origins remembers what HostKey said of a few URLs, so that it need not be put
// together anew for each request. Two hosts with one place take turns in it.
type origins [16]atomic.Pointer[origin]

type origin struct{ scheme, host, key string }

var seed = maphash.MakeSeed()

func (o *origins) key(r *http.Request) string {
	u := r.URL
	if u == nil {
		return ""
	}
	place := &o[maphash.String(seed, u.Host)%uint64(len(o))]
	if known := place.Load(); known != nil && known.host == u.Host && known.scheme == u.Scheme {
		return known.key
	}
	key := HostKey(r)
	// Clones, since scheme and host may be parts of a long URL.
	place.Store(&origin{strings.Clone(u.Scheme), strings.Clone(u.Host), key})
	return key
}

// HostKey returns scheme, host and port of the URL of r, as in
// "https://api.example.com:443" and "http://[::1]:8080", so that all spellings of
// one origin have one key (RFC 9110, section 4.2.3). Scheme and host are in lower
// case, the port is there even if it is the default one of the scheme; a scheme
// that has none and a URL without a port give a key without a port. User
// information, path and the Host header have no part in it, and names are not
// resolved or converted. "" if r has no URL.
func HostKey(r *http.Request) string {
	u := r.URL
	if u == nil {
		return ""
	}
	scheme, host := lower(u.Scheme), lower(u.Host)
	// A colon after the last bracket, if any, comes before the port.
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		if i < len(host)-1 {
			return scheme + "://" + host
		}
		host = strings.TrimRight(host, ":")
	}
	switch scheme {
	case "http":
		return "http://" + host + ":80"
	case "https":
		return "https://" + host + ":443"
	default:
		return scheme + "://" + host
	}
}

// lower maps ASCII only: to strings.ToLower the Kelvin sign is a k.
func lower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
