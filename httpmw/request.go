package httpmw

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/resilience-go/resilience"
)

const (
	// attemptHeader is the number of the attempt in a request, from the second one on. In a
	// response its only meaningful value is final.
	attemptHeader = "Retry-Attempt"
	// final is the value of attemptHeader in a response whose server wants no further
	// attempt. No attempt has this number.
	final = "0"
)

// isFinal reports whether the server wants no further attempt after resp.
func isFinal(resp *http.Response) bool {
	v := resp.Header[attemptHeader]
	return len(v) == 1 && v[0] == final
}

// uploads reports whether the request has a body. How much of it was sent is unknown.
func (c *call) uploads() bool { return c.req.Body != nil && c.req.Body != http.NoBody }

// unrepeatable returns why the request cannot be sent again, "" if it can.
func (c *call) unrepeatable() string {
	switch {
	case c.final:
		return "the server wants no further attempt"
	case callerCanceled(c.req):
		return "the caller closed Request.Cancel"
	case c.uploads() && c.req.GetBody == nil:
		return "the request body was sent already and Request.GetBody is nil"
	case settingsOf(c.req.Context()).once:
		return "the context of the request has WithoutRetry"
	default:
		return ""
	}
}

// callerCanceled reports whether the caller has canceled req with Request.Cancel. http.Client
// closes it too, at the deadline that it sets for http.Client.Timeout. That is a timeout
// and not a cancellation.
func callerCanceled(req *http.Request) bool {
	select {
	case <-req.Cancel: //lint:ignore SA1019 net/http obeys it
		deadline, ok := req.Context().Deadline()
		return !ok || time.Now().Before(deadline)
	default:
		return false
	}
}

// attemptRequest returns the request of an attempt under ctx: the caller's own if it needs
// no change, otherwise a copy.
func (c *call) attemptRequest(ctx context.Context) (*http.Request, error) {
	body := c.req.Body
	if c.ran {
		c.attempt = nil // the last one may still be in use
		if c.uploads() {
			var err error
			if body, err = c.req.GetBody(); err != nil {
				return nil, err
			}
			c.upload = body
		}
		if mayFail(body) || c.t.traces(c.req) {
			c.attempt = new(attempt)
		}
	}
	n := resilience.Attempt(ctx)
	if !c.ran && n < 2 && c.attempt == nil && sameContext(ctx, c.req.Context()) {
		return c.req, nil
	}
	var req *http.Request
	if c.attempt != nil {
		req = c.attempt.prepare(c, ctx, body)
	} else {
		req = c.req.WithContext(ctx)
		req.Body = body
	}
	if n >= 2 && req.Header != nil {
		req.Header = req.Header.Clone()
		req.Header.Set(attemptHeader, strconv.Itoa(n))
	}
	return req, nil
}
