package httpmw_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/resilience-go/resilience/httpmw"
)

// certificateErrors are errors that a certificate causes each time.
var certificateErrors = map[string]error{
	"verification":       &tls.CertificateVerificationError{Err: errors.New("pinned")},
	"unknown authority":  x509.UnknownAuthorityError{},
	"host name":          x509.HostnameError{Certificate: &x509.Certificate{}, Host: "example.test"},
	"invalid":            x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired},
	"constraint":         x509.ConstraintViolationError{},
	"system roots":       x509.SystemRootsError{},
	"critical extension": x509.UnhandledCriticalExtension{},
	"algorithm":          x509.InsecureAlgorithmError(x509.SHA1WithRSA),
	"no TLS":             tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"},
}

// An error of a certificate is not retried, also if nothing was sent.
func TestDefaultRetryable_certificates(t *testing.T) {
	for name, err := range certificateErrors {
		for how, err := range map[string]error{
			"bare": err, "wrapped": fmt.Errorf("wrapped: %w", err), "of a client": &url.Error{Op: "Get", URL: "https://example.test", Err: err},
			"of a proxy": &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err}, "of a dialer": &net.OpError{Op: "dial", Net: "tcp", Err: err},
		} {
			for _, method := range []string{"GET", "POST"} {
				if httpmw.DefaultRetryable(&http.Request{Method: method}, nil, err) {
					t.Errorf("%s, %s: a %s is retried", name, how, method)
				}
			}
		}
	}
}

// An alert of the server about the client's certificate is not retried. Other alerts are
// (RFC 8446, section 6).
func TestDefaultRetryable_alerts(t *testing.T) {
	get := &http.Request{Method: "GET"}
	certificate := map[int]bool{42: true, 43: true, 44: true, 45: true, 46: true, 48: true, 116: true}
	for n := range 256 {
		err := &net.OpError{Op: "remote error", Err: tls.AlertError(n)}
		if got := httpmw.DefaultRetryable(get, nil, err); got == certificate[n] {
			t.Errorf("alert %d: retried %v", n, got)
		}
		err.Op = "local error" // ours about the server
		if !httpmw.DefaultRetryable(get, nil, err) {
			t.Errorf("our alert %d is not retried", n)
		}
	}
	if !httpmw.DefaultRetryable(get, nil, &net.OpError{Op: "remote error", Err: errors.New("no alert")}) {
		t.Error("an error that is no alert is not retried")
	}
}
