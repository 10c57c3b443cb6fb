package httpmw

import (
	"hash/maphash"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/resilience-go/resilience/internal/origin"
)

// origins remembers what HostKey said of a few URLs, so that it need not be put
// together anew for each request. Two hosts with one place take turns in it.
type origins [16]atomic.Pointer[cachedKey]

type cachedKey struct{ scheme, host, key string }

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
	place.Store(&cachedKey{strings.Clone(u.Scheme), strings.Clone(u.Host), key})
	return key
}

// HostKey returns scheme, host and port of the URL of r, as in
// "https://api.example.com:443" and "http://[::1]:8080", so that all spellings of
// one origin have one key (RFC 9110, section 4.2.3). Scheme and host are in lower
// case, an IPv6 address has its shortest form, and the port has no leading zeros and
// is there even if it is the default port of http or https. With any other scheme, a
// URL without a port gives a key without a port. User information, path and the Host
// header are not part of the key, and names are not resolved or converted. HostKey
// returns "" if r has no URL.
func HostKey(r *http.Request) string {
	if r.URL == nil {
		return ""
	}
	return origin.Canonical(r.URL.Scheme, r.URL.Host)
}
