package grpcmw_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

func ExampleServer() {
	server := grpcmw.Server{Policy: stack.Server("payments")}
	srv := grpc.NewServer(grpc.ChainUnaryInterceptor(server.Unary), grpc.ChainStreamInterceptor(server.Stream))
	network := inMemory(srv, payments{do: func(context.Context) error { return nil }})
	defer srv.Stop()

	conn := resilience.Must(grpc.NewClient(target, creds, network))
	defer conn.Close()
	_, err := pb.NewTestServiceClient(conn).UnaryCall(context.Background(), &pb.SimpleRequest{})
	fmt.Println(status.Code(err))
	// Output: OK
}

// The only slot is taken. The client gets the reason, and the time until a retry.
func ExampleServer_full() {
	busy, done := make(chan bool), make(chan bool)
	policy := resilience.Must(bulkhead.New(bulkhead.Config{Name: "payments", Slots: 1, MaxQueue: bulkhead.NoQueue}))
	server := grpcmw.Server{Policy: policy}
	srv := grpc.NewServer(grpc.ChainUnaryInterceptor(server.Unary), grpc.ChainStreamInterceptor(server.Stream))
	network := inMemory(srv, payments{do: func(context.Context) error {
		busy <- true
		<-done
		return nil
	}})
	defer srv.Stop()

	conn := resilience.Must(grpc.NewClient(target, creds, network))
	defer conn.Close()
	service := pb.NewTestServiceClient(conn)
	first := make(chan error)
	go func() {
		_, err := service.UnaryCall(context.Background(), &pb.SimpleRequest{})
		first <- err
	}()
	<-busy

	_, err := service.UnaryCall(context.Background(), &pb.SimpleRequest{})
	fmt.Println(status.Code(err))
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			fmt.Println("in", info.GetRetryDelay().AsDuration())
		}
	}
	close(done)
	fmt.Println(status.Code(<-first))
	// Output:
	// ResourceExhausted
	// in 1s
	// OK
}

// Each method has slots of its own.
func ExampleServer_methods() {
	busy, done := make(chan bool), make(chan bool)
	slots := resilience.Must(bulkhead.New(bulkhead.Config{Name: "payments", Slots: 1, MaxQueue: bulkhead.NoQueue}))
	server := grpcmw.Server{Policy: resilience.Must(keyed.New(slots, keyed.Config{Name: "payments"}))}
	srv := grpc.NewServer(grpc.ChainUnaryInterceptor(server.Unary), grpc.ChainStreamInterceptor(server.Stream))
	network := inMemory(srv, payments{do: func(ctx context.Context) error {
		if method, _ := grpc.Method(ctx); method == pb.TestService_UnaryCall_FullMethodName {
			busy <- true
			<-done
		}
		return nil
	}})
	defer srv.Stop()

	conn := resilience.Must(grpc.NewClient(target, creds, network))
	defer conn.Close()
	service := pb.NewTestServiceClient(conn)
	first := make(chan error)
	go func() {
		_, err := service.UnaryCall(context.Background(), &pb.SimpleRequest{})
		first <- err
	}()
	<-busy
	_, err := service.UnaryCall(context.Background(), &pb.SimpleRequest{})
	fmt.Println(status.Code(err))
	_, err = service.EmptyCall(context.Background(), &pb.Empty{})
	fmt.Println(status.Code(err))
	close(done)
	fmt.Println(status.Code(<-first))
	// Output:
	// ResourceExhausted
	// OK
	// OK
}

// The timeout is the deadline of the handler's context, so the handler must watch it.
func ExampleServer_limit() {
	deadline := resilience.Must(timeout.New(timeout.Config{Name: "payments", Timeout: 10 * time.Millisecond}))
	server := grpcmw.Server{Policy: deadline}
	srv := grpc.NewServer(grpc.ChainUnaryInterceptor(server.Unary), grpc.ChainStreamInterceptor(server.Stream))
	network := inMemory(srv, payments{do: func(ctx context.Context) error {
		<-ctx.Done() // a query that takes too long, and watches its context
		return ctx.Err()
	}})
	defer srv.Stop()

	conn := resilience.Must(grpc.NewClient(target, creds, network))
	defer conn.Close()
	_, err := pb.NewTestServiceClient(conn).UnaryCall(context.Background(), &pb.SimpleRequest{})
	fmt.Println(status.Code(err))
	// Output: DeadlineExceeded
}

// Reports take far longer than lookups: each group of methods has a limit of its own.
func ExampleServer_groups() {
	capacity := resilience.Must(limit.New(limit.Config{Name: "payments"}))
	groups := resilience.Must(keyed.New(capacity, keyed.Config{Name: "payments"}))
	server := grpcmw.Server{
		Policy: groups,
		Key: func(_ context.Context, method string) string {
			if slices.Contains(reports, method) {
				return "reports"
			}
			return "lookups"
		},
	}
	handler := func(context.Context, any) (any, error) { return nil, nil }
	for _, method := range []string{"/payments.v1.Payments/Get", "/payments.v1.Payments/List", reports[0]} {
		server.Unary(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: method}, handler)
	}
	for key := range groups.All() {
		fmt.Println(key)
	}
	// Unordered output:
	// lookups
	// reports
}

var reports = []string{"/payments.v1.Payments/Year"}

type accountKey struct{}

// authenticate stands for the interceptor that checks who makes a call.
func authenticate(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(context.WithValue(ctx, accountKey{}, "acme"), req)
}

func priority(_ context.Context, method string) resilience.Priority {
	if slices.Contains(reports, method) {
		return resilience.Low
	}
	return resilience.Critical
}

// account returns the name that the interceptor for authentication has found.
func account(ctx context.Context, _ string) string {
	name, _ := ctx.Value(accountKey{}).(string)
	return name
}

// In an overload, reports are rejected first, and each account gets a fair share.
func ExampleServer_priority() {
	policy := resilience.Compose(printRank, stack.Server("payments"))
	server := grpcmw.Server{
		Policy:   policy,
		Priority: priority,
		Caller:   account,
	}
	handler := func(context.Context, any) (any, error) { return nil, nil }
	for _, method := range []string{"/payments.v1.Payments/Charge", reports[0]} {
		info := &grpc.UnaryServerInfo{FullMethod: method}
		authenticate(context.Background(), nil, info, func(ctx context.Context, req any) (any, error) {
			return server.Unary(ctx, req, info, handler)
		})
	}
	// Output:
	// critical acme
	// low acme
}

// printRank is a policy that prints the rank of each operation.
var printRank = resilience.PolicyFunc(func(ctx context.Context, next resilience.Next) error {
	fmt.Println(next.Rank())
	return next.Run(ctx)
})
