// Package adapter has the parts that httpmw, grpcmw and keyed share: the spelling of keys
// and the number of an attempt that crosses a process boundary.
package adapter

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
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

// ParseURL is url.Parse that also accepts the result of CanonicalOrigin, in which the zone
// of an IPv6 address is not escaped, as in "http://[fe80::1%eth0]:80". Its error has no
// password, not even one that is not escaped.
func ParseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(escapeZone(raw))
	switch e, ok := errors.AsType[*url.Error](err); {
	case err == nil:
		return u, nil
	case strings.Contains(raw, "@"):
		return nil, errors.New("a user name or a password has a character that is not escaped, or the host or the port is wrong")
	case ok:
		return nil, e.Err // without the URL
	default:
		return nil, err
	}
}

// escapeZone returns raw with the zone of its IPv6 address escaped.
func escapeZone(raw string) string {
	before, rest, _ := strings.Cut(raw, "[")
	addr, after, ok := strings.Cut(rest, "]")
	ip, zone, zoned := strings.Cut(addr, "%")
	if !ok || !zoned || strings.HasPrefix(zone, "25") {
		return raw
	}
	return before + "[" + ip + "%25" + zone + "]" + after
}

// CanonicalKey returns the canonical spelling of a key that is written as an origin of
// http or https. A slash at the end is dropped. For any other key, such as a URL with a
// path or a user name, ok is false.
func CanonicalKey(key string) (canonical string, ok bool) {
	if scheme, _, found := strings.Cut(key, "://"); !found || defaultPort(lower(scheme)) == "" {
		return "", false
	}
	u, err := ParseURL(key)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || !ValidPort(u.Port()) {
		return "", false
	}
	return CanonicalOrigin(u.Scheme, u.Host), true
}

// ValidPort reports whether port is empty or a number that a port can have.
func ValidPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil
}

// HasUser reports whether key is a URL with a password, or a URL of http or https with a user
// name.
func HasUser(key string) bool {
	scheme, rest, _ := strings.Cut(key, "://")
	user, _, ok := strings.Cut(authority(rest), "@")
	if defaultPort(lower(scheme)) == "" {
		return ok && strings.Contains(user, ":")
	}
	_, err := ParseURL(key)
	return ok || err != nil && strings.Contains(rest, "@")
}

// authority returns the part before the path of rest, a URL without its scheme.
func authority(rest string) string {
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		return rest[:end]
	}
	return rest
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
