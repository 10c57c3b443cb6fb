// Package adapter has the parts that httpmw, grpcmw and keyed share: the spelling of keys
// and the number of an attempt that crosses a process boundary.
package adapter

import (
	"net/netip"
	"strings"
)

// CanonicalOrigin returns scheme://host:port for the scheme and the host of a URL (RFC 9110,
// section 4.2.3), as in "https://api.example.com:443" and "http://[::1]:8080".
//
//   - Scheme and host are in lower case, ASCII letters only.
//   - An IPv6 address has its shortest form (RFC 5952).
//   - A port has no leading zeros. A missing port is the default port of http or https;
//     with any other scheme it stays missing.
//
// Names are not resolved or converted. CanonicalOrigin accepts any input: it keeps what it
// cannot parse.
func CanonicalOrigin(scheme, hostport string) string {
	scheme = lower(scheme)
	host, port := split(lower(hostport))
	if port == "" {
		port = defaultPort(scheme)
	}
	if port != "" {
		port = ":" + port
	}
	return scheme + "://" + host + port
}

// CanonicalKey returns the canonical spelling of a key that is written as an origin of
// http or https. A user name, a password and a slash at the end are dropped. For any
// other key, such as a URL with a path, ok is false.
func CanonicalKey(key string) (canonical string, ok bool) {
	scheme, rest, found := strings.Cut(key, "://")
	if !found || defaultPort(lower(scheme)) == "" {
		return "", false
	}
	rest = strings.TrimSuffix(rest, "/")
	hostport := rest[strings.LastIndexByte(rest, '@')+1:]
	if hostport == "" || hostport[0] == ':' || strings.ContainsAny(rest, "/?#") {
		return "", false
	}
	return CanonicalOrigin(scheme, hostport), true
}

func defaultPort(scheme string) string {
	switch scheme {
	case "http":
		return "80"
	case "https":
		return "443"
	default:
		return ""
	}
}

// split returns the host and the port of hostport, both in their canonical form.
func split(hostport string) (host, port string) {
	host = strings.TrimRight(hostport, ":")
	// A colon after the last bracket separates the port.
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host, port = host[:i], host[i+1:]
	}
	for len(port) > 1 && port[0] == '0' {
		port = port[1:]
	}
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		if addr, err := netip.ParseAddr(host[1 : n-1]); err == nil && addr.Is6() {
			host = "[" + addr.String() + "]"
		}
	}
	return host, port
}

// lower maps ASCII letters only, because strings.ToLower maps the Kelvin sign to a k.
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
