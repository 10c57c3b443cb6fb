package httpmw

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"strings"

	"github.com/resilience-go/resilience"
)

// DefaultRetryable reports whether req may be sent again after it was answered
// with resp, or after it failed with err if that is not nil. It may
//
//   - after 408, 425, 429, 500, 502, 503, 504 and after errors, if it is
//     idempotent: GET, HEAD, OPTIONS, TRACE, PUT, DELETE (RFC 9110, section
//     9.2.2), or with a header Idempotency-Key or X-Idempotency-Key, the presence
//     of which is enough, as it is for net/http, or under WithIdempotent;
//   - whatever its method, after errors that prove that it never reached the
//     server: no connection could be made, or the server said by REFUSED_STREAM
//     or GOAWAY that it had not looked at it (RFC 9113, section 8.7).
//
// It may not after errors that will not go away: of certificates, an unsupported
// scheme, too many redirects, a request that is invalid; nor after the rejection
// of a policy further in.
func DefaultRetryable(req *http.Request, resp *http.Response, err error) bool {
	if err == nil {
		return retriedStatus(resp.StatusCode) && idempotent(req)
	}
	return !hopeless(err) && (idempotent(req) || unsent(err))
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

// unsent reports whether err proves that the server did not see the request. A
// failure to dial does also where net/http had used another connection before:
// it goes on to a new one only if nothing was written to the old one, or if the
// request is one that may be repeated anyway.
func unsent(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "dial" || op.Op == "proxyconnect") {
		return true
	}
	// net/http and x/net/http2 both let their stream errors be had as any struct
	// of the same fields.
	if se, ok := errors.AsType[streamError](err); ok {
		return se.Code == refusedStream
	}
	// These have no type, and text is all there is. net/http lets only the last of
	// them through, and a test meets that one, so that a version of Go that words
	// it anew does not go unnoticed; the others are those of x/net/http2.
	switch text := cause(err).Error(); text {
	case "http2: Transport received Server's graceful shutdown GOAWAY",
		"http2: client conn not usable",
		"http2: client conn could not be established",
		"http2: no cached connection was available":
		return true
	default:
		// Only said of streams above the last one that the server has seen.
		return strings.HasPrefix(text, "http2: Transport received GOAWAY from server ErrCode:")
	}
}

// streamError has the fields of the type in net/http.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

const refusedStream = 7 // RFC 9113, section 7

func (e streamError) Error() string { return fmt.Sprintf("stream error %d", e.Code) }

// hopeless reports whether err would come back if the request were sent again.
func hopeless(err error) bool {
	return errors.Is(err, resilience.ErrRejected) || errors.Is(err, http.ErrSchemeMismatch) ||
		certificate(err) || redirects(err) || invalid(err)
}

func certificate(err error) bool {
	if is[*tls.CertificateVerificationError](err) || is[x509.UnknownAuthorityError](err) || is[x509.HostnameError](err) ||
		is[x509.CertificateInvalidError](err) || is[x509.ConstraintViolationError](err) || is[x509.SystemRootsError](err) ||
		is[x509.UnhandledCriticalExtension](err) || is[tls.RecordHeaderError](err) {
		return true
	}
	// What the server says of a certificate of ours (RFC 8446, section 6). The
	// alert has a type that is not exported, but its number can be had.
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

// redirects is about a Base that is made of an http.Client.
func redirects(err error) bool {
	text := cause(err).Error()
	return strings.HasPrefix(text, "stopped after ") && strings.HasSuffix(text, " redirects")
}

// invalid reports whether net/http says by err that it cannot send such a
// request. That tells nothing about the server.
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
