package grpcmw_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/debug"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// payments is the service of the examples. Each of its methods is the same func.
type payments struct {
	pb.UnimplementedTestServiceServer
	do func(ctx context.Context) error
}

func (p payments) UnaryCall(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	return &pb.SimpleResponse{}, p.do(ctx)
}

func (p payments) EmptyCall(ctx context.Context, _ *pb.Empty) (*pb.Empty, error) {
	return &pb.Empty{}, p.do(ctx)
}

// StreamingOutputCall answers with two messages.
func (p payments) StreamingOutputCall(_ *pb.StreamingOutputCallRequest, stream pb.TestService_StreamingOutputCallServer) error {
	if err := stream.Send(&pb.StreamingOutputCallResponse{}); err != nil {
		return err
	}
	if err := p.do(stream.Context()); err != nil {
		return err
	}
	return stream.Send(&pb.StreamingOutputCallResponse{})
}

// A network in memory, and no TLS, make the examples run anywhere.
const target = "passthrough:///payments"

var creds = grpc.WithTransportCredentials(insecure.NewCredentials())

// inMemory serves the payments, and returns the way for a client to them.
func inMemory(srv *grpc.Server, p payments) (network grpc.DialOption) {
	pb.RegisterTestServiceServer(srv, p)
	lis := bufconn.Listen(1 << 16)
	go srv.Serve(lis)
	return grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) })
}

func ExampleClient() {
	calls := 0
	srv := grpc.NewServer()
	network := inMemory(srv, payments{do: func(ctx context.Context) error {
		if calls++; calls == 1 {
			return status.Error(codes.Unavailable, "busy")
		}
		fmt.Println("attempt", metadata.ValueFromIncomingContext(ctx, "retry-attempt"))
		return nil
	}})
	defer srv.Stop()

	client := grpcmw.Client{Policy: stack.Client("payments")}
	conn, err := grpc.NewClient(target, creds, network,
		grpc.WithChainUnaryInterceptor(client.Unary), grpc.WithChainStreamInterceptor(client.Stream))
	if err != nil {
		panic(err)
	}
	defer conn.Close()

	_, err = pb.NewTestServiceClient(conn).UnaryCall(context.Background(), &pb.SimpleRequest{})
	fmt.Println(status.Code(err))
	// Output:
	// attempt [2]
	// OK
}

func ExampleEndpoints() {
	network, stop := replicas("payments-1:443", "payments-2:443", "payments-3:443")
	defer stop()

	client := grpcmw.Client{Policy: stack.Client("payments")}
	endpoints := &grpcmw.Endpoints{Name: "payments-grpc", Observer: resilience.LogObserver(nil)}
	conn, err := grpc.NewClient("replicas:///payments:443", creds, network, endpoints.DialOption(),
		grpc.WithChainUnaryInterceptor(client.Unary), grpc.WithChainStreamInterceptor(client.Stream))
	if err != nil {
		panic(err)
	}
	defer conn.Close()

	failed := 0
	for range 100 {
		if _, err := pb.NewTestServiceClient(conn).UnaryCall(context.Background(), &pb.SimpleRequest{}); err != nil {
			failed++
		}
	}
	fmt.Println("one of three servers is broken, failed calls:", failed)

	page := debug.Handler(client.Policy, endpoints.Policy())
	response := httptest.NewRecorder()
	page.ServeHTTP(response, httptest.NewRequest("GET", "/debug/resilience", nil))
	fmt.Println("on the page:", strings.Contains(response.Body.String(), "payments-2:443"))
	// Output:
	// one of three servers is broken, failed calls: 0
	// on the page: true
}

// replicas serves the payments at each address, and returns the way for a client to them.
// The first server is broken.
func replicas(addresses ...string) (network grpc.DialOption, stop func()) {
	r := manual.NewBuilderWithScheme("replicas")
	resolver.Register(r)
	var s resolver.State
	servers := map[string]*grpc.Server{}
	listeners := map[string]*bufconn.Listener{}
	for i, address := range addresses {
		s.Addresses = append(s.Addresses, resolver.Address{Addr: address})
		servers[address], listeners[address] = grpc.NewServer(), bufconn.Listen(1<<16)
		pb.RegisterTestServiceServer(servers[address], payments{do: func(context.Context) error {
			if i == 0 {
				return status.Error(codes.Unavailable, "broken")
			}
			return nil
		}})
		go servers[address].Serve(listeners[address])
	}
	r.InitialState(s)
	stop = func() {
		for _, s := range servers {
			s.Stop()
		}
	}
	return grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return listeners[address].DialContext(ctx)
	}), stop
}

// What the policies of a client return has a status, and is what it was for
// errors.Is and errors.As.
func ExampleClient_errors() {
	srv := grpc.NewServer()
	network := inMemory(srv, payments{do: func(context.Context) error {
		return status.Error(codes.Unavailable, "down")
	}})
	defer srv.Stop()
	client := grpcmw.Client{Policy: resilience.Must(breaker.New(breaker.Config{
		Name:    "payments",
		Trip:    []breaker.Rule{breaker.Consecutive{Failures: 1}},
		OpenFor: time.Minute,
	}))}
	// When a server is back, gRPC must not wait for minutes before it dials again.
	connect := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: 5 * time.Second}
	connect.Backoff.MaxDelay = 2 * time.Second
	conn := resilience.Must(grpc.NewClient(target, creds, network, grpc.WithConnectParams(connect), grpc.WithChainUnaryInterceptor(client.Unary)))
	defer conn.Close()

	for range 2 {
		_, err := pb.NewTestServiceClient(conn).UnaryCall(context.Background(), &pb.SimpleRequest{})
		fmt.Println(status.Code(err), errors.Is(err, breaker.ErrOpen))
		if r, ok := errors.AsType[*resilience.Rejection](err); ok {
			fmt.Println(r.Name, "is", r.Reason, "because of:", r.Cause)
		}
	}
	// Output:
	// Unavailable false
	// Unavailable true
	// payments is open because of: rpc error: code = Unavailable desc = down
}

// Each method has a state of its own. One of them gets settings of its own, too.
func ExampleClient_methods() {
	calls := 0
	srv := grpc.NewServer()
	network := inMemory(srv, payments{do: func(context.Context) error {
		calls++
		return status.Error(codes.Unavailable, "down")
	}})
	defer srv.Stop()

	report := stack.DefaultClient("reports")
	report.Attempt.Timeout = time.Minute       // a report takes long
	report.Without = stack.Retry | stack.Keyed // too expensive to repeat; a stack for one method

	c := stack.DefaultClient("payments") // for all other methods
	c.Attempt.Timeout = 500 * time.Millisecond
	c.Retry.BaseDelay = time.Millisecond
	c.Keyed.Keys = map[string]resilience.Policy{
		resilience.Must(grpcmw.KeyOf(target, pb.TestService_UnaryCall_FullMethodName)): resilience.Must(report.New()),
	}
	client := grpcmw.Client{Policy: resilience.Must(c.New())}
	conn := resilience.Must(grpc.NewClient(target, creds, network, grpc.WithChainUnaryInterceptor(client.Unary)))
	defer conn.Close()

	service := pb.NewTestServiceClient(conn)
	_, err := service.UnaryCall(context.Background(), &pb.SimpleRequest{})
	fmt.Println("report:", status.Code(err), "after", calls, "calls")
	calls = 0
	_, err = service.EmptyCall(context.Background(), &pb.Empty{})
	fmt.Println("payment:", status.Code(err), "after", calls, "calls")
	// Output:
	// report: Unavailable after 1 calls
	// payment: Unavailable after 3 calls
}

// A payment is not made again, even if it may not have been made. A lookup is, also
// when the server has asked for less.
func ExampleClient_retryable() {
	lookups := []string{pb.TestService_EmptyCall_FullMethodName} // that change nothing
	client := grpcmw.Client{
		Policy: resilience.Must(retry.New(retry.Config{Name: "payments", BaseDelay: time.Millisecond})),
		Retryable: func(method string, err error) bool {
			if !slices.Contains(lookups, method) {
				return false
			}
			return status.Code(err) == codes.ResourceExhausted || grpcmw.DefaultRetryable(method, err)
		},
	}

	calls := 0
	code := codes.Unavailable
	srv := grpc.NewServer()
	network := inMemory(srv, payments{do: func(context.Context) error {
		calls++
		return status.Error(code, "")
	}})
	defer srv.Stop()
	conn := resilience.Must(grpc.NewClient(target, creds, network, grpc.WithChainUnaryInterceptor(client.Unary)))
	defer conn.Close()

	service := pb.NewTestServiceClient(conn)
	_, err := service.UnaryCall(context.Background(), &pb.SimpleRequest{})
	fmt.Println("payment:", status.Code(err), "after", calls, "calls")
	calls, code = 0, codes.ResourceExhausted
	_, err = service.EmptyCall(context.Background(), &pb.Empty{})
	fmt.Println("lookup:", status.Code(err), "after", calls, "calls")
	// Output:
	// payment: Unavailable after 1 calls
	// lookup: ResourceExhausted after 3 calls
}

// The limit of an attempt is for the time up to the first message. The rest of the
// stream may take as long as it likes. Its slot is free when it has been read to its
// end.
func ExampleClient_stream() {
	proceed := make(chan bool)
	srv := grpc.NewServer()
	network := inMemory(srv, payments{do: func(context.Context) error {
		<-proceed
		return nil
	}})
	defer srv.Stop()

	now := clock.NewMock() // an hour shall pass at once here
	slots := resilience.Must(bulkhead.New(bulkhead.Config{Name: "payments", Slots: 10}))
	client := grpcmw.Client{Policy: resilience.Compose(slots,
		resilience.Must(timeout.New(timeout.Config{Name: "payments", Timeout: 5 * time.Second, Until: resilience.Answered, Clock: now})),
	)}
	conn := resilience.Must(grpc.NewClient(target, creds, network, grpc.WithChainStreamInterceptor(client.Stream)))
	defer conn.Close()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // a stream that is not read to its end ends here
	stream, err := pb.NewTestServiceClient(conn).StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = stream.Recv()
	fmt.Println("a message, error", err, "- slots taken:", slots.Stats().InFlight)
	now.Add(time.Hour)
	close(proceed)
	for err == nil {
		if _, err = stream.Recv(); err == nil {
			fmt.Println("a message an hour later")
		}
	}
	fmt.Println(err == io.EOF, "- slots taken:", slots.Stats().InFlight)
	// Output:
	// a message, error <nil> - slots taken: 1
	// a message an hour later
	// true - slots taken: 0
}

// Where the service config has a retry policy gRPC retries, streams included, and the
// retry of the Policy does not.
func ExampleClient_serviceConfig() {
	calls := 0
	srv := grpc.NewServer()
	network := inMemory(srv, payments{do: func(context.Context) error {
		calls++
		return status.Error(codes.Unavailable, "down")
	}})
	defer srv.Stop()
	tries := resilience.Must(retry.New(retry.Config{Name: "payments", BaseDelay: time.Millisecond}))
	client := grpcmw.Client{Policy: resilience.Must(keyed.New(tries, keyed.Config{Name: "payments"}))}
	config := grpc.WithDefaultServiceConfig(`{"methodConfig": [{
		"name": [{"service": "grpc.testing.TestService", "method": "UnaryCall"}],
		"retryPolicy": {
			"maxAttempts": 2, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1,
			"retryableStatusCodes": ["UNAVAILABLE"]
		}
	}]}`)
	conn := resilience.Must(grpc.NewClient(target, creds, network, config, grpc.WithChainUnaryInterceptor(client.Unary)))
	defer conn.Close()

	service := pb.NewTestServiceClient(conn)
	service.UnaryCall(context.Background(), &pb.SimpleRequest{})
	fmt.Println(calls, "calls by gRPC")
	calls = 0
	service.EmptyCall(context.Background(), &pb.Empty{})
	fmt.Println(calls, "calls by the Policy")
	// Output:
	// 2 calls by gRPC
	// 3 calls by the Policy
}

// A service that is called over gRPC and over HTTP is one dependency: one breaker
// counts both.
func ExampleClient_http() {
	shared := resilience.Must(breaker.New(breaker.Config{
		Name:    "payments",
		Trip:    []breaker.Rule{breaker.Consecutive{Failures: 2}},
		OpenFor: time.Minute,
	}))

	srv := grpc.NewServer()
	network := inMemory(srv, payments{do: func(context.Context) error { return status.Error(codes.Internal, "down") }})
	defer srv.Stop()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "down", http.StatusInternalServerError)
	}))
	defer web.Close()

	overHTTP := &http.Client{Transport: &httpmw.Transport{Policy: shared}}
	defer overHTTP.CloseIdleConnections()
	client := grpcmw.Client{Policy: shared}
	conn := resilience.Must(grpc.NewClient(target, creds, network, grpc.WithChainUnaryInterceptor(client.Unary)))
	defer conn.Close()
	service := pb.NewTestServiceClient(conn)

	_, err := service.EmptyCall(context.Background(), &pb.Empty{})
	fmt.Println(status.Code(err), shared.State())
	resp, err := overHTTP.Get(web.URL)
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status, shared.State())
	_, err = service.EmptyCall(context.Background(), &pb.Empty{})
	fmt.Println(status.Code(err), errors.Is(err, breaker.ErrOpen))
	// Output:
	// Internal CLOSED
	// 500 Internal Server Error OPEN
	// Unavailable true
}

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

var reports = []string{"/payments.v1.Payments/Year"} // methods

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
