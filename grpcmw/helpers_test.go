package grpcmw_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a server whose methods are funcs; those that are nil succeed.
type service struct {
	pb.UnimplementedTestServiceServer
	unary  func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error)
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

// serve starts s and returns a client of it. Both end with the test.
func serve(t testing.TB, s *service, server []grpc.ServerOption, client ...grpc.DialOption) pb.TestServiceClient {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(server...)
	pb.RegisterTestServiceServer(srv, s)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", append([]grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	}, client...)...)
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
