package grpcmw_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a server whose methods are funcs; those that are nil succeed.
type service struct {
	pb.UnimplementedTestServiceServer
	unary  func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error)
	empty  func(context.Context, *pb.Empty) (*pb.Empty, error)
	output func(*pb.StreamingOutputCallRequest, grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error
	input  func(grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error
	duplex func(grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error
}

func (s *service) UnaryCall(ctx context.Context, req *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if s.unary == nil {
		return &pb.SimpleResponse{}, nil
	}
	return s.unary(ctx, req)
}

func (s *service) EmptyCall(ctx context.Context, req *pb.Empty) (*pb.Empty, error) {
	if s.empty == nil {
		return nil, status.Error(codes.Unimplemented, "no EmptyCall")
	}
	return s.empty(ctx, req)
}

func (s *service) StreamingOutputCall(req *pb.StreamingOutputCallRequest, stream grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	if s.output == nil {
		return stream.Send(&pb.StreamingOutputCallResponse{})
	}
	return s.output(req, stream)
}

func (s *service) StreamingInputCall(stream grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	if s.input == nil {
		return stream.SendAndClose(&pb.StreamingInputCallResponse{})
	}
	return s.input(stream)
}

func (s *service) FullDuplexCall(stream grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	if s.duplex == nil {
		return nil
	}
	return s.duplex(stream)
}

// serve starts s in memory and returns a client of it. Both end with the test.
func serve(t testing.TB, s *service, server []grpc.ServerOption, client ...grpc.DialOption) pb.TestServiceClient {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	return connect(t, s, lis, "passthrough:///bufconn", server, append([]grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	}, client...))
}

// serveTLS is serve over a socket, with TLS.
func serveTLS(t testing.TB, s *service, server []grpc.ServerOption, client ...grpc.DialOption) pb.TestServiceClient {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cert, pool := certificate()
	return connect(t, s, lis, lis.Addr().String(), append([]grpc.ServerOption{grpc.Creds(credentials.NewServerTLSFromCert(cert))}, server...),
		append([]grpc.DialOption{grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(pool, ""))}, client...))
}

// serving is serve or serveTLS.
type serving func(t testing.TB, s *service, server []grpc.ServerOption, client ...grpc.DialOption) pb.TestServiceClient

// everywhere runs f over memory, and over a socket with TLS.
func everywhere(t *testing.T, f func(t *testing.T, serve serving)) {
	t.Run("memory", func(t *testing.T) { f(t, serve) })
	t.Run("TLS", func(t *testing.T) { f(t, serveTLS) })
}

// certificate is that of package httptest, which is for 127.0.0.1 among others.
var certificate = sync.OnceValues(func() (*tls.Certificate, *x509.CertPool) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return &s.TLS.Certificates[0], pool
})

func connect(t testing.TB, s *service, lis net.Listener, target string, server []grpc.ServerOption, client []grpc.DialOption) pb.TestServiceClient {
	t.Helper()
	srv := grpc.NewServer(server...)
	pb.RegisterTestServiceServer(srv, s)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	conn, err := grpc.NewClient(target, client...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return pb.NewTestServiceClient(conn)
}

// unary returns the option that has c guard the unary calls of a client.
func unary(c grpcmw.Client) grpc.DialOption { return grpc.WithChainUnaryInterceptor(c.Unary) }

// unaryServer returns the options that have s guard the unary calls of a server.
func unaryServer(s grpcmw.Server) []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(s.Unary)}
}

// answers is a unary method that returns the errors, one after another, and the last
// one again and again. calls counts.
func answers(calls *atomic.Int32, errs ...error) *service {
	return &service{unary: func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error) {
		err := errs[min(int(calls.Add(1)), len(errs))-1]
		return &pb.SimpleResponse{Username: "server"}, err
	}}
}

// retries is a retry with short waits that does not look at what other calls do.
func retries(t testing.TB, c retry.Config) *retry.Retry {
	t.Helper()
	c.Budget = -1
	c.BaseDelay = max(c.BaseDelay, time.Millisecond)
	return resilience.Must(retry.New(c))
}

// invoke is a grpc.UnaryInvoker whose calls fail with err and end with the trailer.
func invoke(trailer metadata.MD, err error) grpc.UnaryInvoker {
	return func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
		for _, o := range opts {
			if o, ok := o.(grpc.TrailerCallOption); ok {
				*o.TrailerAddr = trailer
			}
		}
		return err
	}
}

// stubborn is a retry that does not listen.
func stubborn(n int) testkit.Policy {
	return func(ctx context.Context, next resilience.Next) error {
		err := next.Run(ctx)
		for i := 2; i <= n && err != nil; i++ {
			next.Discard()
			err = next.Run(resilience.WithAttempt(ctx, i))
		}
		return err
	}
}

// limit gives up after a second at the latest, so that a test that hangs fails.
func limit(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// slots holds something of each operation until a moment and remembers how each
// one was settled.
type slots struct {
	at      resilience.Moment
	held    atomic.Int32
	settled chan error
}

func newSlots(at resilience.Moment) *slots { return &slots{at: at, settled: make(chan error, 100)} }

func (s *slots) Apply(ctx context.Context, next resilience.Next) (err error) {
	s.held.Add(1)
	err = resilience.ErrAborted
	defer func() { next.Settle(s.at, err, (*slot)(s), 0) }()
	err = next.Run(ctx)
	return err
}

type slot slots

func (s *slot) Settle(_ uint64, err error) {
	s.held.Add(-1)
	s.settled <- err
}

// refuse is a policy that rejects.
func refuse(reason resilience.Reason, at time.Time) testkit.Policy {
	return func(context.Context, resilience.Next) error {
		return &resilience.Rejection{Policy: "test", Name: "test", Reason: reason, RetryAt: at}
	}
}

// nobody returns the options of a client whose server cannot be reached.
func nobody() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, net.ErrClosed }),
	}
}
