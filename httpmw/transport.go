package httpmw

import (
	"net/http"

	"github.com/resilience-go/resilience"
)

// Transport is an http.RoundTripper that guards the requests of a client with a
// Policy:
//
//	client := &http.Client{Transport: &httpmw.Transport{Policy: stack.Client("payments")}}
//
// The zero value sends requests with http.DefaultTransport and guards them with
// nothing. A Transport is safe for concurrent use; once it is in use it must not be
// copied, nor its fields be changed.
//
// What the caller gets is what Base answered to the last attempt. A response that
// counts as a failure is an error for the policies only: when they give up on it,
// the caller gets the response, its body unread. An error comes back if there is
// no response, or if a policy has something to say that the response does not: a
// rejection of the first attempt, a timeout, the end of the caller's context.
//
// The first attempt sends the request as it is and buffers nothing of its body.
// Those after it take a body from Request.GetBody, which http.NewRequest sets for
// the usual readers; a request whose body cannot be replayed is tried once.
//
// Policies that hold something until the operation is over, such as the slot of a
// bulkhead or the context of an attempt, hold it until the response body is at
// its end or closed. As always, close it.
type Transport struct {
	// Base sends each attempt. It must close the request body, as the contract
	// of http.RoundTripper demands. nil is http.DefaultTransport.
	Base http.RoundTripper

	// Policy guards each request. nil guards with nothing.
	Policy resilience.Policy

	// Key returns what a keyed.Group picks the policy of a request by. It must
	// not change the request. nil is HostKey: each host has a policy of its own.
	// WithKey says it for a single request.
	Key func(*http.Request) string

	// Classify says what a response tells about the health of the server. It must
	// leave the body alone. nil is StatusOutcome of the status code, but for a 503
	// with Retry-Attempt: 0, which is a Success: the server works, and refuses what
	// is more than it is capable of.
	Classify func(*http.Response) resilience.Outcome

	// Retryable says whether a request may be sent again, because of a response
	// (then the error is nil) or of an error of Base (then the response is nil).
	// It is asked for every attempt, must leave the body alone, and is not asked
	// about a request whose body cannot be replayed, or that is under WithoutRetry, or
	// whose response has Retry-Attempt: 0. These are not sent again whatever the
	// Policy wants.
	// nil is DefaultRetryable, which one's own function can fall back on.
	Retryable func(*http.Request, *http.Response, error) bool

	// Fallback answers in place of a request that failed or was refused: err is
	// what RoundTrip would return, and a *StatusError for a response that is a
	// Failure. It is not asked if the caller has canceled, if the context was done
	// before the call, or if err says that the server works. Nothing of the request
	// goes on any more: slots are free, and a response of up to 64 KiB has been
	// read. If Fallback returns nil, the caller gets that response, or the error, as
	// without Fallback. It may run for several requests at once. nil: none.
	Fallback func(req *http.Request, err error) *http.Response

	origins origins
}

// RoundTrip implements http.RoundTripper. A refusal of a policy matches
// resilience.ErrRejected, and the policy's own error such as breaker.ErrOpen,
// also through http.Client. Response.Request is req, which is never changed; its
// body is closed in all cases, by Base if it was called and else by RoundTrip.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c := &call{t: t, req: req, upload: req.Body}
	defer c.release()
	// Of a call that was over before it began nothing runs.
	answer := t.Fallback != nil && req.Context().Err() == nil
	err := resilience.RunOperation(req.Context(), t.Policy, c)
	if answer {
		return c.fallBack(err)
	}
	return c.result(err)
}

// CloseIdleConnections closes the idle connections of Base, if Base can do that.
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
