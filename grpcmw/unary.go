package grpcmw

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/resilience-go/resilience"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Unary implements grpc.UnaryClientInterceptor. What the call options of the caller
// collect (grpc.Header, Trailer and Peer) is that of the last attempt; what else they
// do, such as grpc.OnFinish, they do for each attempt.
//
// The reply is that of the server: if a policy drops the error of a call, Unary
// returns it all the same.
func (c Client) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if exempt(c.Exempt, method) {
		return invoker(ctx, method, req, reply, cc, opts...)
	}
	u := &unary{c: c, ctx: ctx, method: method, req: req, reply: reply, cc: cc, invoker: invoker}
	// The trailer is told to us first, and the slice of the caller left alone.
	// Clipped, or the appends of two further in would meet in our array.
	u.opts = slices.Clip(append(append(u.room[:0], grpc.TrailerCallOption{TrailerAddr: &u.trailer}), opts...))
	err := resilience.RunOperation(ctx, c.Policy, u)
	switch {
	case err != nil:
	case u.last != nil:
		err = u.last // a policy dropped it, but there is no reply to return
	case !u.ran:
		err = errNotRun
	default:
		return nil
	}
	return ended(ctx, public(err))
}

// unary is one call: the operation that the policies run. With the room for its
// options that makes it the only allocation of a call, beside the copy that gRPC
// makes of the trailer.
type unary struct {
	c          Client
	ctx        context.Context // of the caller
	method     string
	req, reply any
	cc         *grpc.ClientConn
	invoker    grpc.UnaryInvoker
	opts       []grpc.CallOption
	room       [4]grpc.CallOption
	ran        bool
	// Of the last attempt:
	trailer metadata.MD
	last    *failure // nil if it did not fail
}

// Key implements resilience.Keyer.
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
	err := u.invoker(marked(ctx), u.method, u.req, u.reply, u.cc, u.opts...)
	if err == nil {
		return nil
	}
	u.last = u.c.failed(u.method, err, u.trailer)
	u.mayAgain(u.last)
	if ctx.Err() == context.Canceled && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		u.last.outcome = resilience.Failure // gRPC does not know that it was a limit of time
	}
	return u.last
}

// mayAgain decides whether the call may be made again after f.
func (u *unary) mayAgain(f *failure) {
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

// clearCollected makes call options forget what they have collected of the attempt
// before: one that gets no stream collects nothing.
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
