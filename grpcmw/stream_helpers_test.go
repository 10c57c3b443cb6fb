package grpcmw_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

type (
	request  = pb.StreamingOutputCallRequest
	response = pb.StreamingOutputCallResponse
	duplex   = grpc.BidiStreamingServer[request, response]
	call     = grpc.BidiStreamingClient[request, response]
)

// network is what a client reaches a server by.
type network struct {
	listen      func(t testing.TB) (net.Listener, string, func(context.Context, string) (net.Conn, error))
	serverCreds func() credentials.TransportCredentials
	clientCreds func() credentials.TransportCredentials
}

var (
	memory = network{
		listen: func(testing.TB) (net.Listener, string, func(context.Context, string) (net.Conn, error)) {
			lis := bufconn.Listen(1 << 20)
			return lis, "passthrough:///bufconn", func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }
		},
		serverCreds: insecure.NewCredentials,
		clientCreds: insecure.NewCredentials,
	}
	sockets = network{
		listen: func(t testing.TB) (net.Listener, string, func(context.Context, string) (net.Conn, error)) {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var d net.Dialer
			return lis, lis.Addr().String(), func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
		},
		serverCreds: func() credentials.TransportCredentials { return credentials.NewServerTLSFromCert(&certificate) },
		clientCreds: func() credentials.TransportCredentials {
			roots := x509.NewCertPool()
			roots.AddCert(certificate.Leaf)
			return credentials.NewClientTLSFromCert(roots, "")
		},
	}
	// unreachable is a network by which connections take for ever.
	unreachable = network{
		listen: func(t testing.TB) (net.Listener, string, func(context.Context, string) (net.Conn, error)) {
			lis, target, _ := memory.listen(t)
			return lis, target, func(ctx context.Context, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		},
		serverCreds: insecure.NewCredentials,
		clientCreds: insecure.NewCredentials,
	}
	networks = map[string]network{"bufconn": memory, "TLS over TCP": sockets}

	certificate = resilience.Must(selfSigned())
)

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

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
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

// guarded is the option by which the streams of a connection are under p.
func guarded(p resilience.Policy) grpc.DialOption {
	return grpc.WithChainStreamInterceptor(grpcmw.Client{Policy: p}.Stream)
}

// guardedServer is the same for the streams of a server.
func guardedServer(p resilience.Policy) []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainStreamInterceptor(grpcmw.Server{Policy: p}.Stream)}
}

// witness hears of a moment of each stream.
type witness struct {
	at    resilience.Moment
	heard chan error // with what
}

func newWitness(at resilience.Moment) *witness { return &witness{at, make(chan error, 100)} }

func (w *witness) Apply(ctx context.Context, next resilience.Next) (err error) {
	err = resilience.ErrAborted
	defer func() { next.Settle(w.at, err, w, 0) }()
	err = next.Run(ctx)
	return err
}

func (w *witness) Settle(_ uint64, err error) { w.heard <- err }

// guards are a real breaker and a real bulkhead, and around them witnesses of both
// moments, who hear last.
type guards struct {
	answered, ended *witness
	breaker         *breaker.Breaker
	bulkhead        *bulkhead.Bulkhead
}

// newGuards returns guards whose breaker opens with the first failure.
func newGuards() *guards {
	return &guards{
		answered: newWitness(resilience.Answered),
		ended:    newWitness(resilience.Ended),
		breaker:  resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive(1)}})),
		bulkhead: resilience.Must(bulkhead.New(bulkhead.Config{Limit: 1, MaxQueue: -1})),
	}
}

// around returns the guards with more policies inside.
func (g *guards) around(inner ...resilience.Policy) resilience.Policy {
	return resilience.Compose(append([]resilience.Policy{g.ended, g.answered, g.breaker, g.bulkhead}, inner...)...)
}

// pending wants a stream that has not come to either moment.
func (g *guards) pending(t testing.TB) {
	t.Helper()
	if s := g.breaker.Stats(); s.Successes+s.Failures+s.Ignored != 0 {
		t.Errorf("judged already: %+v", s)
	}
	if n := g.bulkhead.Stats().InFlight; n != 1 {
		t.Errorf("%d slots taken", n)
	}
	if len(g.answered.heard)+len(g.ended.heard) != 0 {
		t.Errorf("answered %d times, ended %d times", len(g.answered.heard), len(g.ended.heard))
	}
}

// answeredOnly wants a stream that has answered and goes on.
func (g *guards) answeredOnly(t testing.TB) {
	t.Helper()
	if s := g.breaker.Stats(); s.Successes != 1 || s.Failures+s.Ignored != 0 {
		t.Errorf("judged %+v", s)
	}
	if n := g.bulkhead.Stats().InFlight; n != 1 {
		t.Errorf("%d slots taken", n)
	}
	if len(g.answered.heard) != 1 || len(g.ended.heard) != 0 {
		t.Errorf("answered %d times, ended %d times", len(g.answered.heard), len(g.ended.heard))
	}
}

// end waits for the end of the only stream and wants each moment to have come once,
// with those codes, and the breaker to have judged it so.
func (g *guards) end(t testing.TB, answered, ended codes.Code, judged resilience.Outcome) {
	t.Helper()
	var err error
	select {
	case err = <-g.ended.heard:
	case <-limit(t).Done():
		t.Fatal("has not ended")
	}
	if c := status.Code(err); c != ended {
		t.Errorf("ended with %v, want %v", err, ended)
	}
	select {
	case err := <-g.answered.heard:
		if c := status.Code(err); c != answered {
			t.Errorf("answered with %v, want %v", err, answered)
		}
	default:
		t.Error("has ended, but not answered")
	}
	if len(g.answered.heard)+len(g.ended.heard) != 0 {
		t.Error("heard more than once")
	}
	if s := g.bulkhead.Stats(); s.InFlight != 0 || s.Completed != 1 {
		t.Errorf("%d slots taken, %d given back", s.InFlight, s.Completed)
	}
	s := g.breaker.Stats()
	got := [...]uint64{resilience.Success: s.Successes, resilience.Failure: s.Failures, resilience.Ignored: s.Ignored}
	want := [3]uint64{}
	want[judged] = 1
	if got != want {
		t.Errorf("judged %+v, want one %v", s, judged)
	}
	if open := s.State == breaker.Open; open != (judged == resilience.Failure) {
		t.Errorf("the breaker is %v", s.State)
	}
}

// wait waits for c to be closed, for as long as limit allows.
func wait(t testing.TB, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-limit(t).Done():
		t.Fatal("waited in vain")
	}
}

// open opens a stream of both directions.
func (r *rig) open(t testing.TB, ctx context.Context, opts ...grpc.CallOption) call {
	t.Helper()
	st, err := r.FullDuplexCall(ctx, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// recv wants n messages.
func recv(t testing.TB, st grpc.ServerStreamingClient[response], n int) {
	t.Helper()
	for range n {
		if _, err := st.Recv(); err != nil {
			t.Fatal(err)
		}
	}
}

// wantCode wants an error with that code.
func wantCode(t testing.TB, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("got %v, want %v", err, want)
	}
}

// answer is a handler that sends n messages and ends with err.
func answer(n int, err error) func(duplex) error {
	return func(st duplex) error {
		for range n {
			if err := st.Send(&response{}); err != nil {
				return err
			}
		}
		return err
	}
}

// hang is a handler that sends n messages and waits for its client to leave.
func hang(n int) func(duplex) error {
	return func(st duplex) error {
		if err := answer(n, nil)(st); err != nil {
			return err
		}
		<-st.Context().Done()
		return st.Context().Err()
	}
}

// fakeStream is a stream without a network. Its functions may be nil.
type fakeStream struct {
	grpc.ClientStream
	single             bool // its server sends one message
	recv, send, header func() error
}

func (s *fakeStream) Header() (metadata.MD, error) { return nil, s.header() }

func (s *fakeStream) RecvMsg(any) error { return s.recv() }

func (s *fakeStream) SendMsg(any) error {
	if s.send == nil {
		return nil
	}
	return s.send()
}

func (s *fakeStream) CloseSend() error { return nil }

// finished calls what gRPC calls when a stream has ended.
func finished(opts []grpc.CallOption, err error) {
	for _, o := range opts {
		if o, ok := o.(grpc.OnFinishCallOption); ok {
			o.OnFinish(err)
		}
	}
}
