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
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
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

// methods
