package stack

import (
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/resilience-go/resilience/internal/adapter"
	"github.com/resilience-go/resilience/internal/policykit"
)

// validateKeys returns an error if a key of Keyed.Keys looks like the key of a request but
// would never match one:
//
//   - a gRPC method without its target,
//   - a URL that is no origin,
//   - an address without a scheme.
//
// Any other text can be the key of a user's operation.
func (c *ClientConfig) validateKeys() error {
	if !c.on(Keyed) {
		if len(c.Keyed.Keys) > 0 {
			return bad(c.Name, "Keyed.Keys has %s, but Without has stack.Keyed, which ignores them: remove one of the two", policykit.Count(len(c.Keyed.Keys), "key"))
		}
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(c.Keyed.Keys)) {
		switch {
		case adapter.HasUser(key): // keyed.New rejects it, and the error here would show it
		case isMethod(key):
			return bad(c.Name, "Keyed.Keys[%q] is a gRPC method without its target, and the key of a grpcmw.Client is both: write the target in front, as in %q; if a function Key returns the method alone, let it return %q",
				key, "dns:///payments:443"+key, key[1:])
		case isHTTP(key):
			if _, ok := adapter.CanonicalKey(key); !ok {
				return bad(c.Name, "Keyed.Keys[%q] is not the origin of a URL, and the key of an HTTP request is one: write scheme, host and port, as in %q; if a function Key returns more of the URL, let it leave out the scheme",
					key, originOf(key))
			}
		case isAddress(key):
			return bad(c.Name, "Keyed.Keys[%q] is an address without a scheme, and the key of an HTTP request has one: write %q or %q; if a function Key returns the address alone, let it return %q",
				key, "http://"+key, "https://"+key, "tcp://"+key)
		}
	}
	return nil
}

// isHTTP reports whether key begins as a URL of http or https, with or without a mistake.
func isHTTP(key string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(key)), "http")
	rest = strings.TrimPrefix(rest, "s")
	return ok && (strings.HasPrefix(rest, ":/") || strings.HasPrefix(rest, "//"))
}

// originOf returns the origin of the URL that key begins with, or an example.
func originOf(key string) string {
	if u, err := adapter.ParseURL(strings.TrimSpace(key)); err == nil {
		if origin, ok := adapter.CanonicalKey((&url.URL{Scheme: u.Scheme, Host: u.Host}).String()); ok {
			return origin
		}
	}
	return "https://api.example.com:443"
}

// isAddress reports whether key is a host with a port, where the host is an IP address,
// localhost, or a name with a dot. The name of a tenant does not look like that.
func isAddress(key string) bool {
	host, port, err := net.SplitHostPort(key)
	if err != nil || port == "" || !adapter.ValidPort(port) || strings.ContainsAny(host, "/@ ") {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err == nil || host == "localhost" || strings.Contains(strings.Trim(host, "."), ".")
}

// isMethod reports whether key looks like a gRPC method with a package, as in
// "/payments.v1.Payments/Charge". Without a package it may be a path.
func isMethod(key string) bool {
	service, method, ok := strings.Cut(strings.TrimPrefix(key, "/"), "/")
	if !ok || key[0] != '/' || !strings.Contains(service, ".") || !isIdentifier(method) {
		return false
	}
	for part := range strings.SplitSeq(service, ".") {
		if !isIdentifier(part) {
			return false
		}
	}
	return true
}

// isIdentifier reports whether s is an identifier in the language of protocol buffers.
func isIdentifier(s string) bool {
	for i := range len(s) {
		letter := 'a' <= s[i]|0x20 && s[i]|0x20 <= 'z' || s[i] == '_'
		if !letter && (i == 0 || s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	return s != ""
}
