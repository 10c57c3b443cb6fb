package httpmw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
)

// call is one RoundTrip. It is the operation that the policies run. If a policy waits for
// the end of the response body, call is also the body that the caller reads. One type for
// both makes call the only allocation of a RoundTrip.
//
// Calls are not pooled: a policy that kept an operation for too long would then answer
// one request with the response to another.
type call struct {
	resilience.Tail
	t   *Transport
	req *http.Request // the caller's request, never changed

	// upload is a request body that call has to close, because Base was not called with it.
	upload io.Closer
	ran    bool
	final  bool            // the server wants no further attempt
	trail  *endpoint.Trail // nil unless Base is an *Endpoints

	// The fields below are about the last attempt.

	ctx     context.Context
	run     uint32         // the number of the attempt in the Tail, if held
	held    bool           // a policy waits for the end of body
	handed  bool           // resp belongs to the caller
	attempt *attempt       // nil if nothing needs to be recorded
	resp    *http.Response // nil without a response, and after the response became unusable
	body    io.ReadCloser  // the body of resp, nil without one and after it was drained
	err     error          // what Run returned, a *StatusError if resp is its reason
}

// Key is the optional method of an operation that keyed.Group calls.
func (c *call) Key() string {
	if s := settingsOf(c.req.Context()); s.keyed {
		return s.key
	}
	if c.t.Key != nil {
		return c.t.Key(c.req)
	}
	return c.t.origins.key(c.req)
}

// Run implements resilience.Operation: it makes one attempt.
func (c *call) Run(ctx context.Context) error {
	c.Discard()
	if c.ran {
		if why := c.unrepeatable(); why != "" {
			// The result stays the previous attempt's.
			return &replayError{why, c.err}
		}
	}
	c.ctx, c.resp, c.err, c.held = ctx, nil, nil, false
	req, err := c.attemptRequest(ctx)
	if err != nil {
		c.err = &ignoredError{failure{err: fmt.Errorf("httpmw: get the request body again: %w", err)}}
		return c.err
	}
	c.ran = true
	base := c.t.base()
	var resp *http.Response
	if e, ok := base.(*Endpoints); ok {
		resp, err = e.send(req, c.trail)
	} else {
		resp, err = base.RoundTrip(req)
	}
	// Base has closed the body, as http.RoundTripper demands. If Base panics, release
	// closes the body: closing it twice is better than not at all.
	c.upload = nil
	c.recordDial(ctx, err)
	if c.attempt != nil && err == nil {
		c.attempt.endTrace(&c.t.tracers)
	}
	switch {
	case err != nil:
		if resp != nil && resp.Body != nil {
			resp.Body.Close()
		}
		c.err = c.asFailure(ctx, err)
	case resp == nil:
		c.err = &failure{err: fmt.Errorf("httpmw: %T returned neither a response nor an error", base)}
	default:
		c.err = c.accept(resp)
	}
	return c.err
}

// asFailure returns the error for the policies of an attempt that has no response.
func (c *call) asFailure(ctx context.Context, err error) error {
	f := failure{err: asDeadlineCause(ctx, err)}
	what := "response"
	switch {
	case ctx.Err() == nil:
	case c.waitedForConn():
		what = "free connection"
	case c.attempt != nil && c.attempt.reading.Load():
		what = "request body"
	}
	inner, from := f.err, ""
	if e, ok := f.err.(*EndpointError); ok {
		inner, from = e.Err, " from "+e.Address
	}
	if expired(ctx) && errors.Is(context.Cause(ctx), inner) {
		f.late = "no " + what + from + " in time"
	}
	if what != "response" || c.caused(err) {
		return &ignoredError{f}
	}
	known := err
	if c.attempt != nil {
		known = c.attempt.withProof(err, c.t.netTransport() != nil)
	}
	f.unsent = unsent(known)
	f.retryable = c.unrepeatable() == "" && c.t.retryable(c.req, nil, known)
	if code := proxyStatus(c.req, err); invalid(err) || code != 0 && StatusOutcome(code) == resilience.Success {
		return &ignoredError{f}
	}
	return &f
}

// caused reports whether the caller is the reason for err, which ended the attempt or its
// response.
func (c *call) caused(err error) bool {
	return callerCanceled(c.req) || c.attempt != nil && c.attempt.bodyCaused(err) || fileCaused(c.req.Body, err)
}

// ending returns err, with which the response body ended, as an error for the policies.
func (c *call) ending(err error) error {
	if err != nil && (c.caused(err) || canceled(c.ctx)) {
		return &ignoredError{failure{err: err}}
	}
	return err
}

// Hold implements resilience.Lasting. The headers are there when Run returns, so only the
// end of a body can be waited for. The Tail begins with the first policy that waits.
func (c *call) Hold(at resilience.Moment, s resilience.Settler, token uint64) bool {
	if at == resilience.Answered || c.body == nil {
		return false
	}
	if !c.held {
		c.held = true
		c.run = c.Begin()
	}
	return c.Tail.Hold(at, s, token)
}

// end ends the attempt in the Tail if a policy waits for it.
func (c *call) end(err error) {
	if c.held {
		c.End(c.run, err)
	}
}

// Discard implements resilience.Lasting. It reads the rest of the response, within the
// bounds of drain, so that the connection can be used again. It keeps what it has read:
// the caller gets this response if there is no further attempt.
func (c *call) Discard() {
	if c.body == nil || c.handed {
		return
	}
	body, resp := c.body, c.resp
	c.body, c.resp = nil, nil
	err := resilience.ErrAborted // if body panics
	defer func() { c.end(err) }()
	length := resp.ContentLength
	if c.req.Method == http.MethodHead {
		length = 0 // the header's length describes a body that HEAD does not send
	}
	kept, err := drain(body, length, c.uploads())
	err = c.ending(err)
	if kept != nil {
		resp.Body = kept
		c.resp = resp
	}
}

// release closes what is still open, however RoundTrip ended.
func (c *call) release() {
	if c.upload != nil {
		c.upload.Close()
	}
	c.abandon(resilience.ErrAborted)
}

// abandon closes a response that the caller does not get.
func (c *call) abandon(err error) {
	if c.body == nil || c.handed {
		return
	}
	body := c.body
	c.body, c.resp = nil, nil
	defer c.end(err)
	shut(body, c.uploads())
}
