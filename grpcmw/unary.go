package grpcmw

import (
	"context"

	"github.com/resilience-go/resilience"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// Unary implements grpc.UnaryClientInterceptor. What the call options of the caller
// collect, such as the trailer, is that of the last attempt.
func (c Client) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if c.exempt(method) {
		return invoker(ctx, method, req, reply, cc, opts...)
	}
	u := &unary{c: c, ctx: ctx, method: method, req: req, reply: reply, cc: cc, invoker: invoker}
	// The trailer is told to us first, and the slice of the caller left alone.
	u.opts = append(append(u.room[:0], grpc.TrailerCallOption{TrailerAddr: &u.trailer}), opts...)
	return public(resilience.RunOperation(ctx, c.Policy, u))
}

// unary is one call: the operation that the policies run. With the room for its
// options that makes it the only allocation of a call.
type unary struct {
	c          Client
	ctx        context.Context // of the caller
	method     string
	req, reply any
	cc         *grpc.ClientConn
	invoker    grpc.UnaryInvoker
	opts       []grpc.CallOption
	room       [4]grpc.CallOption
	trailer    metadata.MD // of the last attempt
	ran        bool
}

// Key implements resilience.Keyer.
func (u *unary) Key() string { return u.c.key(u.ctx, u.cc, u.method) }

// Run implements resilience.Operation: it makes one attempt.
func (u *unary) Run(ctx context.Context) error {
	if u.ran {
		clearCollected(u.opts)
	}
	u.ran = true
	err := u.invoker(marked(ctx), u.method, u.req, u.reply, u.cc, u.opts...)
	if err == nil {
		return nil
	}
	return u.c.failed(u.cc, u.method, err, u.trailer)
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
