package grpcmw

import (
	"context"
	"fmt"
	"slices"

	"github.com/resilience-go/resilience"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Unary implements grpc.UnaryClientInterceptor. The call options grpc.Header, grpc.Trailer
// and grpc.Peer get the values of the last attempt. Other options, such as grpc.OnFinish,
// apply to each attempt.
//
// Unary returns nil only with a reply of the server: if a policy drops the error of a call,
// Unary returns it.
func (c Client) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if exempt(c.Exempt, method) {
		return invoker(ctx, method, req, reply, cc, opts...)
	}
	if c.Policy == nil {
		return errNoClientPolicy
	}
	u := &unary{c: c, ctx: ctx, method: method, req: req, reply: reply, cc: cc, invoker: invoker}
	// Our trailer option comes first, and the caller's slice stays unchanged. Without
	// Clip, two interceptors further in that append would write to one array.
	u.opts = slices.Clip(append(append(u.room[:0], grpc.TrailerCallOption{TrailerAddr: &u.trailer}), opts...))
	inner, _ := withCall(ctx, cc, &u.c, nil)
	err := resilience.RunOperation(inner, c.Policy, u)
	switch {
	case err != nil:
	case u.last != nil:
		err = u.last // a policy dropped the error, but there is no reply to return
	case !u.ran:
		err = errNotRun
	default:
		return nil
	}
	return wrapContextEnd(ctx, publicError(err))
}

// unary is one call: the operation that the policies run. It has room for its options, so
// it is the only allocation of a call, beside gRPC's copy of the trailer.
type unary struct {
	c          Client
	ctx        context.Context // the caller's
	method     string
	req, reply any
	cc         *grpc.ClientConn
	invoker    grpc.UnaryInvoker
	opts       []grpc.CallOption
	room       [4]grpc.CallOption
	ran        bool

	// The fields below are about the last attempt.

	trailer metadata.MD
	last    *failure // nil if it did not fail
}

// Key is the optional method of an operation that keyed.Group calls.
func (u *unary) Key() string { return u.c.key(u.ctx, u.cc, u.method) }

var errNotRun = status.Error(codes.Internal, "grpcmw: the policy neither made the call nor returned an error")

// Run implements resilience.Operation: it makes one attempt.
func (u *unary) Run(ctx context.Context) error {
	if u.last != nil && u.last.final {
		return &failure{err: fmt.Errorf("grpcmw: not sent again: %w", u.last.err), outcome: resilience.Ignored, final: true}
	}
	if u.ran {
		clearCollected(u.opts)
	}
	u.ran, u.last = true, nil
	err := u.invoker(withAttemptMetadata(ctx), u.method, u.req, u.reply, u.cc, u.opts...)
	if err == nil {
		return nil
	}
	u.last = u.c.asFailure(u.method, err, u.trailer)
	u.setRetryable(u.last)
	if status.Code(err) == codes.Canceled && timedOut(ctx) {
		u.last.outcome = resilience.Failure // a policy's timeout, which gRPC cannot tell from a cancel
	}
	return u.last
}

// setRetryable sets whether the call is safe to retry after f.
func (u *unary) setRetryable(f *failure) {
	switch {
	case f.final:
	case u.cc != nil && u.cc.GetMethodConfig(u.method).RetryPolicy != nil:
		f.final = true
	case u.c.Retryable == nil:
		f.retryable = DefaultRetryable(u.method, f.err)
	default:
		f.retryable = u.c.Retryable(u.method, f.err)
	}
}

// clearCollected resets what call options have collected from the previous attempt. An
// attempt that gets no stream collects nothing.
func clearCollected(opts []grpc.CallOption) {
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = nil
		case grpc.TrailerCallOption:
			*o.TrailerAddr = nil
		case grpc.PeerCallOption:
			*o.PeerAddr = peer.Peer{}
		}
	}
}
