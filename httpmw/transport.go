package httpmw

import (
	"net/http"
	"sync"

	"github.com/resilience-go/resilience"
)

// Transport is an http.RoundTripper that guards the requests of a client with a Policy:
//
//	client := &http.Client{Transport: &httpmw.Transport{Policy: stack.Client("payments")}}
//
// A Transport is safe for concurrent use. Once it is in use, do not copy it or change its
// fields.
//
// The caller gets the response of Base to the last attempt. A response that counts as a
// failure is an error for the policies only: when they give up, the caller gets that
// response with its body unread. RoundTrip returns an error if there is no response. It
// also returns one if a policy rejected the first attempt, or if a timeout or the caller's
// context ended the call.
//
// The first attempt sends the request as it is and buffers nothing of its body. Later
// attempts take the body from Request.GetBody, which http.NewRequest sets for the usual
// readers. A request whose body cannot be replayed is sent once.
//
// Some policies hold a resource until the operation ends, such as a bulkhead's slot or the
// context of an attempt. They hold it until the response body has been read to its end or
// is closed. As always with net/http, close the body.
type Transport struct {
	// Base sends each attempt. It must close the request body, as http.RoundTripper
	// demands. nil is http.DefaultTransport.
	//
	// If Base is an *Endpoints, a retry goes to another address.
	//
	// Base reads a body in memory (bytes.Reader, bytes.Buffer, strings.Reader) or of type
	// *os.File directly. It reads any other body through a wrapper, which records whether
	// the caller's reader failed.
	Base http.RoundTripper

	// Policy guards each request. It is required: with nil, RoundTrip returns an error.
	// resilience.Compose() sends requests unguarded.
	Policy resilience.Policy

	// Key returns the key by which a keyed.Group selects the policy of a request. It must
	// not change the request. nil is HostKey: each origin has a policy of its own. WithKey
	// sets the key of a single request.
	Key func(*http.Request) string

	// Classify returns the outcome of a response: whether the server works. It must not
	// touch the body. nil is StatusOutcome of the status code, except that a 503 with
	// Retry-Attempt: 0 is a Success: the server works and sheds load.
	Classify func(*http.Response) resilience.Outcome

	// Retryable reports whether a request is safe to retry after a response (err is nil)
	// or after an error of Base (resp is nil). It is called after each attempt and must
	// not touch the body. err may wrap the error of Base: use errors.Is and errors.As. nil
	// is DefaultRetryable, which a Retryable can also call.
	//
	// A request is not retried, and Retryable is not called, if its body cannot be
	// replayed, its context has WithoutRetry, or its response has Retry-Attempt: 0.
	Retryable func(req *http.Request, resp *http.Response, err error) bool

	// Fallback answers a request that failed or was rejected. err is the error that
	// RoundTrip would return, or a *StatusError for a response that is a Failure. If
	// Fallback returns nil, the caller gets that response or error. nil is no fallback.
	//
	// Fallback is not called if the caller canceled, if the context was done before the
	// call, or if the outcome of err is a success. Before Transport calls Fallback, it
	// reads a response of up to 64 KiB, and policies free their slots. Fallback must be
	// safe for concurrent use.
	Fallback func(req *http.Request, err error) *http.Response

	origins origins
	tracers sync.Pool // of *tracer
}

// configError is the error of a Transport that cannot work. It does not count against a
// server, and a retry does not help.
type configError string

func (e configError) Error() string             { return string(e) }
func (configError) Outcome() resilience.Outcome { return resilience.Ignored }
func (configError) Retryable() bool             { return false }

const errNoPolicy configError = `httpmw: Transport.Policy is nil: set it, for instance to stack.Client("payments"), ` +
	`or to resilience.Compose() to send requests unguarded`

// RoundTrip implements http.RoundTripper. A policy's rejection matches
// resilience.ErrRejected and the policy's own error, such as breaker.ErrOpen, also through
// http.Client. Response.Request is req, which RoundTrip never changes. The body of req is
// closed in all cases: by Base if it was called, otherwise by RoundTrip.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.Policy == nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, errNoPolicy
	}
	c := t.newCall(req)
	defer c.release()
	// If the context is done already, neither a policy nor Fallback runs.
	fallback := t.Fallback != nil && req.Context().Err() == nil
	err := resilience.RunOperation(req.Context(), t.Policy, c)
	if fallback {
		return c.fallBack(err)
	}
	return c.result(err)
}

// CloseIdleConnections closes the idle connections of Base if Base has such a method.
// http.Client.CloseIdleConnections calls it.
func (t *Transport) CloseIdleConnections() {
	if b, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		b.CloseIdleConnections()
	}
}

func (t *Transport) base() http.RoundTripper {
	if t.Base == nil {
		return http.DefaultTransport
	}
	return t.Base
}

// netTransport returns the transport of net/http that Base is, or that Base clones, or nil.
func (t *Transport) netTransport() *http.Transport {
	switch base := t.base().(type) {
	case *http.Transport:
		return base
	case *Endpoints:
		_ = base.setup() // after an error there is no transport
		return base.base
	default:
		return nil
	}
}

func (t *Transport) outcome(resp *http.Response) resilience.Outcome {
	switch {
	case t.Classify != nil:
		return t.Classify(resp)
	case resp.StatusCode == http.StatusServiceUnavailable && isFinal(resp):
		return resilience.Success
	default:
		return StatusOutcome(resp.StatusCode)
	}
}

func (t *Transport) retryable(req *http.Request, resp *http.Response, err error) bool {
	if t.Retryable == nil {
		return DefaultRetryable(req, resp, err)
	}
	return t.Retryable(req, resp, err)
}
