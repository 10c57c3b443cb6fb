package grpc_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/stack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/interop"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

// log is a logger without output. The cases of package interop end in Fatal when they
// fail; that panics here.
type log struct{ grpclog.LoggerV2 }

func newLog() log { return log{grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)} }

type fatal string

func (log) Fatal(args ...any)                 { panic(fatal(fmt.Sprint(args...))) }
func (log) Fatalln(args ...any)               { panic(fatal(fmt.Sprintln(args...))) }
func (log) Fatalf(format string, args ...any) { panic(fatal(fmt.Sprintf(format, args...))) }

// complaint runs a case and returns its failure.
func complaint(f func()) (failed string) {
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(fatal)
			if !ok {
				panic(r)
			}
			failed = strings.TrimSpace(string(f))
		}
	}()
	f()
	return ""
}

// cases are the cases of package interop that a server without credentials supports,
// with the outcomes that a breaker counts for each.
var cases = map[string]struct {
	run  func(context.Context, *grpc.ClientConn)
	want outcomes
}{
	"empty_unary":                 {test(interop.DoEmptyUnaryCall), outcomes{successes: 1}},
	"large_unary":                 {test(interop.DoLargeUnaryCall), outcomes{successes: 1}},
	"client_streaming":            {test(interop.DoClientStreaming), outcomes{successes: 1}},
	"server_streaming":            {test(interop.DoServerStreaming), outcomes{successes: 1}},
	"ping_pong":                   {test(interop.DoPingPong), outcomes{successes: 1}},
	"empty_stream":                {test(interop.DoEmptyStream), outcomes{successes: 1}},
	"timeout_on_sleeping_server":  {test(interop.DoTimeoutOnSleepingServer), outcomes{failures: 1}},
	"cancel_after_begin":          {test(interop.DoCancelAfterBegin), outcomes{ignored: 1}},
	"cancel_after_first_response": {test(interop.DoCancelAfterFirstResponse), outcomes{successes: 1}},
	"custom_metadata":             {test(interop.DoCustomMetadata), outcomes{successes: 2}},
	"status_code_and_message":     {test(interop.DoStatusCodeAndMessage), outcomes{failures: 2}}, // the status is UNKNOWN
	"special_status_message":      {test(interop.DoSpecialStatusMessage), outcomes{failures: 1}},
	"unimplemented_method":        {interop.DoUnimplementedMethod, outcomes{successes: 1}},
	"unimplemented_service": {func(ctx context.Context, conn *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, pb.NewUnimplementedServiceClient(conn))
	}, outcomes{successes: 1}},
}

// test returns a case that uses a client of the test service.
func test(do func(context.Context, pb.TestServiceClient, ...grpc.CallOption)) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, conn *grpc.ClientConn) { do(ctx, pb.NewTestServiceClient(conn)) }
}

func registerCases(s *grpc.Server) { pb.RegisterTestServiceServer(s, interop.NewTestServer()) }

// The interop cases of grpc-go pass through a client and a server with policies.
func TestInteropCases(t *testing.T) {
	for kind, listen := range networks {
		for name, c := range cases {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				o, in := outOf(stack.Client("test")), stack.DefaultServer("test")
				in.Bulkhead = bulkhead.Config{Name: "test", Slots: 1000, MaxQueue: -1}
				doors := resilience.Must(in.New())
				slots := find[*bulkhead.Bulkhead](doors)
				server := grpcmw.Server{Policy: doors}
				n := listen(t)
				n.serve(t, registerCases, grpc.ChainUnaryInterceptor(server.Unary), grpc.ChainStreamInterceptor(server.Stream))
				conn := n.dial(t, o.options()...)
				if s := complaint(func() { c.run(limit(t), conn) }); s != "" {
					t.Error(s)
				}
				free(t, o.slots, slots)
				if name == "timeout_on_sleeping_server" && judged(o.breaker) == (outcomes{}) {
					return // the timeout of 1 ms may pass before there is a call to count
				}
				wantJudged(t, o.breaker, c.want)
			})
		}
	}
}

// A failing interop case fails the test.
func TestInteropCases_failure(t *testing.T) {
	n := inMemory(t)
	n.serve(t, (&service{}).register)
	refuse := grpcmw.Client{Policy: testkit.Policy(func(context.Context, resilience.Next) error {
		return &resilience.Rejection{Policy: "test", Reason: resilience.Open}
	})}
	conn := n.dial(t, grpc.WithChainUnaryInterceptor(refuse.Unary), grpc.WithChainStreamInterceptor(refuse.Stream))
	for name, c := range cases {
		if name == "timeout_on_sleeping_server" {
			continue // its deadline may pass first
		}
		if complaint(func() { c.run(limit(t), conn) }) == "" {
			t.Errorf("%s succeeds against a client that refuses", name)
		}
	}
}
