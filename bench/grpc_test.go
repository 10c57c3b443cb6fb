package bench_test

import (
	"context"
	"io"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/limit"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// unaryClient makes calls of a stub. Nothing guards them if p is nil.
func unaryClient(p resilience.Policy) func(n int) {
	invoker := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	call := func(ctx context.Context, req, reply any) error { return invoker(ctx, "/s/m", req, reply, nil) }
	if p != nil {
		unary := grpcmw.Client{Policy: p}.Unary
		call = func(ctx context.Context, req, reply any) error { return unary(ctx, "/s/m", req, reply, nil, invoker) }
	}
	return func(n int) {
		ctx := context.Background()
		for range n {
			if err := call(ctx, &n, &n); err != nil {
				panic(err)
			}
		}
	}
}

// unaryServer has a handler answer. Nothing guards it if p is nil.
func unaryServer(p resilience.Policy) func(n int) {
	handler := func(_ context.Context, req any) (any, error) { return req, nil }
	serve := handler
	if p != nil {
		info := &grpc.UnaryServerInfo{FullMethod: "/s/m"}
		unary := grpcmw.Server{Policy: p}.Unary
		serve = func(ctx context.Context, req any) (any, error) { return unary(ctx, req, info, handler) }
	}
	return func(n int) {
		ctx := context.Background()
		for range n {
			if _, err := serve(ctx, &n); err != nil {
				panic(err)
			}
		}
	}
}

// refused has a server refuse its calls as a limit does in an overload. What gRPC
// keeps of a call is there to take the trailer.
func refused(testing.TB) func(n int) {
	handler := func(context.Context, any) (any, error) { panic("handled") }
	info := &grpc.UnaryServerInfo{FullMethod: "/s/m"}
	unary := grpcmw.Server{Policy: refusing{}}.Unary
	return func(n int) {
		ctx := grpc.NewContextWithServerTransportStream(context.Background(), &stubCall{})
		for range n {
			if _, err := unary(ctx, &n, info, handler); status.Code(err) != codes.ResourceExhausted {
				panic(err)
			}
		}
	}
}

// refusing is the least that a policy can do that refuses.
type refusing struct{}

func (refusing) Apply(context.Context, resilience.Next) error { return limit.ErrLimited }

// stubCall keeps the last trailer.
type stubCall struct {
	grpc.ServerTransportStream
	trailer metadata.MD
}

func (s *stubCall) SetTrailer(md metadata.MD) error {
	s.trailer = md
	return nil
}

// streamClient reads streams of a stub, of one message each. Nothing guards them if
// p is nil.
func streamClient(p resilience.Policy) func(n int) {
	return func(n int) {
		stub := &stubStream{}
		streamer := func(_ context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			stub.left = 1
			stub.finish = nil
			for _, o := range opts {
				if o, ok := o.(grpc.OnFinishCallOption); ok {
					stub.finish = o.OnFinish
				}
			}
			return stub, nil
		}
		desc := &grpc.StreamDesc{ServerStreams: true}
		open := func(ctx context.Context) (grpc.ClientStream, error) { return streamer(ctx, desc, nil, "/s/m") }
		if p != nil {
			stream := grpcmw.Client{Policy: p}.Stream
			open = func(ctx context.Context) (grpc.ClientStream, error) { return stream(ctx, desc, nil, "/s/m", streamer) }
		}
		ctx := context.Background()
		for range n {
			s, err := open(ctx)
			if err == nil {
				err = s.RecvMsg(&n)
			}
			if err != nil {
				panic(err)
			}
			if err := s.RecvMsg(&n); err != io.EOF {
				panic(err)
			}
		}
	}
}

// stubStream is used again and again: in this way the bare row allocates nothing.
type stubStream struct {
	grpc.ClientStream
	left   int
	finish func(error)
}

func (s *stubStream) RecvMsg(any) error {
	if s.left--; s.left >= 0 {
		return nil
	}
	if s.finish != nil {
		s.finish(nil)
	}
	return io.EOF
}
