package grpcmw

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/adapter"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Server guards the handlers of a grpc.Server with a Policy. Its methods are interceptors:
//
//	server := grpcmw.Server{Policy: stack.Server("orders")}
//	s := grpc.NewServer(grpc.ChainUnaryInterceptor(server.Unary), grpc.ChainStreamInterceptor(server.Stream))
//
// A Server is safe for concurrent use if its functions are.
//
// A rejected call is answered with the status that the package documentation lists, a
// RetryInfo detail, and grpc-retry-pushback-ms in the trailer. If the reason is
// resilience.Limited, the pushback is -1, which forbids a retry: the server has more calls
// than capacity. The messages of a rejected stream are not read. gRPC reads the message of
// a unary call before it calls interceptors.
//
// The status of a rejection has only its reason, as in "rejected: open", because the text of
// a rejection has names and keys, and the error of another call. This also holds if a handler
// returns the rejection of a call that it made. Interceptors outside find the whole rejection
// in the error.
//
// A handler that returns nil or a status has answered, also if its context is done by then.
// An answered stream that goes on until its client cancels, or until the client's deadline,
// is a Success.
//
// A limit releases its slot when the call answers: when a unary handler returns, and when a
// stream sends its first message or ends without one. If the client has left by then, or its
// deadline has passed, the limit counts the call as abandoned. The end of a context that an
// interceptor outside has made does not count as the client leaving.
//
// A handler runs once, whatever Policy decides: a retry belongs to the client. A timeout in
// Policy ends the context of the handler, but waits until the handler returns. A handler
// that panics is a failure, and the panic continues. If the client leaves or its deadline
// passes before the policies run, the call is not handled.
type Server struct {
	// Policy guards each call. It is required: with nil, calls fail with INTERNAL.
	// resilience.Compose() handles calls unguarded.
	Policy resilience.Policy

	// Key returns the key by which a keyed.Group selects the policy of a call. nil is the
	// method, as in "/orders.v1.Orders/Get".
	Key func(ctx context.Context, method string) string

	// Classify returns the outcome of a status code: whether the handler works. nil is
	// CodeOutcome.
	Classify func(method string, code codes.Code) resilience.Outcome

	// Exempt reports whether calls of a method skip the policy. nil is Infrastructure.
	Exempt func(method string) bool

	// Priority returns how much a call matters in an overload. nil makes all calls Normal.
	// Take it from what the server knows, such as the method or the tenant's contract.
	// Metadata is a claim of the client: believe it only if the client is authenticated and
	// may make the claim.
	Priority func(ctx context.Context, method string) resilience.Priority

	// Caller returns the name of the tenant, account or API key that a call belongs to. In
	// an overload, each caller gets a fair share of the capacity for its priority. nil tells
	// no callers apart, and all calls with "" belong to one caller. The name must be
	// authenticated, because a client that makes up names gets a share for each. An address
	// is no name: behind a proxy or a NAT, many clients share one.
	//
	// Priority and Caller are called only when a policy has to choose between calls, which a
	// limit does when it has no free slot: at most once for a call, before the handler runs,
	// and with no lock held. A panic continues as a panic of the handler does.
	Caller func(ctx context.Context, method string) string
}

// errNoServerPolicy is the error of a Server without a Policy: a Server has no constructor
// that could return it.
var errNoServerPolicy = status.Error(codes.Internal, "grpcmw: Server.Policy is nil: set it, "+
	"for instance to stack.Server(\"orders\"), or to resilience.Compose() to handle calls unguarded")

// Unary implements grpc.UnaryServerInterceptor.
func (s Server) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	policy, err := s.policy(info.FullMethod)
	if err != nil {
		return nil, err
	}
	ctx = withAttempt(ctx)
	h := &unaryHandling{handling: handling{s: s, ctx: ctx, method: info.FullMethod}, req: req, handler: handler}
	err = resilience.ErrAborted
	defer func() { h.answerUnlessRan(err) }()
	err = resilience.RunOperation(ctx, policy, h)
	trailer, public := h.public(err)
	if trailer != nil {
		_ = grpc.SetTrailer(ctx, trailer) // fails only outside of a call, in a test
	}
	if public != nil {
		return nil, public
	}
	return h.resp, nil
}

// Stream implements grpc.StreamServerInterceptor. A stream is judged at its end, and
// policies hold their slots until then. A limit releases its slot at the answer, which is
// the first message. The Context of the stream is the policies' context, but only the
// client's context ends a blocked Send or Recv: a timeout of a policy does not.
func (s Server) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	policy, err := s.policy(info.FullMethod)
	if err != nil {
		return err
	}
	ctx := withAttempt(ss.Context())
	h := &streamHandling{handling: handling{s: s, ctx: ctx, method: info.FullMethod}, ServerStream: ss, srv: srv, handler: handler}
	err = resilience.ErrAborted
	defer func() { h.answerUnlessRan(err) }()
	err = resilience.RunOperation(ctx, policy, h)
	trailer, public := h.public(err)
	if trailer != nil {
		ss.SetTrailer(trailer)
	}
	return public
}

// policy returns the policy that guards a method, nil if the method is exempt.
func (s *Server) policy(method string) (resilience.Policy, error) {
	switch {
	case exempt(s.Exempt, method):
		return nil, nil
	case s.Policy == nil:
		return nil, errNoServerPolicy
	default:
		return s.Policy, nil
	}
}

// withAttempt returns ctx with the number of the attempt in the client's metadata.
func withAttempt(ctx context.Context) context.Context {
	if n := adapter.ParseAttempt(metadata.ValueFromIncomingContext(ctx, attemptKey)); n >= 2 {
		return resilience.WithAttempt(ctx, n)
	}
	return ctx
}

// handling is the common part of unary and streaming calls. Each is the operation that the
// policies run, and the only allocation of its call.
type handling struct {
	s      Server
	ctx    context.Context // the client's
	method string
	err    error    // what the handler returned
	judged *failure // err for the policies, nil if err is nil or the error of its context

	ran     bool
	awaited bool // a policy waits for the answer

	hasPriority, hasCaller bool // Priority and Caller of the Server have been called
	priority               resilience.Priority
	caller                 string

	early resilience.Early
}

// Key is the optional method of an operation that keyed.Group calls.
func (h *handling) Key() string {
	if h.s.Key != nil {
		return h.s.Key(h.ctx, h.method)
	}
	return h.method
}

// Priority is an optional method of an operation, see resilience.Next.Rank. A call has one
// priority, however many policies call Priority.
func (h *handling) Priority() resilience.Priority {
	if h.s.Priority != nil && !h.hasPriority {
		h.hasPriority = true
		h.priority = h.s.Priority(h.ctx, h.method)
	}
	return h.priority
}

// Caller is an optional method of an operation, see resilience.Next.Rank.
func (h *handling) Caller() string {
	if h.s.Caller != nil && !h.hasCaller {
		h.hasCaller = true
		h.caller = h.s.Caller(h.ctx, h.method)
	}
	return h.caller
}

const handledOnce = "grpcmw: a policy ran a handler twice: a retry belongs to the client"

var errHandledAgain = &failure{err: status.Error(codes.Internal, handledOnce), outcome: resilience.Ignored}

// againError returns the error for a policy that runs a handler a second time.
func (h *handling) againError() error {
	if h.judged == nil {
		return errHandledAgain
	}
	return &failure{err: fmt.Errorf("%s: %w", handledOnce, h.judged.err), outcome: resilience.Ignored}
}

// judge stores err, the error of the handler, and returns it as an error for the policies.
func (h *handling) judge(ctx context.Context, err error) error {
	h.err = err
	if err == nil || err == ctx.Err() { // policies recognise the error of their context
		return err
	}
	err = withFoundStatus(err)
	f := &failure{err: err, outcome: outcome(h.s.Classify, h.method, err)}
	if errors.Is(err, resilience.ErrRejected) {
		f.err = &nestedRejection{err, status.Convert(withoutRejection(err))}
	}
	h.judged = f
	return f
}

// nestedRejection is the error for the policies of a handler that returned err, the
// rejection of a call that it made. The handler itself did run, so errors.Is does not find
// the rejection.
type nestedRejection struct {
	err    error
	status *status.Status
}

func (e *nestedRejection) Error() string              { return e.err.Error() }
func (e *nestedRejection) GRPCStatus() *status.Status { return e.status }

// Await is the optional method that resilience.Next.Await calls. After the handler ran there
// is nothing to wait for.
func (h *handling) Await(s resilience.Settler, token uint64) bool {
	h.awaited = h.awaited || !h.ran
	return h.awaited && h.early.Await(s, token)
}

// setAnswer settles the policies that wait for the answer: with nil if the call has
// answered, and otherwise with err, because the call will not answer.
func (h *handling) setAnswer(err error) {
	if h.awaited {
		h.early.Answer(h.answerError(err))
	}
}

// answerError returns err for policies that wait for the answer. If the client has left, it
// returns the error of the call's context, because the client does not get the answer. An
// error of any other context becomes a failure without the context's error.
func (h *handling) answerError(err error) error {
	if clientLeft(h.ctx) {
		return resilience.ContextError(h.ctx)
	}
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	// A call that the handler made ended, or a policy or an interceptor ended the context.
	s := status.Convert(publicError(err))
	f := &failure{err: &withStatus{errors.New(err.Error()), s}}
	if e, ok := err.(*failure); ok {
		f.outcome = e.outcome
	} else {
		f.outcome = outcome(h.s.Classify, h.method, s.Err())
	}
	return f
}

// clientLeft reports whether ctx, the context of a call, is done because the client has
// canceled, its deadline has passed or its connection is lost. An interceptor outside can
// also end ctx, for instance by a timeout, but not the context of gRPC's stream.
func clientLeft(ctx context.Context) bool {
	if ctx.Err() == nil {
		return false
	}
	stream, ok := grpc.ServerTransportStreamFromContext(ctx).(interface{ Context() context.Context })
	return !ok || stream.Context().Err() != nil
}

var errNeverRan = status.Error(codes.Internal, "grpcmw: the policy neither ran the handler nor returned an error")

// answerUnlessRan settles the policies that wait for the answer if the handler did not run.
// err is the result of the policies.
func (h *handling) answerUnlessRan(err error) {
	switch {
	case h.ran:
	case err == nil:
		h.setAnswer(errNeverRan)
	default:
		h.setAnswer(err)
	}
}

// public returns the trailer and the error of the interceptor after the policies returned
// err. Interceptors outside find all errors in it. Clients get its status.
func (h *handling) public(err error) (metadata.MD, error) {
	switch {
	case err == nil && h.err == nil && h.ran:
		return nil, nil
	case err == nil && !h.ran:
		return nil, errNeverRan
	case err == nil:
		err = h.err // a policy dropped the error, but there is no reply to return
	case !h.ran && resilience.Rejected(err):
		s, trailer := rejectionStatus(err, time.Now())
		return trailer, &withStatus{err, s}
	default:
		if _, ok := err.(*failure); !ok || h.err == nil {
			return nil, withoutRejection(publicError(err))
		}
		err = h.err
	}
	return nil, withoutRejection(withFoundStatus(err))
}

// withoutRejection returns err, which has a status, with a status for the client. The text of
// a rejection has names and keys of this process, and the error of another call, which may be
// another client's. If the message of the status has that text, withoutRejection replaces the
// message: by the message of a status inside err if that is free of the text, otherwise by
// "rejected" and the reason.
func withoutRejection(err error) error {
	s := status.Convert(err)
	if !hasRejection(err, s.Message()) {
		return err
	}
	p := s.Proto()
	p.Message = rejectedText(err)
	if own := innerStatus(err); own.Code() == s.Code() && !hasRejectedText(own.Message()) {
		p.Message = own.Message()
	}
	return &withStatus{err, status.FromProto(p)}
}

// hasRejection reports whether message, of err's status, may have the text of a rejection.
func hasRejection(err error, message string) bool {
	switch err.(type) {
	case *statusError, *withStatus:
		// The message is made of the texts of all errors in err. errors.Is does not find the
		// rejection of the last attempt of a retry.
		if hasRejectedText(message) && strings.Contains(message, ": gave up after ") {
			return true
		}
	}
	_, nested := errors.AsType[*nestedRejection](err)
	return nested || errors.Is(err, resilience.ErrRejected)
}

// hasRejectedText reports whether text has the text of a Rejection.
func hasRejectedText(text string) bool { return strings.Contains(text, ": rejected: ") }

// innerStatus returns the status of the first error in err that has one and is not of this
// package, nil if there is none.
func innerStatus(err error) *status.Status {
	for {
		e, ok := errors.AsType[interface {
			error
			GRPCStatus() *status.Status
		}](err)
		if !ok {
			return nil
		}
		switch e := e.(type) {
		case *statusError:
			err = e.err
		case *withStatus:
			err = e.error
		default:
			return e.GRPCStatus()
		}
	}
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
		return h.againError()
	}
	h.ran = true
	err = resilience.ErrAborted
	defer func() { h.setAnswer(err) }()
	resp, failed := h.handler(ctx, h.req)
	h.resp = resp
	err = h.judge(ctx, failed)
	return err
}

// streamHandling is the operation of a stream, and the grpc.ServerStream of its handler.
type streamHandling struct {
	handling
	grpc.ServerStream
	srv     any
	handler grpc.StreamHandler
	own     context.Context // the policies' context
	sent    bool            // SendMsg has sent a message; one goroutine at a time calls SendMsg
}

// Run implements resilience.Operation.
func (h *streamHandling) Run(ctx context.Context) (err error) {
	if h.ran {
		return h.againError()
	}
	h.ran, h.own = true, ctx
	err = resilience.ErrAborted
	defer func() { h.setAnswer(err) }()
	if err = h.judge(ctx, h.handler(h.srv, h)); h.sent && h.endedByClient(ctx, err) {
		err = nil // the stream worked until the client ended it
	}
	return err
}

// endedByClient reports whether the client ended ctx, the policies' context, and err is only
// that end.
func (h *streamHandling) endedByClient(ctx context.Context, err error) bool {
	if err == nil || !clientLeft(h.ctx) || adapter.EndedFirst(ctx, h.ctx) {
		return false
	}
	code := status.Code(withFoundStatus(err))
	return code == codes.Canceled || code == codes.DeadlineExceeded
}

// SendMsg implements grpc.ServerStream.
func (h *streamHandling) SendMsg(m any) error {
	err := h.ServerStream.SendMsg(m)
	if err == nil && !h.sent {
		h.sent = true
		h.setAnswer(nil)
	}
	return err
}

// Context implements grpc.ServerStream. It returns the policies' context.
func (h *streamHandling) Context() context.Context { return h.own }
