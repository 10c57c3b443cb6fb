// Command grpc calls a gRPC service that fails and breaks, through the default client
// stack. The server has the default server stack in front of its handlers.
//
//	go run ./examples/grpc
//
// Its output shows that an attempt that ends with UNAVAILABLE is retried, that a hanging
// server costs each caller the timeout until the breaker opens, and how soon the
// client finds out that the server is back.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/stack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "grpc:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	service := &payments{}
	server := newServer(service)
	go func() { _ = server.Serve(listener) }() // until Stop
	defer server.Stop()

	conn, err := dial(listener.Addr().String())
	if err != nil {
		return err
	}
	defer conn.Close()
	client := pb.NewTestServiceClient(conn)
	var took time.Duration
	call := func() error {
		start := time.Now()
		_, err := client.UnaryCall(ctx, &pb.SimpleRequest{})
		took = time.Since(start)
		return err
	}

	service.unavailable.Store(1)
	err = call()
	fmt.Fprintf(w, "one attempt fails:   %v after %d attempts\n", status.Code(err), service.attempts.Load())

	service.hanging.Store(true)
	err = call()
	fmt.Fprintf(w, "the server hangs:    %v after %v\n", status.Code(err), took.Round(10*time.Millisecond))
	calls := 1
	for ; !errors.Is(err, resilience.ErrRejected); calls++ {
		err = call()
	}
	fmt.Fprintf(w, "the breaker opens:   %v at once, after %d failed calls\n", status.Code(err), calls-1)

	service.hanging.Store(false)
	start := time.Now()
	for err != nil {
		time.Sleep(10 * time.Millisecond)
		err = call()
	}
	fmt.Fprintf(w, "the server is back:  %v after %v\n", status.Code(err), time.Since(start).Round(10*time.Millisecond))
	return nil
}

// dial returns a connection that has a breaker, a bulkhead and a retry budget for
// each method. The timeout is for one attempt.
func dial(target string) (*grpc.ClientConn, error) {
	c := stack.DefaultClient("payments")
	c.Attempt.Timeout = 100 * time.Millisecond
	client := grpcmw.Client{Policy: resilience.Must(c.New())}
	return grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(client.Unary), grpc.WithChainStreamInterceptor(client.Stream))
}

// newServer returns a server with a limit in front of its handlers.
func newServer(service *payments) *grpc.Server {
	server := grpcmw.Server{Policy: stack.Server("payments")}
	s := grpc.NewServer(grpc.ChainUnaryInterceptor(server.Unary), grpc.ChainStreamInterceptor(server.Stream))
	pb.RegisterTestServiceServer(s, service)
	return s
}

// payments is a service that can break.
type payments struct {
	pb.UnimplementedTestServiceServer
	attempts, unavailable atomic.Int64 // calls so far; how many of the next calls fail
	hanging               atomic.Bool
}

// UnaryCall implements pb.TestServiceServer.
func (p *payments) UnaryCall(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	p.attempts.Add(1)
	if p.hanging.Load() {
		<-ctx.Done() // the deadline of the attempt comes with the call
	}
	if p.unavailable.Add(-1) >= 0 {
		return nil, status.Error(codes.Unavailable, "restarting")
	}
	return &pb.SimpleResponse{}, ctx.Err()
}
