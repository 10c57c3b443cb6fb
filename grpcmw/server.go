package grpcmw

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/marker"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Server guards the handlers of a grpc.Server with a Policy. Its methods are
// interceptors:
//
//	server := grpcmw.Server{Policy: stack.Server("orders")}
//	s := grpc.NewServer(grpc.ChainUnaryInterceptor(server.Unary), grpc.ChainStreamInterceptor(server.Stream))
//
// The zero value guards with nothing. A Server is safe for concurrent use if its
// functions are.
//
// A call that a policy refuses is answered with the status that the package
// documentation names, a RetryInfo detail, and grpc-retry-pushback-ms in its
// trailer. If the reason is resilience.Limited that is -1, do not try again: the
// server has more to do than it can. The message of a stream is not read then; that of
// a unary call has been read before interceptors are asked.
//
// A policy that waits for the answer, as a limit does, gives its place back when a
// unary handler is over, and when a stream has sent its first message, or is over if
// that is sooner. It hears the end of the client's context if that is done by then.
//
// A handler runs once, whatever the Policy wants: a retry belongs to the client.
// Policies that limit its time do so through its context: a handler is not
// abandoned. One that panics is a failure, and the panic goes on. A call whose
// client has left, or whose deadline has passed, before the policies were asked is
// not handled.
type Server struct {
	// Policy guards each call. nil guards with nothing.
	Policy resilience.Policy

	// Key returns what a keyed.Group picks the policy of a call by. nil is the
	// method, as in "/orders.v1.Orders/Get".
	Key func(ctx context.Context, method string) string

	// Classify says what the code of a status tells about the health of the handler.
	// nil is CodeOutcome.
	Classify func(method string, code codes.Code) resilience.Outcome

	// Exempt chooses the methods that are not guarded. nil is Infrastructure.
	Exempt func(method string) bool
}

// Unary implements grpc.UnaryServerInterceptor.
func (s Server) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx = attempt(ctx)
	h := &unaryHandling{handling: handling{s: s, ctx: ctx, method: info.FullMethod}, req: req, handler: handler}
	came := resilience.ErrAborted
	defer func() { h.neverRan(came) }()
	came = resilience.RunOperation(ctx, s.policy(info.FullMethod), h)
	trailer, err := h.result(came)
	if trailer != nil {
		_ = grpc.SetTrailer(ctx, trailer) // fails only where there is no call
	}
	if err != nil {
		return nil, err
	}
	return h.resp, nil
}

// Stream implements grpc.StreamServerInterceptor. A stream is judged at its end, and
// holds what it holds until then, except for what a policy wants back when it answers,
// which is with its first message. Its Context is that of the policies, but a Send or
// Recv that waits does so for the client alone: no limit of time cuts it short.
func (s Server) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx := attempt(ss.Context())
	h := &streamHandling{handling: handling{s: s, ctx: ctx, method: info.FullMethod}, ServerStream: ss, srv: srv, handler: handler}
	came := resilience.ErrAborted
	defer func() { h.neverRan(came) }()
	came = resilience.RunOperation(ctx, s.policy(info.FullMethod), h)
	trailer, err := h.result(came)
	if trailer != nil {
		ss.SetTrailer(trailer)
	}
	return err
}

// policy returns what guards a method: nothing if it is exempt.
func (s *Server) policy(method string) resilience.Policy {
	if exempt(s.Exempt, method) {
		return nil
	}
	return s.Policy
}

// attempt returns ctx with the number of the attempt that the client says it is.
func attempt(ctx context.Context) context.Context {
	if n := marker.Parse(metadata.ValueFromIncomingContext(ctx, attemptKey)); n >= 2 {
		return resilience.WithAttempt(ctx, n)
	}
	return ctx
}

// handling is what the calls of both kinds have in common. Each is an operation
// that the policies run, and the only allocation of its call.
type handling struct {
	s      Server
	ctx    context.Context // of the client
	method string
	err    error    // what the handler returned
	judged *failure // what policies see of it

	ran     bool
	awaited bool // somebody waits for the answer, and else nobody looks for it
	early   resilience.Early
}

// Key implements resilience.Keyer.
func (h *handling) Key() string {
	if h.s.Key != nil {
		return h.s.Key(h.ctx, h.method)
	}
	return h.method
}

const handledOnce = "grpcmw: a policy ran a handler twice: a retry belongs to the client"

var errHandledAgain = &failure{err: status.Error(codes.Internal, handledOnce), outcome: resilience.Ignored}

// again returns what a policy gets that runs a handler once more.
func (h *handling) again() error {
	if h.judged == nil {
		return errHandledAgain
	}
	return &failure{err: fmt.Errorf("%s: %w", handledOnce, h.judged.err), outcome: resilience.Ignored}
}

// judge returns what policies see of a handler that returned err.
func (h *handling) judge(ctx context.Context, err error) error {
	h.err = err
	if err == nil || err == ctx.Err() { // which policies know when they see it
		return err
	}
	err = said(err) // with its code
	f := &failure{err: err, outcome: outcome(h.s.Classify, h.method, err)}
	if errors.Is(err, resilience.ErrRejected) {
		// It was a call of the handler that was rejected; the handler did run.
		f.err = status.Convert(err).Err()
	}
	h.judged = f
	return f
}

// Await is called by resilience.Next.Await. After the handler has run, there is no
// answer to wait for.
func (h *handling) Await(s resilience.Settler, token uint64) bool {
	h.awaited = h.awaited || !h.ran
	return h.awaited && h.early.Await(s, token)
}

// answer tells those who wait for it that the call has answered, if err is nil, or
// else what it came to without an answer.
func (h *handling) answer(err error) {
	if h.awaited {
		h.early.Answer(h.told(err))
	}
}

// told returns what those hear who wait for the answer: the end of the client's
// context if nobody is there to be answered, and no such end otherwise.
func (h *handling) told(err error) error {
	if end := resilience.ContextError(h.ctx); end != nil {
		return end
	}
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	// What ended was a call of the handler, or the time that a policy gives it.
	f := &failure{err: &withStatus{errors.New(err.Error()), status.Convert(public(err))}, outcome: resilience.Failure}
	if e, ok := err.(*failure); ok {
		f.outcome = e.outcome
	}
	return f
}

var errNeverRan = status.Error(codes.Internal, "grpcmw: the policy neither ran the handler nor returned an error")

// neverRan tells those who wait for the answer that there is none, because policies
// came to err without the handler.
func (h *handling) neverRan(err error) {
	switch {
	case h.ran:
	case err == nil:
		h.answer(errNeverRan)
	default:
		h.answer(err)
	}
}

// result returns what the client is told when the policies returned err.
func (h *handling) result(err error) (trailer metadata.MD, _ error) {
	switch {
	case err == nil && h.err != nil:
		return nil, said(h.err) // a policy dropped it, but there is nothing else to say
	case err == nil && !h.ran:
		return nil, errNeverRan
	case err == nil:
		return nil, nil
	case !h.ran && errors.Is(err, resilience.ErrRejected):
		s, trailer := refusal(err, time.Now())
		return trailer, &withStatus{err, s}
	}
	if _, ok := err.(*failure); ok && h.err != nil {
		return nil, said(h.err)
	}
	return nil, public(err)
}

type unaryHandling struct {
	handling
	req     any
	handler grpc.UnaryHandler
	resp    any
}

// Run implements resilience.Operation.
func (h *unaryHandling) Run(ctx context.Context) (err error) {
	if h.ran {
		return h.again()
	}
	h.ran = true
	err = resilience.ErrAborted
	defer func() { h.answer(err) }()
	resp, failed := h.handler(ctx, h.req)
	h.resp = resp
	err = h.judge(ctx, failed)
	return err
}

// streamHandling is also the stream of its handler.
type streamHandling struct {
	handling
	grpc.ServerStream
	srv     any
	handler grpc.StreamHandler
	own     context.Context // that of the policies
	sent    bool            // SendMsg, which is for one goroutine at a time, has sent a message
}

// Run implements resilience.Operation.
func (h *streamHandling) Run(ctx context.Context) (err error) {
	if h.ran {
		return h.again()
	}
	h.ran, h.own = true, ctx
	err = resilience.ErrAborted
	defer func() { h.answer(err) }()
	err = h.judge(ctx, h.handler(h.srv, h))
	return err
}

// SendMsg implements grpc.ServerStream.
func (h *streamHandling) SendMsg(m any) error {
	err := h.ServerStream.SendMsg(m)
	if err == nil && !h.sent {
		h.sent = true
		h.answer(nil)
	}
	return err
}

// Context returns the context of the stream as policies have made it.
func (h *streamHandling) Context() context.Context { return h.own }
