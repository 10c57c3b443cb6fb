package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/stack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// fault is what is wrong with the server.
type fault int32

const (
	healthy     fault = iota
	flaky             // one call in ten is turned away
	hanging           // no call comes back
	unavailable       // all calls are turned away
)

func (f fault) String() string { return [...]string{"healthy", "flaky", "hanging", "unavailable"}[f] }

// means says what a caller without policies would meet.
func (f fault) means() string {
	return [...]string{"it answers", "it turns away one call in ten", "no call comes back", "it turns all calls away"}[f]
}

// payments is the server.
type payments struct {
	pb.UnimplementedTestServiceServer
	fault    atomic.Int32
	attempts atomic.Int64 // that have reached it since the last row
}

func (p *payments) start() *grpc.Server {
	guard := grpcmw.Server{Policy: stack.Server("payments")}
	srv := grpc.NewServer(grpc.ChainUnaryInterceptor(guard.Unary), grpc.ChainStreamInterceptor(guard.Stream))
	pb.RegisterTestServiceServer(srv, p)
	return srv
}

func (p *payments) UnaryCall(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	n := p.attempts.Add(1)
	switch f := fault(p.fault.Load()); {
	case f == hanging:
		<-ctx.Done() // the limit of the attempt has come with the call
		return nil, ctx.Err()
	case f == unavailable, f == flaky && n%10 == 0:
		return nil, status.Error(codes.Unavailable, "out of order")
	}
	time.Sleep(takes)
	return &pb.SimpleResponse{}, nil
}

// dial returns a guarded connection. t hears what its policies do.
func dial(t *table, target string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	c := stack.DefaultClient("payments")
	c.Attempt.Timeout = attempt
	c.Observer = t
	policy, err := c.New()
	if err != nil {
		return nil, err
	}
	guard := grpcmw.Client{Policy: policy}
	return grpc.NewClient(target, append(options,
		grpc.WithChainUnaryInterceptor(guard.Unary), grpc.WithChainStreamInterceptor(guard.Stream))...)
}

// play lets the server go through the phases while it is called, and waits for the
// calls.
func play(ctx context.Context, t *table, server *payments, conn *grpc.ClientConn, phases []phase) error {
	var calls sync.WaitGroup
	defer calls.Wait()
	client := pb.NewTestServiceClient(conn)
	call := func() {
		// A call outlives an interrupt, so that there is a result for each.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callersOwn)
		defer cancel()
		start := time.Now()
		_, err := client.UnaryCall(ctx, &pb.SimpleRequest{})
		t.record(time.Since(start), err)
	}

	tick := time.NewTicker(callEvery)
	defer tick.Stop()
	steps := 0
	for _, p := range phases {
		server.fault.Store(int32(p.fault))
		t.note("the server is %v: %s", p.fault, p.fault.means())
		for range p.length / callEvery {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
				calls.Go(call)
			}
			if steps++; steps%int(rowEvery/callEvery) == 0 {
				t.row(p.fault, server.attempts.Swap(0))
			}
		}
	}
	return nil
}
