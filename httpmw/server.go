package httpmw

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/marker"
)

// Server guards the handlers of a server with a Policy:
//
//	mux.Handle("/orders", httpmw.Server{Policy: stack.Server("orders")}.Wrap(orders))
//
// The zero value guards with nothing. Handlers that are wrapped by one Server
// share its Policy. They are safe for concurrent use if its functions are.
//
// A handler that panics is a failure, and the panic goes on to net/http as it
// would without Server. http.ErrAbortHandler goes on too and counts as nothing,
// and so does a request whose client has left before the handler returned. One
// whose client has left already when it comes is handled all the same, as it is
// without Server: net/http cannot tell that from a client that has closed only its
// side of the connection and waits for the answer.
//
// Policies that limit the time of a handler do so through the context of the
// request: a handler is not abandoned. If it has written nothing when it returns,
// ErrorHandler answers; a response that it has begun is left alone.
//
// A policy that waits for the answer, as a limit does, hears of it when the handler
// returns. Of a stream or an upgrade it hears when that begins: at the first flush,
// when the connection is taken over, at the status 101. From then on the handler
// goes on for as long as its client likes, which is no work that a limit can pace. A
// body that is written without a flush is work to its end. Policies that hold
// something to the end of an operation hold it until the handler returns in any case.
//
// A handler runs once, whatever the Policy wants: a retry belongs to the client.
// The number in the header that Transport sends with a retry is put into the
// context of the request, where resilience.Attempt finds it, so that calls which
// the handler makes are not multiplied.
type Server struct {
	// Policy guards each request. nil guards with nothing.
	Policy resilience.Policy

	// Key returns what a keyed.Group picks the policy of a request by. nil is the
	// Pattern of the request, which is set inside of an http.ServeMux.
	Key func(*http.Request) string

	// Classify says what the status code of a response tells about the health of
	// the handler. nil is StatusOutcome of the code.
	Classify func(r *http.Request, code int) resilience.Outcome

	// Exempt chooses the requests that are not guarded, such as health checks.
	// nil guards all.
	Exempt func(*http.Request) bool

	// ErrorHandler answers requests that the handler did not: err is that of the
	// Policy. If it is a refusal, it matches resilience.ErrRejected, and nothing of
	// the request body has been read. nil is Unavailable.
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error)
}

// Wrap returns next guarded by s. It has the form of a middleware.
//
// The http.ResponseWriter that next gets is an http.Flusher, http.Hijacker,
// io.ReaderFrom, http.Pusher or http.CloseNotifier if the one of the server is,
// and works with http.ResponseController. One thing no other writer can do: over
// HTTP/1, http.MaxBytesReader closes the connection of a body that is too large
// only if it gets the writer of the server itself, as http.MaxBytesHandler does
// around the handler that Wrap returns.
//
// Wrap panics if next or s.Policy is nil, as http.Handle does for a nil handler.
func (s Server) Wrap(next http.Handler) http.Handler {
	if next == nil {
		panic("httpmw: Server.Wrap: the handler is nil")
	}
	if s.Policy == nil {
		panic(`httpmw: Server.Policy is nil: set it, for instance to stack.Server("orders"), ` +
			`or to resilience.Compose() to handle requests unguarded`)
	}
	return &handler{s, next}
}

// Unavailable answers with 503 Service Unavailable. If err is the rejection of a
// policy it says in Retry-After when to come back: in whole seconds, rounded up,
// at least 1. If the reason is resilience.Limited, as that of a limit in front of a
// handler which has all the requests that it is capable of, it also says in
// Retry-Attempt that no further attempt is wanted, see Several hops in the
// documentation of the package.
func Unavailable(w http.ResponseWriter, _ *http.Request, err error) {
	if errors.Is(err, resilience.ErrRejected) {
		seconds := int64(1)
		if r, ok := errors.AsType[*resilience.Rejection](err); ok {
			if r.Reason == resilience.Limited {
				w.Header().Set(attemptHeader, final)
			}
			wait := time.Until(r.RetryAt)
			seconds = int64(wait / time.Second)
			if wait%time.Second > 0 {
				seconds++
			}
			seconds = max(1, seconds)
		}
		w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
}

type handler struct {
	Server
	next http.Handler
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	n := marker.Parse(r.Header[attemptHeader])
	if n >= 2 {
		ctx = resilience.WithAttempt(ctx, n)
	}
	if h.Exempt != nil && h.Exempt(r) {
		if n >= 2 {
			r = r.WithContext(ctx)
		}
		h.next.ServeHTTP(w, r)
		return
	}
	e := &exchange{recorder: recorder{inner: w, r: r}, h: h, err: errNotRun}
	if canceled(ctx) {
		e.left = true
		ctx = context.WithoutCancel(ctx)
	}
	err := e.guarded(ctx)
	if e.aborted {
		panic(http.ErrAbortHandler)
	}
	if err == nil || e.begun() {
		return
	}
	if h.ErrorHandler != nil {
		h.ErrorHandler(w, r, err)
		return
	}
	Unavailable(w, r, err)
}

// exchange is one request: the operation that the policies run, and the
// http.ResponseWriter of the handler. That makes it the only allocation.
type exchange struct {
	recorder
	h   *handler
	err error // what Run returned, errNotRun before
}

// guarded runs the handler under the policies and returns the error to answer with
// if the handler has not answered.
func (e *exchange) guarded(ctx context.Context) (err error) {
	err = resilience.ErrAborted
	defer func() { e.early.Answer(err) }() // of a handler that has run, Run has told already
	err = resilience.RunOperation(ctx, e.h.Policy, e)
	if err == nil {
		err = e.err // a policy may drop an error, but somebody has to answer
	}
	return err
}

// Await is called by resilience.Next.Await. A handler answers while it runs if its
// response is a stream, which begins with a flush, or an upgrade.
func (e *exchange) Await(s resilience.Settler, token uint64) bool { return e.early.Await(s, token) }

var (
	errAgain   = &handlerError{"httpmw: a policy ran a handler twice: a retry belongs to the client"}
	errAborted = &handlerError{"httpmw: the handler aborted the response"}
	errNoTime  = &handlerError{"httpmw: the handler ran out of the time that a policy gave it"}
	errNotRun  = &handlerError{"httpmw: the policy neither ran the handler nor returned an error"}
)

// handlerError is an error that says nothing about the health of a handler.
type handlerError struct{ text string }

func (e *handlerError) Error() string             { return e.text }
func (*handlerError) Outcome() resilience.Outcome { return resilience.Ignored }
func (*handlerError) Retryable() bool             { return false }

// goneError is the error of a request whose client left.
type goneError struct{ cause error }

func (e *goneError) Error() string             { return "httpmw: the client left: " + e.cause.Error() }
func (e *goneError) Unwrap() error             { return e.cause }
func (*goneError) Outcome() resilience.Outcome { return resilience.Ignored }
func (*goneError) Retryable() bool             { return false }

// Key implements resilience.Keyer.
func (e *exchange) Key() string {
	if e.h.Key != nil {
		return e.h.Key(e.r)
	}
	return e.r.Pattern
}

// Run implements resilience.Operation.
func (e *exchange) Run(ctx context.Context) error {
	if e.ran {
		return errAgain
	}
	e.ran, e.err = true, nil
	told := resilience.ErrAborted
	defer func() { e.early.Answer(told) }()
	r := e.r
	if e.left {
		left, cancel := context.WithCancelCause(ctx)
		cancel(context.Cause(r.Context()))
		ctx = left
	}
	if !sameContext(ctx, r.Context()) {
		r = r.WithContext(ctx)
	}
	switch {
	case e.serve(r):
		e.err = e.verdict(ctx)
		told = e.told()
		return e.err
	case e.aborted:
		if told = e.gone(); told == nil {
			told = errAborted
		}
		return told
	default:
		panic(nil) // as the handler did, with GODEBUG=panicnil=1
	}
}

// serve runs the handler and reports whether it returned. Else it panicked, either
// with http.ErrAbortHandler or with nil; other panics and runtime.Goexit go on.
func (e *exchange) serve(r *http.Request) (returned bool) {
	defer func() {
		e.keep(r)
		if returned {
			return
		}
		// To look at a panic is to recover it. Panicking again from here leaves the
		// frames that it came from on the stack, for net/http to log.
		switch p := recover(); p {
		case nil: // runtime.Goexit or panic(nil); only after the latter serve returns
		case http.ErrAbortHandler:
			e.aborted = true
		default:
			panic(p)
		}
	}()
	e.h.next.ServeHTTP(e.writer(), r)
	return true
}

// keep brings back what a handler sets on its request for those outside: its
// pattern, and the form whose files net/http removes in the end.
func (e *exchange) keep(r *http.Request) {
	if r != e.r {
		e.r.Pattern = r.Pattern
		e.r.Form, e.r.PostForm, e.r.MultipartForm = r.Form, r.PostForm, r.MultipartForm
	}
}

// verdict returns the error that a handler which has returned is for the
// policies.
func (e *exchange) verdict(ctx context.Context) error {
	if e.hijacked {
		return nil
	}
	if err := e.gone(); err != nil {
		return err
	}
	code := int(e.status)
	if code == 0 {
		switch {
		case expired(ctx):
			return asDeadlineCause(ctx, resilience.ContextError(ctx))
		case ctx.Err() != nil:
			return resilience.ContextError(ctx)
		}
		code = http.StatusOK
	}
	outcome := StatusOutcome(code)
	if e.h.Classify != nil {
		outcome = e.h.Classify(e.r, code)
	}
	if outcome == resilience.Success {
		return nil
	}
	return newStatusError(code, e.inner.Header(), outcome, false)
}

// canceled reports whether ctx is over, but not because of a deadline.
func canceled(ctx context.Context) bool { return ctx.Err() != nil && !expired(ctx) }

// told returns what those hear who wait for the answer: of the end of a context only if
// it is that of the client, and not if it is the time that a policy gives the handler.
func (e *exchange) told() error {
	if e.r.Context().Err() == nil && (errors.Is(e.err, context.DeadlineExceeded) || errors.Is(e.err, context.Canceled)) {
		return errNoTime
	}
	return e.err
}

// expired reports whether a deadline ended ctx, be it one that is a cause only.
func expired(ctx context.Context) bool {
	return errors.Is(ctx.Err(), context.DeadlineExceeded) ||
		ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded)
}
