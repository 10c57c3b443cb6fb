package grpcmw_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
)

// replica is one of several servers on the loopback interface. Its unary method counts the
// calls, and is the function that do holds.
type replica struct {
	service
	addr  string
	calls atomic.Int64
	do    atomic.Value // func(context.Context) error

	srv   *grpc.Server
	mu    sync.Mutex
	conns map[string]net.Conn // by the address of the client
}

func works(context.Context) error { return nil }

func hangs(ctx context.Context) error {
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

// failsWith returns a function that returns an error with the code.
func failsWith(code codes.Code) func(context.Context) error {
	return func(context.Context) error { return status.Error(code, "no") }
}

// newReplica returns a replica that listens and works.
func newReplica(t testing.TB, opts ...func(*grpc.Server)) *replica {
	r := &replica{addr: "127.0.0.1:0"}
	r.do.Store(works)
	r.unary = func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
		r.calls.Add(1)
		return &pb.SimpleResponse{Username: r.addr}, r.do.Load().(func(context.Context) error)(ctx)
	}
	r.start(t, opts...)
	return r
}

// start serves at r.addr until stop or the end of the test.
func (r *replica) start(t testing.TB, opts ...func(*grpc.Server)) {
	t.Helper()
	lis, err := net.Listen("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.conns = map[string]net.Conn{}
	r.mu.Unlock()
	srv := grpc.NewServer()
	r.addr, r.srv = lis.Addr().String(), srv
	pb.RegisterTestServiceServer(srv, r)
	for _, o := range opts {
		o(srv)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(&recorder{lis, r}) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil && err != grpc.ErrServerStopped {
			t.Error(err)
		}
	})
}

// drop closes the connection with the client at addr.
func (r *replica) drop(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[addr].Close()
}

// recorder is a listener that notes the connections in a replica.
type recorder struct {
	net.Listener
	r *replica
}

func (l *recorder) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.r.mu.Lock()
		l.r.conns[c.RemoteAddr().String()] = c
		l.r.mu.Unlock()
	}
	return c, err
}

// fleet is replicas behind one name, and a client of it.
type fleet struct {
	pb.TestServiceClient
	replicas  []*replica
	resolver  *manual.Resolver
	endpoints *grpcmw.Endpoints
	conn      *grpc.ClientConn
}

// newFleet returns n replicas and a client that is connected to all of them.
func newFleet(t testing.TB, n int, opts ...grpc.DialOption) *fleet {
	t.Helper()
	f := &fleet{}
	for range n {
		f.replicas = append(f.replicas, newReplica(t))
	}
	f.connect(t, opts...)
	f.await(t, n)
	return f
}

// connect makes the client of f.
func (f *fleet) connect(t testing.TB, opts ...grpc.DialOption) {
	t.Helper()
	if f.resolver == nil {
		f.resolver = manual.NewBuilderWithScheme("fleet")
		f.resolver.InitialState(resolver.State{Endpoints: f.all()})
	}
	if f.endpoints == nil {
		f.endpoints = &grpcmw.Endpoints{Name: t.Name()}
	}
	quick := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}, MinConnectTimeout: 10 * time.Second}
	f.conn = dialFleet(t, f.resolver, append([]grpc.DialOption{grpc.WithConnectParams(quick), f.endpoints.DialOption()}, opts...)...)
	f.TestServiceClient = pb.NewTestServiceClient(f.conn)
}

func dialFleet(t testing.TB, r *manual.Resolver, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("fleet:///payments", append([]grpc.DialOption{
		grpc.WithResolvers(r), grpc.WithTransportCredentials(insecure.NewCredentials()),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.Connect()
	return conn
}

// all returns an endpoint for each replica.
func (f *fleet) all() []resolver.Endpoint {
	var all []resolver.Endpoint
	for _, r := range f.replicas {
		all = append(all, at(r.addr))
	}
	return all
}

// at returns an endpoint with the addresses.
func at(addresses ...string) (e resolver.Endpoint) {
	for _, a := range addresses {
		e.Addresses = append(e.Addresses, resolver.Address{Addr: a})
	}
	return e
}

// sets returns the sets of the connections of e, by key.
func sets(e *grpcmw.Endpoints) map[string]*endpoint.Set {
	all := map[string]*endpoint.Set{}
	for n := range resilience.Walk(e.Policy()) {
		if s, ok := n.Policy.(*endpoint.Set); ok && n.Fork {
			all[n.Key] = s
		}
	}
	return all
}

// set returns the set of the only connection.
func (f *fleet) set(t testing.TB) *endpoint.Set {
	t.Helper()
	for _, s := range sets(f.endpoints) {
		return s
	}
	t.Fatal("there is no set")
	return nil
}

// state returns what the set of the only connection has about an address.
func (f *fleet) state(t testing.TB, addr string) endpoint.EndpointStats {
	t.Helper()
	for _, e := range f.set(t).Stats().Endpoints {
		if e.Address == addr {
			return e
		}
	}
	return endpoint.EndpointStats{}
}

// await waits until n endpoints are connected.
func (f *fleet) await(t testing.TB, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d endpoints are connected", n), func() bool {
		ready := 0
		for _, s := range sets(f.endpoints) {
			for _, e := range s.Stats().Endpoints {
				if e.State != endpoint.Suspended {
					ready++
				}
			}
		}
		return ready == n
	})
}

// eventually waits until cond is true.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never happened that %s", what)
		}
	}
}

// idle waits until no attempt is in flight: gRPC may call Done after a call has returned.
func (f *fleet) idle(t testing.TB) {
	t.Helper()
	eventually(t, "nothing is in flight", func() bool {
		for _, s := range sets(f.endpoints) {
			for _, e := range s.Endpoints() {
				if e.InFlight() != 0 {
					return false
				}
			}
		}
		return true
	})
}

// call makes a unary call, and returns the address of the replica that answered.
func (f *fleet) call(ctx context.Context, opts ...grpc.CallOption) (string, error) {
	r, err := f.UnaryCall(ctx, &pb.SimpleRequest{}, opts...)
	return r.GetUsername(), err
}

// calls makes n calls, one after another, each of which must succeed.
func (f *fleet) calls(t testing.TB, n int) {
	t.Helper()
	for i := range n {
		if _, err := f.call(patience(t)); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
}

// clientOptions returns the options that guard unary calls and streams.
func clientOptions(c grpcmw.Client) []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(c.Unary), grpc.WithChainStreamInterceptor(c.Stream)}
}

// retrying is a Client that retries whatever may have been lost.
func retrying(t testing.TB, attempts int, inner ...resilience.Policy) grpcmw.Client {
	p := retries(t, retry.Config{MaxAttempts: attempts})
	return grpcmw.Client{
		Policy: resilience.Compose(append([]resilience.Policy{p}, inner...)...),
		Retryable: func(_ string, err error) bool {
			c := status.Code(err)
			return c == codes.Unavailable || c == codes.DeadlineExceeded
		},
	}
}

// fleetResolver returns a resolver whose first answer is endpoints.
func fleetResolver(endpoints ...resolver.Endpoint) *manual.Resolver {
	r := manual.NewBuilderWithScheme("fleet")
	r.InitialState(resolver.State{Endpoints: endpoints})
	return r
}

// together makes n calls that are in flight at the same time, so that each replica gets some.
func (f *fleet) together(t *testing.T, n int) {
	t.Helper()
	var arrived atomic.Int32
	open := make(chan struct{})
	for _, r := range f.replicas {
		r.do.Store(func(context.Context) error {
			if int(arrived.Add(1)) == n {
				close(open)
			}
			<-open
			return nil
		})
	}
	testkit.AtOnce(n, func(int) {
		if _, err := f.call(patience(t)); err != nil {
			t.Error(err)
		}
	})
	for _, r := range f.replicas {
		r.do.Store(works)
	}
}

// only suspends all replicas but r, or none if r is nil.
func (f *fleet) only(t *testing.T, r *replica) {
	t.Helper()
	f.set(t).Suspend(func(e *endpoint.Endpoint) bool { return r != nil && e.Address() != r.addr })
}
