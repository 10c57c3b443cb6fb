package grpcmw

import (
	"context"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// What gRPC reports about a connection that it has not used, or that the server has left in
// good order, is no evidence about the endpoint.
func TestAttempt_result(t *testing.T) {
	err := func(code codes.Code, text string) error { return status.Error(code, text) }
	for _, test := range []struct {
		name string
		done balancer.DoneInfo
		want endpoint.Result
	}{
		{"not used", balancer.DoneInfo{}, endpoint.Ignored},
		{"OK", balancer.DoneInfo{BytesSent: true, BytesReceived: true}, endpoint.Success},
		{"not sent", balancer.DoneInfo{Err: err(codes.Unavailable, "transport is closing")}, endpoint.Ignored},
		{"left", balancer.DoneInfo{Err: err(codes.Unavailable, "the connection is draining"), BytesSent: true}, endpoint.Ignored},
		{"refused stream", balancer.DoneInfo{Err: err(codes.Unavailable, "stream terminated by RST_STREAM with error code: REFUSED_STREAM"), BytesSent: true}, endpoint.Failure},
		{"broken", balancer.DoneInfo{Err: err(codes.Unavailable, "error reading from server: EOF"), BytesSent: true}, endpoint.Unreachable},
		{"broken later", balancer.DoneInfo{Err: err(codes.Unavailable, "error reading from server: EOF"), BytesSent: true, BytesReceived: true}, endpoint.Failure},
		{"server's deadline", balancer.DoneInfo{Err: err(codes.DeadlineExceeded, ""), BytesSent: true, BytesReceived: true}, endpoint.Failure},
	} {
		a := &attempt{ctx: t.Context(), method: "/s/m"}
		if got := a.result(test.done); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// A call has a Trail if a connection of the process uses the balancer. Otherwise it costs
// nothing.
func TestClient_trail(t *testing.T) {
	defer balancing.Store(balancing.Load())
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := Client{Policy: resilience.Compose()}
	for _, on := range []bool{false, true} {
		balancing.Store(on)
		var trail *endpoint.Trail
		invoker := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
			trail = endpoint.TrailOf(ctx)
			return nil
		}
		call := func(ctx context.Context) {
			if err := c.Unary(ctx, "/s/m", nil, nil, conn, invoker); err != nil {
				t.Fatal(err)
			}
		}
		ctx := t.Context()
		if n := testing.AllocsPerRun(100, func() { call(ctx) }); !on && n != 1 {
			t.Errorf("a call allocates %v times", n)
		}
		if (trail != nil) != on {
			t.Errorf("balancer %t: the trail is %p", on, trail)
		}
		outer := &endpoint.Trail{}
		if call(endpoint.WithTrail(ctx, outer)); trail != outer {
			t.Error("the caller's Trail is not used")
		}
	}
}
