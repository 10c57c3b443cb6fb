package httpmw

import (
	"net/http"
	"strings"
)

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
