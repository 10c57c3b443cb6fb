package httpmw

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/resilience-go/resilience"
)

// attemptHeader carries the number of an attempt, from the second one on. In a
// response it carries final, or nothing that is for us.
const (
	attemptHeader = "Retry-Attempt"
	final         = "0" // no further attempt is wanted
)

// isFinal reports whether the server wants no further attempt after resp. It says so
// in one form only.
func isFinal(resp *http.Response) bool {
	v := resp.Header[attemptHeader]
	return len(v) == 1 && v[0] == final
}

// call is one RoundTrip: the operation that the policies run and, when somebody
// waits for its end, also the body that the caller reads. That makes it the only
// allocation of a call. It is not pooled: a policy that kept it too long would
// then answer one request with the response of another.
type call struct {
	resilience.Tail
	t   *Transport
	req *http.Request // the caller's, never changed

	// upload is a request body that nobody else has promised to close.
	upload io.Closer
	ran    bool
	final  bool // the server wants no further attempt

	// Of the last attempt:
	ctx    context.Context
	run    uint32         // its number in the Tail, if held
	held   bool           // somebody waits for the end of body
	resp   *http.Response // nil if there was none or it cannot be handed over any more
	body   io.ReadCloser  // of resp, nil if there is none or it was drained
	err    error          // what Run returned
	status *StatusError   // err, if resp is the reason for it
	handed bool           // resp belongs to the caller
}

// Key implements resilience.Keyer.
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
			// The result of the attempt before this one stays what it was.
			return &replayError{why, c.err}
		}
	}
	c.ctx, c.resp, c.err, c.status, c.held = ctx, nil, nil, nil, false
	req, err := c.request(ctx)
	if err != nil {
		c.err = &requestError{failure{err: fmt.Errorf("httpmw: get the request body again: %w", err)}}
		return c.err
	}
	c.ran = true
	base := c.t.base()
	resp, err := base.RoundTrip(req)
	// Base has closed the body, as http.RoundTripper demands. Had it panicked,
	// release would close it: better twice than not at all.
	c.upload = nil
	switch {
	case err != nil:
		if resp != nil && resp.Body != nil {
			resp.Body.Close()
		}
		c.err = c.failed(ctx, err)
	case resp == nil:
		c.err = &failure{err: fmt.Errorf("httpmw: %T returned neither a response nor an error", base)}
	default:
		c.err = c.answered(resp)
	}
	return c.err
}

// unrepeatable says why the request cannot be sent once more, "" if it can.
func (c *call) unrepeatable() string {
	switch {
	case c.final:
		return "the server wants no further attempt"
	case c.uploads() && c.req.GetBody == nil:
		return "the request body was sent already and Request.GetBody is nil"
	case settingsOf(c.req.Context()).once:
		return "the context of the request has WithoutRetry"
	default:
		return ""
	}
}

// request returns the request of an attempt under ctx: the caller's own if that
// will do, else a copy.
func (c *call) request(ctx context.Context) (*http.Request, error) {
	n := resilience.Attempt(ctx)
	if !c.ran && n < 2 && same(ctx, c.req.Context()) {
		return c.req, nil
	}
	req := c.req.WithContext(ctx)
	if n >= 2 && req.Header != nil {
		req.Header = req.Header.Clone()
		req.Header.Set(attemptHeader, strconv.Itoa(n))
	}
	if c.ran && c.uploads() {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		req.Body, c.upload = body, body
	}
	return req, nil
}

// failed makes the error of an attempt that had no response but err.
func (c *call) failed(ctx context.Context, err error) error {
	f := failure{
		err:       deadline(ctx, err),
		retryable: c.unrepeatable() == "" && c.t.retryable(c.req, nil, err),
	}
	f.late = errors.Is(f.err, context.DeadlineExceeded) && errors.Is(context.Cause(ctx), f.err)
	if invalid(err) {
		return &requestError{f}
	}
	return &f
}

// answered takes resp over and returns the error that it is for the policies.
func (c *call) answered(resp *http.Response) error {
	c.resp = resp
	if resp.Body != nil && resp.Body != http.NoBody {
		c.body = resp.Body
	}
	if resp.StatusCode < 400 && c.t.Classify == nil && c.t.Retryable == nil {
		return nil // as the rest would find
	}
	c.final = isFinal(resp)
	outcome := c.t.outcome(resp)
	retryable := c.unrepeatable() == "" && c.t.retryable(c.req, resp, nil)
	if outcome == resilience.Success && !retryable && !retriedStatus(resp.StatusCode) {
		return nil
	}
	c.status = newStatusError(resp.StatusCode, resp.Header, outcome, retryable)
	return c.status
}

// Hold implements resilience.Lasting. The headers are there when Run returns, so
// only the end of a body is yet to come. The Tail does not begin before somebody
// waits for it.
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

// end ends the run that somebody may wait for.
func (c *call) end(err error) {
	if c.held {
		c.End(c.run, err)
	}
}

// Discard implements resilience.Lasting. It reads what is left of the response,
// within bounds, so that the connection can be used again, and keeps it, so that
// the caller can still have the response if there is no further attempt.
func (c *call) Discard() {
	if c.body == nil || c.handed {
		return
	}
	body, resp := c.body, c.resp
	c.body, c.resp = nil, nil
	err := resilience.ErrAborted // of a body that panics
	defer func() { c.end(err) }()
	length := resp.ContentLength
	if c.req.Method == http.MethodHead {
		length = 0 // it is that of a body which does not come
	}
	kept, err := drain(body, length, c.uploads())
	if kept != nil {
		resp.Body = kept
		c.resp = resp
	}
}

// result decides what the caller gets when the policies returned err.
func (c *call) result(err error) (*http.Response, error) {
	if c.resp != nil && (err == nil || c.status != nil && says(err, c.status)) {
		return c.handOver(), nil
	}
	c.abandon(nil)
	if err == nil {
		err = c.err // a policy dropped the error, but there is nothing else to return
	}
	if err == nil {
		err = errors.New("httpmw: the policy returned neither an error nor a response")
	}
	return nil, public(err)
}

// fallBack answers in place of a request for which the policies returned err, if
// that is one to answer for.
func (c *call) fallBack(err error) (*http.Response, error) {
	ctx := c.req.Context()
	refused := ctx.Err() == nil && errors.Is(err, resilience.ErrRejected)
	if !refused && resilience.OutcomeOf(ctx, err, nil) != resilience.Failure {
		return c.result(err)
	}
	c.Discard()
	resp := c.t.Fallback(c.req, public(err))
	if resp == nil {
		return c.result(err)
	}
	resp.Request = c.req
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	return resp, nil
}

// says reports whether err says nothing but that the status of the response was
// s. The end of a context says more, and so does what has another error beside s.
func says(err error, s *StatusError) bool {
	return leads(err, s) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

func leads(err error, s *StatusError) bool {
	for err != nil && err != error(s) {
		switch e := err.(type) { // this walks the tree itself
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			all := e.Unwrap()
			for _, branch := range all {
				if !leads(branch, s) {
					return false
				}
			}
			return len(all) > 0
		default:
			return false
		}
	}
	return err != nil
}

// handOver gives the response to the caller, untouched unless somebody waits for
// its end.
func (c *call) handOver() *http.Response {
	c.handed = true
	c.resp.Request = c.req
	if c.held && c.body != nil {
		c.resp.Body = c
		if c.resp.StatusCode == http.StatusSwitchingProtocols {
			if w, ok := c.body.(io.Writer); ok {
				c.resp.Body = &duplex{c, w}
			}
		}
	}
	return c.resp
}

// release closes what is left open, however RoundTrip came to its end.
func (c *call) release() {
	if c.upload != nil {
		c.upload.Close()
	}
	c.abandon(resilience.ErrAborted)
}

// abandon closes a response that the caller will not get.
func (c *call) abandon(err error) {
	if c.body == nil || c.handed {
		return
	}
	body := c.body
	c.body, c.resp = nil, nil
	defer c.end(err)
	shut(body, c.uploads())
}

// uploads reports whether the request has a body, of which nobody knows whether it
// has been sent.
func (c *call) uploads() bool { return c.req.Body != nil && c.req.Body != http.NoBody }

// Read reads the response body. Its end is the end of the operation.
func (c *call) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	switch err {
	case nil:
	case io.EOF:
		c.End(c.run, nil)
	default:
		err = deadline(c.ctx, err)
		c.End(c.run, err)
	}
	return n, err
}

// Close closes the response body, which ends the operation.
func (c *call) Close() error {
	defer c.End(c.run, nil)
	return c.body.Close()
}

// duplex is the body of a response that switched protocols.
type duplex struct {
	*call
	io.Writer
}

// CloseWrite does what the body of net/http does.
func (d *duplex) CloseWrite() error {
	if w, ok := d.Writer.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return fmt.Errorf("CloseWrite: %w", http.ErrNotSupported)
}

// Bounds of what is read of a response that nobody will see: enough for an error
// page, and less than what another connection costs.
const (
	drainBytes = 64 << 10
	drainTime  = 50 * time.Millisecond
)

// drain reads body to its end, if that is near, and closes it. It returns a body
// to read again, nil if the end was not reached, and the error of a body that
// broke. length is the length of the body, -1 if that is not known; uploads is
// whether the request has a body.
func drain(body io.ReadCloser, length int64, uploads bool) (io.ReadCloser, error) {
	if length > drainBytes {
		shut(body, uploads)
		return nil, nil
	}
	// A Read can block for as long as the server likes. Closing the body from
	// beside it is the one way to end it that asks nothing of the context.
	late := make(chan struct{})
	timer := time.AfterFunc(drainTime, func() {
		defer close(late)
		defer func() { _ = recover() }() // on this goroutine nobody else could
		body.Close()
	})
	var timedOut bool
	b, err := func() ([]byte, error) {
		defer func() {
			if timer.Stop() {
				shut(body, uploads)
				return
			}
			await(late, uploads)
			timedOut = true
		}()
		return io.ReadAll(io.LimitReader(body, drainBytes+1))
	}()
	switch {
	case err == nil && len(b) <= drainBytes:
		return io.NopCloser(bytes.NewReader(b)), nil
	case timedOut:
		return nil, nil // the error is ours, not the server's
	default:
		return nil, err
	}
}

// shut closes a response body that the caller will not get.
func shut(body io.Closer, uploads bool) {
	if !uploads {
		body.Close()
		return
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		defer func() { _ = recover() }() // on this goroutine nobody else could
		body.Close()
	}()
	await(closed, uploads)
}

// await waits until a response body is closed. Over HTTP/2 its Close waits for the
// goroutine that sends the request, and that for the caller's body, whose Read may
// block for as long as it likes: that is not waited for any longer than a server.
func await(closed <-chan struct{}, uploads bool) {
	if !uploads {
		<-closed
		return
	}
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
}

// same reports whether a and b are one context. A context may be of any type, and
// to compare two of a type that cannot be compared panics; so only pointers are,
// and types without a size, such as that of context.Background, of which there is
// only one value.
func same(a, b context.Context) bool {
	t := reflect.TypeOf(a)
	if t.Kind() == reflect.Pointer {
		return a == b
	}
	return t.Size() == 0 && t == reflect.TypeOf(b)
}
