package grpc_test

import (
	"context"
	"errors"
	"testing"

	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/stack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

// serving starts a server with health checks and reflection. If done is not nil, its
// service answers when done is closed.
func serving(t *testing.T, n network, i in, done chan struct{}) *health.Server {
	t.Helper()
	h := health.NewServer()
	s := answering(func(ctx context.Context) error {
		if done == nil {
			return nil
		}
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	n.serve(t, func(srv *grpc.Server) {
		s.register(srv)
		healthpb.RegisterHealthServer(srv, h)
		reflection.Register(srv)
	}, i.options()...)
	return h
}

// infrastructure holds the calls that no policy may reject.
var infrastructure = map[string]func(context.Context, *grpc.ClientConn) error{
	"health check": func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		return err
	},
	"health list": func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := healthpb.NewHealthClient(conn).List(ctx, &healthpb.HealthListRequest{})
		return err
	},
	"health watch": func(ctx context.Context, conn *grpc.ClientConn) error {
		s, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = s.Recv()
		}
		return err
	},
	"reflection":         reflected("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
	"reflection v1alpha": reflected("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
}

// reflected calls a method of reflection, whose messages are the same in all versions.
func reflected(method string) func(context.Context, *grpc.ClientConn) error {
	return func(ctx context.Context, conn *grpc.ClientConn) error {
		s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
		if err != nil {
			return err
		}
		ask := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
		if err := s.SendMsg(ask); err != nil {
			return err
		}
		answer := new(reflectionpb.ServerReflectionResponse)
		if err := s.RecvMsg(answer); err != nil {
			return err
		}
		if len(answer.GetListServicesResponse().GetService()) == 0 {
			return errors.New("no services")
		}
		return nil
	}
}

// Health checks and reflection reach the server while every other call is rejected.
func TestExempt_healthAndReflection(t *testing.T) {
	for name, test := range map[string]struct {
		full, open bool // the bulkhead, the breaker
		inside     bool // of the client, or else of the server
		code       codes.Code
	}{
		"the server is full":        {full: true, code: codes.ResourceExhausted},
		"the client is full":        {full: true, inside: true, code: codes.ResourceExhausted},
		"the breaker there is open": {open: true, code: codes.Unavailable},
		"the breaker here is open":  {open: true, inside: true, code: codes.Unavailable},
		"nothing is against it":     {code: codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOut(func(c *stack.ClientConfig) { c.Bulkhead.MaxQueue = -1; c.Bulkhead.Slots = 2; c.Without |= stack.Retry })
			i := newIn(2)
			slots, fuse := i.slots, i.breaker
			if test.inside {
				slots, fuse = o.slots, o.breaker
			}
			n := inMemory(t)
			serving(t, n, i, nil)
			conn := n.dial(t, o.options()...)
			if test.full {
				for range 2 {
					permit, err := slots.Acquire(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					defer permit.Release(nil)
				}
			}
			if test.open {
				fuse.SetMode(breaker.ForcedOpen)
			}
			for kind, call := range calls {
				if err := call(limit(t), conn); status.Code(err) != test.code {
					t.Errorf("%s: %v, want %v", kind, err, test.code)
				}
			}
			if !test.open || !test.inside {
				eventually(t, "the breaker has judged the calls", func() bool {
					o := judged(o.breaker)
					return o.successes+o.failures+o.ignored == uint64(len(calls))
				})
			}
			before := [2]outcomes{judged(o.breaker), judged(i.breaker)}
			for name, call := range infrastructure {
				if err := call(limit(t), conn); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if after := [2]outcomes{judged(o.breaker), judged(i.breaker)}; after != before {
				t.Errorf("the breakers heard of it: %+v, and before %+v", after, before)
			}
		})
	}
}

// A full server is healthy for a balancer that watches the health of servers, and the
// watch takes no slot.
func TestExempt_fullServerIsHealthy(t *testing.T) {
	const checking = `{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}`
	n, i, o := inMemory(t), newIn(1), newOut(func(c *stack.ClientConfig) { c.Without |= stack.Retry })
	done := make(chan struct{})
	h := serving(t, n, i, done)
	busy := make(chan error, 1)
	conn := n.dial(t, append(o.options(), grpc.WithDefaultServiceConfig(checking))...)
	go func() { busy <- unary(limit(t), conn) }()
	eventually(t, "the server is full", func() bool { return i.slots.Stats().InFlight == 1 })
	i.breaker.SetMode(breaker.ForcedOpen)

	other := n.dial(t, append(o.options(), grpc.WithDefaultServiceConfig(checking))...)
	other.Connect()
	await(t, other, connectivity.Ready)
	i.breaker.SetMode(breaker.Auto)
	wantCode(t, unary(limit(t), other), codes.ResourceExhausted)

	h.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	await(t, other, connectivity.TransientFailure)
	before := judged(o.breaker).failures
	wantCode(t, unary(limit(t), other), codes.Unavailable)
	if got := judged(o.breaker).failures - before; got != 1 {
		t.Errorf("%d failures for want of a healthy server", got)
	}
	h.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	await(t, other, connectivity.Ready)

	close(done)
	if err := <-busy; err != nil {
		t.Error(err)
	}
	free(t, i.slots, o.slots)
	if err := unary(limit(t), other); err != nil {
		t.Error(err)
	}
}

func await(t *testing.T, conn *grpc.ClientConn, want connectivity.State) {
	t.Helper()
	for ctx := limit(t); ; {
		state := conn.GetState()
		if state == want {
			return
		}
		if !conn.WaitForStateChange(ctx, state) {
			t.Fatalf("still %v, want %v", state, want)
		}
	}
}
