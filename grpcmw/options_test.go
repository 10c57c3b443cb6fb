package grpcmw_test

import (
	"context"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// numbered is a service that says in header and trailer which attempt it answers,
// and lets the last one succeed.
func numbered(last int32) *service {
	var n atomic.Int32
	return &service{unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
		i := n.Add(1)
		md := metadata.Pairs("number", strconv.Itoa(int(i)), "only-"+strconv.Itoa(int(i)), "")
		_ = grpc.SetHeader(ctx, md)
		_ = grpc.SetTrailer(ctx, md)
		if i < last {
			return nil, status.Error(codes.Unavailable, "not yet")
		}
		return &pb.SimpleResponse{}, nil
	}}
}

// Call options collect from the last attempt.
func TestClient_optionsCollectLastAttempt(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		for name, policy := range map[string]resilience.Policy{"with us": retries(t, retry.Config{}), "stubborn": stubborn(3)} {
			var finished atomic.Int32
			c := serve(t, numbered(3), nil, unary(grpcmw.Client{Policy: policy}))
			var header, trailer metadata.MD
			var from peer.Peer
			_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{}, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from),
				grpc.OnFinish(func(error) { finished.Add(1) }))
			if err != nil {
				t.Fatal(err)
			}
			for what, md := range map[string]metadata.MD{"header": header, "trailer": trailer} {
				if !slices.Equal(md["number"], []string{"3"}) || md["only-1"] != nil || md["only-2"] != nil {
					t.Errorf("%s: %s %v", name, what, md)
				}
			}
			if from.Addr == nil {
				t.Errorf("%s: no peer", name)
			}
			if finished.Load() != 3 {
				t.Errorf("%s: OnFinish was called %d times", name, finished.Load())
			}
		}
	})
}

// Call options are reset if the last attempt gets no stream: its metadata cannot be sent.
func TestClient_optionsResetWithoutStream(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		second := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			_ = next.Run(ctx)
			return next.Run(metadata.AppendToOutgoingContext(ctx, "bad key", ""))
		})
		c := serve(t, numbered(3), nil, unary(grpcmw.Client{Policy: second}))
		header, trailer := metadata.Pairs("mine", ""), metadata.Pairs("mine", "")
		from := peer.Peer{LocalAddr: nil}
		_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{}, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from))
		wantStatus(t, err, codes.Internal)
		if header != nil || trailer != nil || from.Addr != nil {
			t.Errorf("header %v, trailer %v, peer %v", header, trailer, from)
		}
	})
}

// Call options keep the last attempt's values if the next attempt is rejected.
func TestClient_optionsKeepBeforeRejection(t *testing.T) {
	once := make(chan struct{}, 1)
	once <- struct{}{}
	refused := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		select {
		case <-once:
			return next.Run(ctx)
		default:
			return &resilience.Rejection{Policy: "test", Reason: resilience.Open}
		}
	})
	c := memory.serve(t, numbered(3), nil, unary(grpcmw.Client{Policy: resilience.Compose(retries(t, retry.Config{}), refused)}))
	var trailer metadata.MD
	_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{}, grpc.Trailer(&trailer))
	wantStatus(t, err, codes.Unavailable)
	if !slices.Equal(trailer["number"], []string{"1"}) {
		t.Errorf("trailer %v", trailer)
	}
}

// The trailers of two calls are not mixed up, and may be used after the call.
func TestClient_trailersOfTwoCalls(t *testing.T) {
	c := memory.serve(t, numbered(0), nil, unary(grpcmw.Client{Policy: resilience.Compose()}))
	var first, second metadata.MD
	for _, md := range []*metadata.MD{&first, &second} {
		if _, err := c.UnaryCall(patience(t), &pb.SimpleRequest{}, grpc.Trailer(md), grpc.Trailer(md)); err != nil {
			t.Fatal(err)
		}
	}
	if first.Get("number")[0] != "1" || second.Get("number")[0] != "2" {
		t.Errorf("trailers %v, %v", first, second)
	}
}

// The caller's options are unchanged.
func TestClient_keepsOptions(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		c := serve(t, &service{}, nil, unary(grpcmw.Client{Policy: retries(t, retry.Config{})}))
		for _, n := range []int{0, 1, 3, 4, 9} {
			opts := make([]grpc.CallOption, n, n+8)
			for i := range opts {
				opts[i] = grpc.WaitForReady(true)
			}
			// All share the room behind the slice: the race detector sees a write.
			testkit.AtOnce(4, func(int) {
				if _, err := c.UnaryCall(patience(t), &pb.SimpleRequest{}, opts...); err != nil {
					t.Error(err)
				}
			})
			for i, o := range opts[:cap(opts)] {
				if (o != nil) != (i < n) || i < n && o != grpc.WaitForReady(true) {
					t.Errorf("%d options: number %d is %v", n, i, o)
				}
			}
		}
	})
}

// An option that an interceptor further in adds is there once in each attempt.
func TestClient_addedOptionOncePerAttempt(t *testing.T) {
	var seen []int
	add := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		opts = append(opts, grpc.WaitForReady(true))
		seen = append(seen, len(opts))
		return invoker(ctx, method, req, reply, cc, opts...)
	}
	c := memory.serve(t, numbered(3), nil, unary(grpcmw.Client{Policy: retries(t, retry.Config{})}), grpc.WithChainUnaryInterceptor(add))
	if _, err := c.UnaryCall(patience(t), &pb.SimpleRequest{}); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 3 || seen[0] != seen[1] || seen[1] != seen[2] {
		t.Errorf("%v options", seen)
	}
}

// Two interceptors that append to the same options do not overwrite each other's.
func TestClient_addedOptionsDoNotOverlap(t *testing.T) {
	check := func(opts []grpc.CallOption) {
		first := append(opts, grpc.WaitForReady(true))
		_ = append(opts, grpc.ForceCodecV2(nil))
		if _, ok := first[len(first)-1].(grpc.FailFastCallOption); !ok {
			t.Errorf("an option became %T", first[len(first)-1])
		}
	}
	c := grpcmw.Client{Policy: resilience.Compose()}
	_ = c.Unary(t.Context(), "/s/m", nil, nil, nil, func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
		check(opts)
		return nil
	})
	_, _ = c.Stream(t.Context(), &grpc.StreamDesc{}, nil, "/s/m", func(_ context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		check(opts)
		return &fakeStream{}, nil
	})
}
