// Package grpc_test tests package grpcmw with grpc-go and other packages that speak
// gRPC.
package grpc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/grpclog"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(newLog()) // it may not change once there is a connection
	code := m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}

// patience is how long to wait for events that must happen.
const patience = 20 * time.Second

// out is a client stack with access to its policies.
type out struct {
	grpcmw.Client
	retry   *retry.Retry
	breaker *breaker.Breaker
	slots   *bulkhead.Bulkhead
}

// newOut returns the default client stack after change, with very short waits and
// without a budget.
func newOut(change ...func(*stack.ClientConfig)) out {
	c := stack.DefaultClient("test")
	c.Without |= stack.Keyed
	c.Retry.BaseDelay = time.Millisecond
	c.Retry.Budget = -1
	for _, f := range change {
		f(&c)
	}
	return outOf(resilience.Must(c.New()))
}

func outOf(p resilience.Policy) out {
	return out{grpcmw.Client{Policy: p}, find[*retry.Retry](p), find[*breaker.Breaker](p), find[*bulkhead.Bulkhead](p)}
}

func (o out) options() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(o.Unary), grpc.WithChainStreamInterceptor(o.Stream)}
}

// outcomes counts the calls that a breaker has judged.
type outcomes struct{ successes, failures, ignored uint64 }

func judged(b *breaker.Breaker) outcomes {
	s := b.Stats()
	return outcomes{s.Successes, s.Failures, s.Ignored}
}

// wantJudged waits until the breaker has judged calls as want says. gRPC may end a stream on
// a goroutine of its own, which records the result after it has freed the slot.
func wantJudged(t testing.TB, b *breaker.Breaker, want outcomes) {
	t.Helper()
	defer func() {
		if got := judged(b); got != want {
			t.Errorf("the breaker judged %+v, want %+v", got, want)
		}
	}()
	eventually(t, "the breaker has judged all calls", func() bool { return judged(b) == want })
}

// in is the policy of a server with access to its parts.
type in struct {
	grpcmw.Server
	breaker *breaker.Breaker
	slots   *bulkhead.Bulkhead
}

// newIn returns a breaker and a bulkhead with the given slots and no queue.
func newIn(limit int) in {
	b := resilience.Must(breaker.New(breaker.Config{Name: "test"}))
	s := resilience.Must(bulkhead.New(bulkhead.Config{Name: "test", Slots: limit, MaxQueue: -1}))
	return in{grpcmw.Server{Policy: resilience.Compose(b, s)}, b, s}
}

func (i in) options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(i.Unary), grpc.ChainStreamInterceptor(i.Stream)}
}

// find returns the policy of type P in p.
func find[P resilience.Policy](p resilience.Policy) (found P) {
	for n := range resilience.Walk(p) {
		inner := n.Policy
		if f, ok := inner.(P); ok {
			found = f
		}
	}
	return found
}

// network is a listener for a server and the options to dial it.
type network struct {
	net.Listener
	server []grpc.ServerOption
	client []grpc.DialOption
	target string
}

// networks holds the networks by name.
var networks = map[string]func(testing.TB) network{"bufconn": inMemory, "TCP with TLS": secured}

var insecurely = grpc.WithTransportCredentials(insecure.NewCredentials())

func inMemory(testing.TB) network {
	l := bufconn.Listen(1 << 20)
	dial := func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }
	return network{l, nil, []grpc.DialOption{grpc.WithContextDialer(dial), insecurely}, "passthrough:///bufconn"}
}

func secured(t testing.TB) network {
	https := httptest.NewTLSServer(nil) // for its certificate
	https.Close()
	roots := x509.NewCertPool()
	roots.AddCert(https.Certificate())
	l := listen(t)
	return network{l,
		[]grpc.ServerOption{grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: https.TLS.Certificates}))},
		[]grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots}))},
		l.Addr().String()}
}

func plain(t testing.TB) network {
	l := listen(t)
	return network{l, nil, []grpc.DialOption{insecurely}, l.Addr().String()}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serve starts a server with the services that register adds. It ends with the test.
func (n network) serve(t testing.TB, register func(*grpc.Server), options ...grpc.ServerOption) {
	t.Helper()
	s := grpc.NewServer(append(n.server, options...)...)
	register(s)
	done := make(chan error, 1)
	go func() { done <- s.Serve(n) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// dial returns a connection to the server. It ends with the test.
func (n network) dial(t testing.TB, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(n.target, append(n.client, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// service has methods that are funcs. Those that are nil are not implemented.
type service struct {
	pb.UnimplementedTestServiceServer
	unary  func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error)
	output func(grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error
	input  func(grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error
}

func (s *service) UnaryCall(ctx context.Context, req *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if s.unary == nil {
		return s.UnimplementedTestServiceServer.UnaryCall(ctx, req)
	}
	return s.unary(ctx, req)
}

func (s *service) StreamingOutputCall(req *pb.StreamingOutputCallRequest, stream grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	if s.output == nil {
		return s.UnimplementedTestServiceServer.StreamingOutputCall(req, stream)
	}
	return s.output(stream)
}

func (s *service) StreamingInputCall(stream grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	if s.input == nil {
		return s.UnimplementedTestServiceServer.StreamingInputCall(stream)
	}
	return s.input(stream)
}

func (s *service) register(srv *grpc.Server) { pb.RegisterTestServiceServer(srv, s) }

// answering is a service that answers every call, unless f returns an error.
func answering(f func(context.Context) error) *service {
	return &service{
		unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
			if err := f(ctx); err != nil {
				return nil, err
			}
			return &pb.SimpleResponse{}, nil
		},
		output: func(stream grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
			if err := f(stream.Context()); err != nil {
				return err
			}
			return stream.Send(&pb.StreamingOutputCallResponse{})
		},
	}
}

// unary makes a unary call and returns its error.
func unary(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := pb.NewTestServiceClient(conn).UnaryCall(ctx, &pb.SimpleRequest{})
	return err
}

// stream makes a stream, reads it to its end and returns its error.
func stream(ctx context.Context, conn *grpc.ClientConn) error {
	s, err := pb.NewTestServiceClient(conn).StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{})
	for err == nil {
		_, err = s.Recv()
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// calls holds a unary call and a stream.
var calls = map[string]func(context.Context, *grpc.ClientConn) error{
	"unary":  unary,
	"stream": stream,
}

// limit is the timeout of a test that hangs.
func limit(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// free waits until no slot is held.
func free(t testing.TB, all ...*bulkhead.Bulkhead) {
	t.Helper()
	for _, b := range all {
		eventually(t, "all slots are free", func() bool { return b.Stats().InFlight == 0 })
	}
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func wantCode(t testing.TB, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%v, want %v: %v", got, want, err)
	}
}
