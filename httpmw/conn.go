package httpmw

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// The bits of attempt.conn show how far net/http has come with the connection for an
// attempt. It sets them through the hooks of package httptrace. A Base that does not use
// these hooks sets none of them.
const (
	connWanted   uint32 = 1 << iota // net/http looks for a connection
	connDialing                     // net/http makes a connection for this attempt
	connGot                         // net/http has had a connection
	connAnswered                    // a server has sent a byte
)

// tracer has the hooks of one attempt. Tracers are reused, because hooks are functions,
// and making them allocates.
//
// A Base that goes on with an attempt after it has returned may call a hook for the next
// attempt of the tracer. Such a call can undo a proof, but cannot make one: a Base that calls
// hooks also calls GetConn for the next attempt.
type tracer struct {
	hooks   httptrace.ClientTrace
	attempt atomic.Pointer[attempt]
}

func newTracer() *tracer {
	t := &tracer{}
	t.hooks = httptrace.ClientTrace{
		GetConn:              func(string) { t.change(connWanted, connDialing) },
		GotConn:              func(httptrace.GotConnInfo) { t.change(connGot, connWanted|connDialing) },
		GotFirstResponseByte: func() { t.change(connAnswered, 0) },
	}
	return t
}

func (t *tracer) change(set, clear uint32) {
	if a := t.attempt.Load(); a != nil {
		a.conn.Or(set)
		a.conn.And(^clear)
	}
}

// traces reports whether the connections of a call for req are traced. A request that is not
// idempotent is safe to retry only if it was not sent. If Base bounds its connections, a call
// that waits for one is no evidence about the server.
func (t *Transport) traces(req *http.Request) bool {
	repeatable := req.GetBody != nil || req.Body == nil || req.Body == http.NoBody
	return repeatable && !idempotent(req) || t.boundsConns()
}

// boundsConns reports whether a request may have to wait for a connection that another
// request uses.
func (t *Transport) boundsConns() bool {
	base := t.netTransport()
	return base != nil && base.MaxConnsPerHost > 0
}

// trace returns ctx with the hooks of a tracer.
func (a *attempt) trace(ctx context.Context, tracers *sync.Pool) context.Context {
	if httptrace.ContextClientTrace(ctx) != nil {
		// The caller has hooks too. WithClientTrace calls both, and changes the tracer for
		// that, so the tracer cannot be used again.
		t := newTracer()
		t.attempt.Store(a)
		a.hooks = &t.hooks
		a.ctx = httptrace.WithClientTrace(ctx, a.hooks)
		return (*tracedContext)(a)
	}
	t, ok := tracers.Get().(*tracer)
	if !ok {
		t = newTracer()
	}
	t.attempt.Store(a)
	a.ctx, a.hooks, a.tracer = ctx, &t.hooks, t
	return (*tracedContext)(a)
}

// endTrace ends the trace of an attempt that has a response. After an error, net/http may
// still be busy with the attempt, so its tracer is not used again.
func (a *attempt) endTrace(tracers *sync.Pool) {
	if a.tracer != nil {
		a.tracer.attempt.Store(nil)
		tracers.Put(a.tracer)
	}
}

// withProof returns err, which ended the attempt. If the hooks prove something, the result is
// a connError around err. direct is whether Base is net/http's own.
func (a *attempt) withProof(err error, direct bool) error {
	conn := a.conn.Load()
	switch {
	case conn&connAnswered != 0:
		return &connError{err, false}
	case conn&connWanted != 0 && (direct || conn&connGot == 0):
		return &connError{err, true}
	}
	return err
}

// recordDial records whether the host of the request can be reached, after an attempt under
// ctx that ended with err.
func (c *call) recordDial(ctx context.Context, err error) {
	if c.attempt == nil || c.req.URL == nil || !c.t.boundsConns() {
		return
	}
	conn, host := c.attempt.conn.Load(), c.t.origins.find(c.req.URL)
	switch {
	case conn&connGot != 0:
		if host.unreachable.Load() {
			host.unreachable.Store(false)
		}
	case conn&connDialing != 0 && err != nil && !canceled(ctx):
		host.unreachable.Store(true)
	}
}

// waitedForConn reports whether an attempt that ended with its context only waited for a
// connection that other requests use. If the host cannot be reached, the attempt waited for
// dials that hang, which is evidence.
func (c *call) waitedForConn() bool {
	if c.attempt == nil || c.req.URL == nil || !c.t.boundsConns() {
		return false
	}
	return c.attempt.conn.Load()&(connWanted|connDialing) == connWanted && !c.t.origins.find(c.req.URL).unreachable.Load()
}

// connError is an error of Base with a proof about the connection of the request.
type connError struct {
	error
	// unsent is whether there was no connection for the request. Otherwise a server has
	// answered it, and err is about another request, such as one that follows a redirect.
	unsent bool
}

func (e *connError) Unwrap() error { return e.error }

// tracedContext is the context of an attempt whose connection is traced. Unlike
// httptrace.WithClientTrace, it does not allocate.
type tracedContext attempt

// Deadline implements context.Context.
func (c *tracedContext) Deadline() (time.Time, bool) { return c.ctx.Deadline() }

// Done implements context.Context.
func (c *tracedContext) Done() <-chan struct{} { return c.ctx.Done() }

// Err implements context.Context.
func (c *tracedContext) Err() error { return c.ctx.Err() }

// Value implements context.Context. When net/http begins to make a connection for an
// attempt, it looks for the attempt's hooks again. No hook shows that moment: a dialer of the
// user does not call ConnectStart.
func (c *tracedContext) Value(key any) any {
	if key != traceKey {
		return c.ctx.Value(key)
	}
	if c.conn.Load()&connWanted != 0 {
		c.conn.Or(connDialing)
	}
	return c.hooks
}

// traceKey is the key under which package httptrace looks for the hooks. The package does
// not export it, but calls the Value of a context with it.
var traceKey = func() any {
	var c keyContext
	httptrace.ContextClientTrace(&c)
	return c.key
}()

// keyContext records the key with which its Value was called.
type keyContext struct {
	context.Context
	key any
}

func (c *keyContext) Value(key any) any {
	c.key = key
	return nil
}
