package interop_test

import (
	"context"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// moody makes a server that is sometimes busy or slow.
type moody struct{ n atomic.Int64 }

func (m *moody) mood(ctx context.Context) error {
	switch i := m.n.Add(1); {
	case i%50 == 0:
		return status.Error(codes.Unavailable, "busy")
	case i%60 == 0:
		select {
		case <-ctx.Done():
		case <-time.After(2 * faultLimit):
		}
	}
	return nil
}

func (m *moody) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := m.mood(ctx); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (m *moody) stream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := m.mood(s.Context()); err != nil {
		return err
	}
	return handler(srv, s)
}

// startMoody starts a moody server and returns its slots. stop ends the server and all
// its handlers.
func startMoody(t *testing.T) (address string, slots *bulkhead.Bulkhead, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, m := withSlots(), &moody{}
	in := grpcmw.Server{Policy: p}
	s := grpc.NewServer(grpc.WaitForHandlers(true),
		grpc.ChainUnaryInterceptor(in.Unary, m.unary), grpc.ChainStreamInterceptor(in.Stream, m.stream))
	pb.RegisterTestServiceServer(s, interop.NewTestServer())
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	stop = sync.OnceFunc(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return l.Addr().String(), find[*bulkhead.Bulkhead](p), stop
}

// Network faults leave nothing of gRPC behind: every unary call and stream has ended,
// both sides have no slot in use, and the process uses no more than before.
func TestFaults_grpc(t *testing.T) {
	before := measure()
	address, slots, stopServer := startMoody(t)
	network := newNetwork(address)
	proxy := network.up(t)
	clients := []*talker{
		newTalker(t, "our retries", network),
		newTalker(t, "retries of gRPC", network, grpc.WithDefaultServiceConfig(serviceConfig)),
	}

	load(t, func(i int) { clients[i%len(clients)].call(t.Context(), i/len(clients)) }, func() {
		proxy.Stop()
		proxy = network.suffer(t, duration(t, 10*time.Second, 2*time.Second))
	})

	for _, c := range clients {
		eventually(t, c.name+" has recovered", func() bool {
			ok := c.ok.Load()
			c.call(t.Context(), 0)
			return c.ok.Load() > ok
		})
		free(t, find[*bulkhead.Bulkhead](c.policy))
		c.account(t)
	}
	ours, theirs := find[*retry.Retry](clients[0].policy).Stats().Retries, find[*retry.Retry](clients[1].policy).Stats().Retries
	if ours == 0 || theirs != 0 {
		t.Errorf("%d retries of ours, and %d with a service config that has its own", ours, theirs)
	}
	free(t, slots)
	for _, c := range clients {
		c.conn.Close()
	}
	proxy.Stop()
	stopServer()
	settle(t, before)
	runtime.KeepAlive(clients)
	runtime.KeepAlive(network)
}
