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

// network is what a client reaches a server by.
type network struct {
	listen      func(t testing.TB) (lis net.Listener, target string, dial dialer)
	serverCreds func() credentials.TransportCredentials
	clientCreds func() credentials.TransportCredentials
}

type dialer func(ctx context.Context, addr string) (net.Conn, error)

var (
	memory = network{
		listen: func(testing.TB) (net.Listener, string, dialer) {
			lis := bufconn.Listen(1 << 20)
			return lis, "passthrough:///bufconn", func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }
		},
		serverCreds: insecure.NewCredentials,
		clientCreds: insecure.NewCredentials,
	}
	sockets = network{
		listen: func(t testing.TB) (net.Listener, string, dialer) {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var d net.Dialer
			return lis, lis.Addr().String(), func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
		},
		serverCreds: func() credentials.TransportCredentials {
			cert, _ := certificate()
			return credentials.NewServerTLSFromCert(cert)
		},
		clientCreds: func() credentials.TransportCredentials {
			_, roots := certificate()
			return credentials.NewClientTLSFromCert(roots, "")
		},
	}
	networks = map[string]network{"memory": memory, "TLS": sockets}
)

// certificate is the certificate of package httptest, which is valid for 127.0.0.1.
var certificate = sync.OnceValues(func() (*tls.Certificate, *x509.CertPool) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &s.TLS.Certificates[0], roots
})

// rig is a server and a client of it. Both end with the test.
type rig struct {
	pb.TestServiceClient
	conn *grpc.ClientConn
	srv  *grpc.Server
	drop func() // closes the connection under the client
}

func (n network) serve(t testing.TB, s *service, server []grpc.ServerOption, client ...grpc.DialOption) *rig {
	t.Helper()
	lis, target, dial := n.listen(t)
	r := &rig{srv: grpc.NewServer(append(server, grpc.Creds(n.serverCreds()))...)}
	pb.RegisterTestServiceServer(r.srv, s)
	done := make(chan error, 1)
	go func() { done <- r.srv.Serve(lis) }()
	var conn atomic.Pointer[net.Conn]
	r.drop = func() { (*conn.Load()).Close() }
	cc, err := grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := dial(ctx, addr)
			conn.Store(&c)
			return c, err
		}),
		grpc.WithTransportCredentials(n.clientCreds()),
	}, client...)...)
	if err != nil {
		t.Fatal(err)
	}
	r.conn, r.TestServiceClient = cc, pb.NewTestServiceClient(cc)
	t.Cleanup(func() {
		cc.Close()
		r.srv.Stop()
		if err := <-done; err != nil && err != grpc.ErrServerStopped { // before it began
			t.Error(err)
		}
	})
	return r
}

// serving is the serve of a network.
type serving func(t testing.TB, s *service, server []grpc.ServerOption, client ...grpc.DialOption) *rig

// everywhere runs f over each network.
func everywhere(t *testing.T, f func(t *testing.T, serve serving)) {
	for name, n := range networks {
		t.Run(name, func(t *testing.T) { f(t, n.serve) })
	}
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

// persistent is a retry of whatever may be tried again at all.
func persistent(t testing.TB) *retry.Retry {
	t.Helper()
	return retries(t, retry.Config{Retryable: func(error) bool { return true }})
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

// patience gives up on a test that hangs.
func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// reject is a policy that rejects.
func reject(reason string, at time.Time) testkit.Policy {
	return func(context.Context, resilience.Next) error {
		return &resilience.Rejection{Policy: "test", Name: "test", Reason: reason, RetryAt: at}
	}
}
