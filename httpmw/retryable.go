package httpmw

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"

	"github.com/resilience-go/resilience"
)

// DefaultRetryable reports whether req is safe to retry after it was answered with resp, or
// after it failed with err if err is not nil.
//
// An idempotent request is safe to retry after 408, 425, 429, 500, 502, 503, 504 and after
// errors. A request is idempotent if
//
//   - its method is GET, HEAD, OPTIONS, TRACE, PUT or DELETE (RFC 9110, section 9.2.2),
//   - it has a header Idempotency-Key or X-Idempotency-Key, with any value, or
//   - its context has WithIdempotent.
//
// Any request is safe to retry after an error which proves that the server did not process
// it. Either there was no connection for it, as after a failure to dial, of a proxy or of a
// TLS handshake. Or the server sent REFUSED_STREAM or GOAWAY for it (RFC 9113, section 8.7).
//
// Pass err on as Retryable gets it: for a request that is not idempotent, Transport adds to
// it what net/http reported about the connection, through package httptrace. Without that,
// an error of an http.Client proves nothing, because it may be about a redirect.
//
// No request is retried after a permanent error:
//
//   - an error of a certificate,
//   - a name that does not exist,
//   - a proxy's answer to CONNECT with a status that is not listed above,
//   - an unsupported scheme, an invalid request, or too many redirects,
//   - the rejection of a policy further in,
//   - an error whose method Retryable() bool returns false.
func DefaultRetryable(req *http.Request, resp *http.Response, err error) bool {
	if err == nil {
		return retriedStatus(resp.StatusCode) && idempotent(req)
	}
	if code := proxyStatus(req, err); code != 0 && !retriedStatus(code) {
		return false
	}
	return !permanent(err) && (idempotent(req) || unsent(err))
}

func retriedStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func idempotent(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	if _, ok := req.Header["Idempotency-Key"]; ok {
		return true
	}
	_, ok := req.Header["X-Idempotency-Key"]
	return ok || settingsOf(req.Context()).idempotent
}

// unsent reports whether err proves that the server did not process the request. A failure
// to dial proves it even if net/http used another connection before. It makes a new one
// only if it wrote nothing to the old one, or if the request is safe to retry anyway.
func unsent(err error) bool {
	if e, ok := errors.AsType[*connError](err); ok {
		return e.unsent
	}
	if is[*url.Error](err) {
		return false // of a Base that is an http.Client: it may be about a redirect
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "dial" || op.Op == "proxyconnect" || op.Op == "socks connect") {
		return true
	}
	// net/http and x/net/http2 both convert their stream errors to any struct with the same
	// fields.
	if se, ok := errors.AsType[streamError](err); ok {
		return se.Code == refusedStream
	}
	// These errors have no type, only a text. net/http returns only the first and the last
	// one. Tests provoke these two, to notice if a Go version changes a text. The others are
	// from x/net/http2.
	switch text := cause(err).Error(); text {
	case "net/http: TLS handshake timeout",
		"http2: Transport received Server's graceful shutdown GOAWAY",
		"http2: client conn not usable",
		"http2: client conn could not be established",
		"http2: no cached connection was available":
		return true
	default:
		// A stream gets this error only if the server has not processed it.
		return strings.HasPrefix(text, "http2: Transport received GOAWAY from server ErrCode:")
	}
}

// streamError has the fields of the type in net/http.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

// refusedStream is the code of REFUSED_STREAM (RFC 9113, section 7).
const refusedStream = 7

func (e streamError) Error() string { return fmt.Sprintf("stream error %d", e.Code) }

// permanent reports whether the request would fail with err again.
func permanent(err error) bool {
	if e, ok := errors.AsType[interface {
		error
		Retryable() bool
	}](err); ok && !e.Retryable() {
		return true
	}
	return resilience.Rejected(err) || errors.Is(err, http.ErrSchemeMismatch) ||
		certificate(err) || redirects(err) || invalid(err) || noSuchHost(err)
}

// proxyStatus returns the status with which a proxy rejected a tunnel to the server of req
// (RFC 9110, section 9.3.6), or 0 if err is about something else. net/http returns only the
// reason phrase of the proxy's answer. proxyStatus recognizes only the usual phrases.
func proxyStatus(req *http.Request, err error) int {
	if req.URL == nil || req.URL.Scheme != "https" {
		return 0
	}
	phrase := cause(err).Error()
	for code := 300; code < 600; code++ {
		if text := http.StatusText(code); text != "" && strings.EqualFold(phrase, text) {
			return code
		}
	}
	return 0
}

// noSuchHost reports whether a name server has answered that the name does not exist.
func noSuchHost(err error) bool {
	e, ok := errors.AsType[*net.DNSError](err)
	return ok && e.IsNotFound
}

func certificate(err error) bool {
	if is[*tls.CertificateVerificationError](err) || is[x509.UnknownAuthorityError](err) || is[x509.HostnameError](err) ||
		is[x509.CertificateInvalidError](err) || is[x509.ConstraintViolationError](err) || is[x509.SystemRootsError](err) ||
		is[x509.UnhandledCriticalExtension](err) || is[x509.InsecureAlgorithmError](err) || is[tls.RecordHeaderError](err) {
		return true
	}
	// The server's alerts about our certificate (RFC 8446, section 6). The type of an alert
	// is not exported, but reflection gets its number.
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		if alert := reflect.ValueOf(op.Err); alert.Kind() == reflect.Uint8 {
			n := alert.Uint()
			return n >= 42 && n <= 46 || n == 48 || n == 116
		}
	}
	return false
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// redirects reports whether err comes from a Base that is an http.Client and followed too
// many redirects.
func redirects(err error) bool {
	text := cause(err).Error()
	return strings.HasPrefix(text, "stopped after ") && strings.HasSuffix(text, " redirects")
}

// invalid reports whether err is net/http's error for a request that it cannot send. The
// error is no evidence about the server.
func invalid(err error) bool {
	text := cause(err).Error()
	for _, prefix := range [...]string{
		// before it looks for a connection
		"unsupported protocol scheme", "http: nil Request.", "http: no Host in request URL",
		"net/http: invalid method", "net/http: invalid header", "net/http: invalid trailer",
		// when it writes the request over HTTP/1
		"http: Request.ContentLength=", "http: ContentLength=", "http: invalid Host header",
		"net/http: can't write control character", "invalid Trailer key",
		// when it writes the request over HTTP/2
		"http2: unsupported scheme", "http2: request body larger than specified", "request header list larger than",
		"invalid Host header", "invalid request :path",
		"invalid Upgrade request header", "invalid Transfer-Encoding request header", "invalid Connection request header",
	} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}

// cause returns the innermost error in a chain.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
