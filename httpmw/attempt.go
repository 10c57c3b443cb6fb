package httpmw

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	"github.com/resilience-go/resilience/endpoint"
)

// attempt records what the error of net/http does not show about one attempt: whether the
// caller's body failed, and whether there was a connection for the request.
type attempt struct {
	req http.Request // a copy of the caller's request, with body and this context

	// The fields below are about the request body, if it may fail.

	body     upload
	getBody  func() (io.ReadCloser, error) // the caller's
	failed   atomic.Bool                   // the caller's reader or getBody returned an error
	reading  atomic.Bool                   // the caller's reader is running, or was when the context ended
	closeErr atomic.Pointer[error]         // what the reader's Close returned

	// The fields below are about the connection, if it is traced.

	ctx    context.Context        // tracedContext adds hooks to it
	hooks  *httptrace.ClientTrace // of a tracer, and of the caller if it has any
	tracer *tracer                // nil if it cannot be used again
	conn   atomic.Uint32          // the bits connWanted to connAnswered
}

// watched is a call whose first attempt is watched. One type for both makes them one
// allocation.
type watched struct {
	call
	first attempt
}

// trailed is a call whose attempts go to different endpoints. One type for both makes them
// one allocation.
type trailed struct {
	call
	used endpoint.Trail
}

// newCall returns the call of t for req.
func (t *Transport) newCall(req *http.Request) *call {
	_, trails := t.Base.(*Endpoints)
	watches := mayFail(req.Body) || t.traces(req)
	if !trails && !watches {
		return &call{t: t, req: req, upload: req.Body}
	}
	var trail *endpoint.Trail
	if trails {
		trail = endpoint.TrailOf(req.Context())
	}
	if !watches {
		c := &trailed{call: call{t: t, req: req, upload: req.Body, trail: trail}}
		if trail == nil {
			c.trail = &c.used
		}
		return &c.call
	}
	w := &watched{call: call{t: t, req: req, upload: req.Body, trail: trail}}
	w.attempt = &w.first
	if trails && trail == nil {
		w.trail = new(endpoint.Trail)
	}
	return &w.call
}

// prepare returns the request of the attempt: the request of c with body, under ctx.
func (a *attempt) prepare(c *call, ctx context.Context, body io.ReadCloser) *http.Request {
	if c.t.traces(c.req) {
		ctx = a.trace(ctx, &c.t.tracers)
	}
	a.req = *c.req.WithContext(ctx) // does not allocate: WithContext is inlined
	a.req.Body = body
	if mayFail(body) {
		a.watchBody()
	}
	return &a.req
}

// watchBody makes Base read the body through a.body.
func (a *attempt) watchBody() {
	a.body = upload{ReadCloser: a.req.Body, attempt: a}
	a.req.Body = &a.body
	if a.req.GetBody != nil { // net/http calls it if it replays the request
		a.getBody = a.req.GetBody
		a.req.GetBody = a.bodyAgain
	}
}

// bodyAgain is the GetBody of a request whose body is watched.
func (a *attempt) bodyAgain() (io.ReadCloser, error) {
	body, err := a.getBody()
	if err != nil {
		a.failed.Store(true)
		return nil, err
	}
	return &upload{ReadCloser: body, attempt: a}, nil
}

// bodyCaused reports whether the caller's body is the reason for err, which ended the
// attempt. An error of the body's Close is the reason if net/http returns that error, or
// reports only that it has closed the connection.
func (a *attempt) bodyCaused(err error) bool {
	if a.failed.Load() {
		return true
	}
	closeErr := a.closeErr.Load()
	return closeErr != nil && (errors.Is(err, *closeErr) || errors.Is(err, net.ErrClosed))
}
