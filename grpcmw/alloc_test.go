package grpcmw_test

import (
	"context"
	"io"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

var held = resilience.Compose(&testkit.Holder{At: resilience.Answered}, &testkit.Holder{At: resilience.Ended})

// A unary call through a Client allocates once more than without it.
func TestClient_unaryAllocatesOnceMore(t *testing.T) {
	ctx := t.Context()
	ok := invoke(nil, nil)
	var header, trailer metadata.MD
	three := []grpc.CallOption{grpc.Header(&header), grpc.Trailer(&trailer), grpc.WaitForReady(true)}
	for name, policy := range map[string]resilience.Policy{"no policy": resilience.Compose(), "held": held, "retry": stubborn(3)} {
		for _, opts := range [][]grpc.CallOption{nil, three} {
			c := grpcmw.Client{Policy: policy}
			got := testing.AllocsPerRun(100, func() {
				if err := c.Unary(ctx, "/s/m", nil, nil, nil, ok, opts...); err != nil {
					t.Fatal(err)
				}
			})
			if got != 1 {
				t.Errorf("%s, %d options: %v allocations more", name, len(opts), got)
			}
		}
	}
}

// A unary call through a Server allocates once more than without it.
func TestServer_unaryAllocatesOnceMore(t *testing.T) {
	ctx := t.Context()
	info := &grpc.UnaryServerInfo{FullMethod: "/s/m"}
	handler := func(_ context.Context, req any) (any, error) { return req, nil }
	priority := func(context.Context, string) resilience.Priority { return resilience.Low }
	caller := func(_ context.Context, method string) string { return method }
	for name, s := range map[string]grpcmw.Server{
		"no policy":     {Policy: resilience.Compose()},
		"held":          {Policy: held},
		"no ranks":      {Policy: &ranking{times: 2}},
		"ranks":         {Policy: held, Priority: priority, Caller: caller},
		"ranks in need": {Policy: &ranking{times: 2}, Priority: priority, Caller: caller},
	} {
		got := testing.AllocsPerRun(100, func() {
			if _, err := s.Unary(ctx, info, info, handler); err != nil {
				t.Fatal(err)
			}
		})
		if got != 1 {
			t.Errorf("%s: %v allocations more", name, got)
		}
	}
}

// A stream costs two allocations, and its messages none.
func TestClient_streamAllocatesTwice(t *testing.T) {
	b := resilience.Must(breaker.New(breaker.Config{}))
	for name, p := range map[string]resilience.Policy{
		"no policy": resilience.Compose(),
		"a breaker": b,
		"three":     resilience.Compose(b, &testkit.Holder{At: resilience.Ended}, &testkit.Holder{At: resilience.Answered}),
	} {
		var left int
		var onFinish func(error)
		stub := &fakeStream{recv: func() error {
			if left--; left >= 0 {
				return nil
			}
			onFinish(nil)
			return io.EOF
		}}
		streamer := func(_ context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			onFinish = opts[0].(grpc.OnFinishCallOption).OnFinish
			return stub, nil
		}
		client := grpcmw.Client{Policy: p}
		opts := []grpc.CallOption{grpc.StaticMethod(), grpc.WaitForReady(true)}
		use := func(messages int) float64 {
			return testing.AllocsPerRun(100, func() {
				left = messages
				cs, err := client.Stream(context.Background(), duplexDesc, nil, "/s/m", streamer, opts...)
				if err != nil {
					t.Fatal(err)
				}
				for err == nil {
					_ = cs.SendMsg(nil)
					err = cs.RecvMsg(nil)
				}
			})
		}
		if n := use(1); n > 2 {
			t.Errorf("%s: a stream costs %v allocations", name, n)
		}
		if one, many := use(1), use(100); many != one {
			t.Errorf("%s: %v allocations for one message, %v for a hundred", name, one, many)
		}
	}
}
