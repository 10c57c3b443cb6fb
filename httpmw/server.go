package httpmw

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/adapter"
)

// Server guards the handlers of a server with a Policy:
//
//	mux.Handle("/orders", httpmw.Server{Policy: stack.Server("orders")}.Wrap(orders))
//
// All handlers that one Server wraps share its Policy. They are safe for concurrent use if
// the functions of the Server are.
//
// A handler runs once, whatever Policy decides: a retry belongs to the client. A request's
// header Retry-Attempt sets the number that resilience.Attempt returns in the handler, so
// that the handler's own calls do not multiply the client's attempts.
//
// A timeout in Policy ends the context of the request, but waits until the handler returns.
// If the handler then returns without a response, ErrorHandler answers. A response that has
// begun stays as it is. In all other cases a handler that returns has answered: net/http
// sends 200 for a handler that wrote nothing.
//
// A request whose context is canceled before its status is sent is Ignored, whatever the
// status: its client may have left. The request is still handled and answered like any other,
// because net/http also cancels the context after a read deadline, or if the client closes
// only its sending side. If a deadline of middleware outside passes, the status counts, and a
// handler that wrote nothing is a failure.
//
// A handler that panics is a failure. The panic continues to net/http, as it does without a
// Server. http.ErrAbortHandler continues too, and is Ignored.
//
// A limit releases its slot when the request is answered, which is when the handler
// returns. A stream or an upgrade is answered when it begins: at the first flush, at a
// hijack, at status 101. From then on, the client decides how long the handler runs, which
// a limit cannot pace. A body that is written without a flush is work to its end. If the
// context of the request is canceled by then, a limit counts the request as abandoned.
// Policies that hold a slot to the end of an operation hold it until the handler returns.
type Server struct {
	// Policy guards each request. It is required: with nil, Wrap panics.
	// resilience.Compose() handles requests unguarded.
	Policy resilience.Policy

	// Key returns the key by which a keyed.Group selects the policy of a request. nil is
	// the request's Pattern, which is set inside an http.ServeMux.
	Key func(*http.Request) string

	// Classify returns the outcome of a response's status code: whether the handler works.
	// nil is StatusOutcome of the code.
	Classify func(r *http.Request, code int) resilience.Outcome

	// Exempt reports whether a request skips the policy, such as a health check. nil
	// exempts no request.
	Exempt func(*http.Request) bool

	// Priority returns how much a request matters in an overload. nil makes all requests
	// Normal. Take it from what the server knows, such as the route or the tenant's contract.
	// A header is a claim of the client: believe it only if the client is authenticated and
	// may make the claim.
	Priority func(*http.Request) resilience.Priority

	// Caller returns the name of the tenant, account or API key that a request belongs to.
	// In an overload, each caller gets a fair share of the capacity for its priority. nil
	// tells no callers apart, and all requests with "" belong to one caller. The name must be
	// authenticated, because a client that makes up names gets a share for each. An address
	// is no name: behind a proxy or a NAT, many clients share one.
	//
	// Priority and Caller are called only when a policy has to choose between requests, which
	// a limit does when it has no free slot: at most once for a request, before the handler
	// runs, and with no lock held. A panic continues as a panic of the handler does.
	Caller func(*http.Request) string

	// ErrorHandler answers requests that the handler did not answer. err is the Policy's
	// error. If it is a rejection, it matches resilience.ErrRejected, and the request body
	// is unread. The header has none of the handler's values, only those of middleware
	// outside. nil is Unavailable.
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error)
}

// Wrap returns next guarded by s. Routers that take a middleware accept Wrap as one.
//
// The http.ResponseWriter for next implements http.Flusher, http.Hijacker, io.ReaderFrom,
// http.Pusher and http.CloseNotifier exactly if the server's writer does, and works with
// http.ResponseController. There is one difference over HTTP/1: http.MaxBytesReader closes
// the connection of a body that is too large only if it gets the server's own writer. Use
// http.MaxBytesHandler around the handler that Wrap returns.
//
// Wrap panics if next or s.Policy is nil, as http.Handle does for a nil handler.
func (s Server) Wrap(next http.Handler) http.Handler {
	if next == nil {
		panic("httpmw: Server.Wrap: the handler is nil: give it the handler to guard, such as an http.ServeMux")
	}
	if s.Policy == nil {
		panic(`httpmw: Server.Policy is nil: set it, for instance to stack.Server("orders"), ` +
			`or to resilience.Compose() to handle requests unguarded`)
	}
	return &handler{s, next}
}

// Unavailable answers with 503 Service Unavailable. If err is a policy's rejection, the
// header Retry-After has the time until a retry makes sense: in whole seconds, rounded up,
// at least 1. If the reason is resilience.Limited, the response also has the header
// Retry-Attempt: 0, with which clients do not retry; see "Several hops" in the
// documentation of the package.
func Unavailable(w http.ResponseWriter, _ *http.Request, err error) {
	if resilience.Rejected(err) {
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
	n := adapter.ParseAttempt(r.Header[attemptHeader])
	if n >= 2 {
		ctx = resilience.WithAttempt(ctx, n)
	}
	if h.Exempt != nil && h.Exempt(r) {
		own := withContext(ctx, r)
		defer copyBack(r, own)
		h.next.ServeHTTP(w, own)
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
	// If the handler was silent and its verdict is nil, err is the error of a policy.
	if answered := err == nil || e.begun() || e.silent && e.err != nil; !answered {
		e.restoreHeader()
		answer := h.ErrorHandler
		if answer == nil {
			answer = Unavailable
		}
		answer(w, r, err)
	}
	e.freeHeaders()
}

// exchange is one request. It is the operation that the policies run, and the
// http.ResponseWriter of the handler. One type for both makes it the only allocation.
type exchange struct {
	recorder
	h   *handler
	err error // what Run returned, errNotRun before Run

	hasPriority, hasCaller bool // Priority and Caller of the Server have been called
	priority               resilience.Priority
	caller                 string
}

// guarded runs the handler under the policies. It returns the error for ErrorHandler, which
// is called if the handler has not answered.
func (e *exchange) guarded(ctx context.Context) (err error) {
	err = resilience.ErrAborted
	defer func() { e.early.Answer(err) }() // no effect if Run has called Answer
	err = resilience.RunOperation(ctx, e.h.Policy, e)
	if err == nil {
		err = e.err // a policy dropped the error, but ErrorHandler has to answer
	}
	return err
}

// Await is the optional method that resilience.Next.Await calls. A handler answers while it
// runs if its response is a stream, which begins with a flush, or an upgrade.
func (e *exchange) Await(s resilience.Settler, token uint64) bool { return e.early.Await(s, token) }

var (
	errAgain   = &handlerError{"httpmw: a policy ran a handler twice: a retry belongs to the client", nil}
	errAborted = &handlerError{"httpmw: the handler aborted the response", nil}
	errEnded   = &handlerError{"httpmw: the handler's context ended before its answer", nil}
	errNotRun  = &handlerError{"httpmw: the policy neither ran the handler nor returned an error", nil}
)

// handlerError is an error that is no evidence about the health of a handler.
type handlerError struct {
	text  string
	cause error // may be nil
}

func (e *handlerError) Error() string {
	if e.cause == nil {
		return e.text
	}
	return e.text + ": " + e.cause.Error()
}

func (e *handlerError) Unwrap() error             { return e.cause }
func (*handlerError) Outcome() resilience.Outcome { return resilience.Ignored }
func (*handlerError) Retryable() bool             { return false }

// Key is the optional method of an operation that keyed.Group calls.
func (e *exchange) Key() string {
	if e.h.Key != nil {
		return e.h.Key(e.r)
	}
	return e.r.Pattern
}

// Priority is an optional method of an operation, see resilience.Next.Rank. A request has one
// priority, however many policies call Priority.
func (e *exchange) Priority() resilience.Priority {
	if e.h.Priority != nil && !e.hasPriority {
		e.hasPriority = true
		e.priority = e.h.Priority(e.r)
	}
	return e.priority
}

// Caller is an optional method of an operation, see resilience.Next.Rank.
func (e *exchange) Caller() string {
	if e.h.Caller != nil && !e.hasCaller {
		e.hasCaller = true
		e.caller = e.h.Caller(e.r)
	}
	return e.caller
}

// Run implements resilience.Operation.
func (e *exchange) Run(ctx context.Context) error {
	if e.ran {
		return errAgain
	}
	e.ran, e.err = true, nil
	answer := resilience.ErrAborted
	defer func() { e.early.Answer(answer) }()
	own := ctx // the handler's
	if e.left {
		left, cancel := context.WithCancelCause(ctx)
		cancel(context.Cause(e.r.Context()))
		own = left
	}
	switch {
	case e.serve(withContext(own, e.r)):
		e.err = e.verdict(ctx)
		answer = e.answerError()
		return e.err
	case e.aborted:
		if answer = e.clientLeft(); answer == nil {
			answer = errAborted
		}
		return answer
	default:
		panic(nil) // the handler panicked with nil, under GODEBUG=panicnil=1
	}
}

// serve runs the handler and reports whether it returned. If not, it panicked with
// http.ErrAbortHandler or with nil; other panics and runtime.Goexit continue.
func (e *exchange) serve(r *http.Request) (returned bool) {
	defer func() {
		copyBack(e.r, r)
		if returned {
			return
		}
		// The value of a panic is known only after recover. Panicking again here keeps
		// the original frames on the stack, which net/http logs.
		switch p := recover(); p {
		case nil: // runtime.Goexit or panic(nil); serve returns only after the latter
		case http.ErrAbortHandler:
			e.aborted = true
		default:
			panic(p)
		}
	}()
	e.h.next.ServeHTTP(e.writer(), r)
	return true
}

// withContext returns r, or a copy of r if its context is not ctx.
func withContext(ctx context.Context, r *http.Request) *http.Request {
	if sameContext(ctx, r.Context()) {
		return r
	}
	if r.Trailer == nil && len(r.TransferEncoding) > 0 {
		// At the end of the body, net/http stores trailers that the client has not announced
		// in the server's request. With a map, the copy shares them.
		r.Trailer = http.Header{}
	}
	return r.WithContext(ctx)
}

// copyBack copies what a handler sets on its request own to the server's request r: the
// pattern, for middleware outside, and the form, whose files net/http removes in the end.
func copyBack(r, own *http.Request) {
	if own != r {
		r.Pattern = own.Pattern
		r.Form, r.PostForm, r.MultipartForm = own.Form, own.PostForm, own.MultipartForm
	}
}

// verdict returns the error for the policies of a handler that has returned. ctx is the
// policies' context.
func (e *exchange) verdict(ctx context.Context) error {
	switch request := e.r.Context(); {
	case e.hijacked:
		return nil
	case e.late:
		return leftError(request)
	case e.begun():
	case e.endedByPolicy(ctx):
		if expired(ctx) {
			return deadlineError(ctx)
		}
		return &handlerError{"httpmw: a policy canceled the handler's context", resilience.ContextError(ctx)}
	default:
		e.silent = true // net/http sends 200
		switch {
		case canceled(request):
			return leftError(request)
		case expired(request):
			return deadlineError(request)
		}
	}
	code := int(e.status)
	if e.silent {
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

// endedByPolicy reports whether a policy ended ctx, the policies' context.
func (e *exchange) endedByPolicy(ctx context.Context) bool {
	if e.left { // ctx does not end with the request's context
		return ctx.Err() != nil
	}
	return adapter.EndedFirst(ctx, e.r.Context())
}

// answerError returns e.err for policies that wait for the answer. To them, the error of a
// context means that the client has left. So answerError replaces such an error unless the
// client has left.
func (e *exchange) answerError() error {
	if err := e.clientLeft(); err != nil {
		return err
	}
	if errors.Is(e.err, context.DeadlineExceeded) || errors.Is(e.err, context.Canceled) {
		return errEnded
	}
	return e.err
}

// leftError returns the error of a request whose client left, which ended ctx.
func leftError(ctx context.Context) error {
	return &handlerError{"httpmw: the request was canceled", resilience.ContextError(ctx)}
}

// deadlineError returns the error of ctx, which a deadline or a timeout ended: the cause,
// if that is a timeout.
func deadlineError(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return resilience.ContextError(ctx)
}

// canceled reports whether ctx was canceled and not ended by a timeout.
func canceled(ctx context.Context) bool {
	return ctx.Err() != nil && resilience.OutcomeOf(ctx, ctx.Err(), nil) == resilience.Ignored
}

// expired reports whether a deadline or a timeout ended ctx.
func expired(ctx context.Context) bool {
	return ctx.Err() != nil && resilience.OutcomeOf(ctx, ctx.Err(), nil) == resilience.Failure
}
