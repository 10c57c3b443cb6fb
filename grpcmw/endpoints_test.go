package grpcmw_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/debug"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/metrics"
	"github.com/resilience-go/resilience/resiliencetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/test/bufconn"
)

// Endpoints.Policy is a policy that changes nothing.
func TestEndpoints_Policy(t *testing.T) {
	resiliencetest.TestPolicy(t, func() resilience.Policy { return (&grpcmw.Endpoints{Name: t.Name()}).Policy() })
}

// Two connections to one target have a Set each, by the target, until they are closed.
// Metrics and the debug page find them.
func TestEndpoints_severalConnections(t *testing.T) {
	f := newFleet(t, 2, clientOptions(retrying(t, 1))...)
	second := dialFleet(t, f.resolver, f.endpoints.DialOption())
	f.await(t, 4)
	if keys := slices.Sorted(maps.Keys(sets(f.endpoints))); !slices.Equal(keys, []string{"fleet:///payments", "fleet:///payments#2"}) {
		t.Fatalf("the sets are %q", keys)
	}
	f.calls(t, 1)
	all := sets(f.endpoints)
	if a, b := attempts(all["fleet:///payments"]), attempts(all["fleet:///payments#2"]); a != 1 || b != 0 {
		t.Errorf("%d and %d attempts", a, b)
	}
	if _, err := metrics.NewCollector(f.endpoints.Policy()); err != nil {
		t.Error(err)
	}
	page := httptest.NewRecorder()
	debug.Handler(f.endpoints.Policy()).ServeHTTP(page, httptest.NewRequest("GET", "/", nil))
	if !strings.Contains(page.Body.String(), f.replicas[1].addr) {
		t.Errorf("the page has no endpoint:\n%s", page.Body)
	}
	f.conn.Close()
	if keys := slices.Sorted(maps.Keys(sets(f.endpoints))); !slices.Equal(keys, []string{"fleet:///payments#2"}) {
		t.Errorf("after Close the sets are %q", keys)
	}
	second.Close()
	if n := len(sets(f.endpoints)); n != 0 {
		t.Errorf("after Close there are %d sets", n)
	}
}

func attempts(s *endpoint.Set) (n uint64) {
	for _, e := range s.Stats().Endpoints {
		n += e.Attempts
	}
	return n
}

// The counters of all connections of an Endpoints are one metric, and stay when they close.
func TestEndpoints_metrics(t *testing.T) {
	f := newFleet(t, 2)
	f.calls(t, 3)
	f.conn.Close()
	f.resolver = fleetResolver(f.all()...)
	f.connect(t)
	f.await(t, 2)
	f.calls(t, 4)
	collector, err := metrics.NewCollector(f.endpoints.Policy())
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	picks := 0.
	for _, family := range families {
		if family.GetName() == "resilience_endpoint_picks_total" {
			for _, m := range family.GetMetric() {
				picks += m.GetCounter().GetValue()
			}
		}
	}
	if picks != 7 {
		t.Errorf("%v picks", picks)
	}
}

// A connection that has been idle, and is used again, starts with a new set.
func TestEndpoints_idle(t *testing.T) {
	f := &fleet{replicas: []*replica{newReplica(t), newReplica(t)}}
	f.connect(t, append(clientOptions(retrying(t, 1)), grpc.WithIdleTimeout(time.Second))...)
	for range 2 {
		f.calls(t, 5)
		f.await(t, 2)
		eventually(t, "the connection is idle", func() bool { return len(sets(f.endpoints)) == 0 })
	}
}

// WithEndpoints switches the balancer on. It has no name.
func TestWithEndpoints(t *testing.T) {
	f := &fleet{replicas: []*replica{newReplica(t), newReplica(t)}}
	f.resolver = fleetResolver(f.all()...)
	conn := dialFleet(t, f.resolver, append(clientOptions(retrying(t, 2)), grpcmw.WithEndpoints())...)
	f.TestServiceClient = pb.NewTestServiceClient(conn)
	f.failFirstAttempts("retry-attempt")
	eventually(t, "both replicas are connected", func() bool {
		_, _ = f.call(patience(t))
		return f.replicas[0].calls.Load() > 0 && f.replicas[1].calls.Load() > 0
	})
	f.wantDistinctAttempts(t)
}

// A service config of the resolver replaces the default one. It may name the balancer, and
// an Endpoints.
func TestEndpoints_deliveredConfig(t *testing.T) {
	for name, c := range map[string]string{"other": `{}`, "delivered": `{"name": "delivered"}`} {
		t.Run(name, func(t *testing.T) {
			e := &grpcmw.Endpoints{Name: name}
			e.Policy() // now the name is known
			f := &fleet{replicas: []*replica{newReplica(t), newReplica(t)}}
			deliver := func(cc resolver.ClientConn) {
				_ = cc.UpdateState(resolver.State{
					Endpoints:     f.all(),
					ServiceConfig: cc.ParseServiceConfig(`{"loadBalancingConfig": [{"resilience_endpoint": ` + c + `}], ` + retryPolicy + `}`),
				})
			}
			f.resolver = manual.NewBuilderWithScheme("fleet")
			f.resolver.BuildCallback = func(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) { deliver(cc) }
			roundRobin := grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`)
			client := clientOptions(grpcmw.Client{Policy: resilience.Compose()})
			conn := dialFleet(t, f.resolver, append(client, roundRobin)...)
			f.TestServiceClient = pb.NewTestServiceClient(conn)
			f.failFirstAttempts("grpc-previous-rpc-attempts")
			eventually(t, "both replicas are connected", func() bool {
				_, _ = f.call(patience(t))
				return f.replicas[0].calls.Load() > 0 && f.replicas[1].calls.Load() > 0
			})
			f.wantDistinctAttempts(t)
			if n := len(sets(e)); (n == 1) != (name == "delivered") {
				t.Errorf("the Endpoints has %d sets", n)
			}
			// The same config again keeps the set.
			before := fmt.Sprint(sets(e))
			deliver(f.resolver.CC())
			if after := fmt.Sprint(sets(e)); after != before {
				t.Errorf("the sets were %s and are %s", before, after)
			}
		})
	}
}

// A service config with another shape is an error that says what to write.
func TestEndpoints_invalidConfig(t *testing.T) {
	_, err := grpc.NewClient("passthrough:///x", creds, grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"resilience_endpoint": {"name": 1}}]}`))
	if err == nil || !strings.Contains(err.Error(), "it must be {} or") {
		t.Errorf("got %v", err)
	}
}

// An endpoint that goes out and comes back makes an event each. The observer may use the
// connection, and may panic.
func TestEndpoints_Observer(t *testing.T) {
	var mu sync.Mutex
	var kinds []string
	f := &fleet{replicas: []*replica{newReplica(t), newReplica(t)}}
	f.endpoints = &grpcmw.Endpoints{Name: t.Name(), Observer: testkit.Observer(func(e resilience.Event) {
		mu.Lock()
		kinds = append(kinds, e.Kind)
		n := len(kinds)
		mu.Unlock()
		if e.Endpoint != f.replicas[0].addr || e.Key != "fleet:///payments" || e.Name != "TestEndpoints_Observer" {
			t.Errorf("%+v", e)
		}
		if n == 2 {
			f.conn.Close()
		}
		panic("observer")
	})}
	f.connect(t, clientOptions(retrying(t, 2))...)
	f.await(t, 2)
	r := f.replicas[0]
	r.do.Store(failsWith(codes.Internal))
	eventually(t, "the endpoint is ejected", func() bool {
		_, _ = f.call(f.avoidOthers(t))
		return f.state(t, r.addr).State == endpoint.Ejected
	})
	f.replicas[1].srv.Stop() // the other one has to be used again
	eventually(t, "the observer has closed the connection", func() bool { return f.conn.GetState() == connectivity.Shutdown })
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(kinds, []string{endpoint.EventEjected, endpoint.EventReturned}) {
		t.Errorf("events: %q", kinds)
	}
}

// Of 10 000 addresses, a connection uses a hundred.
func TestEndpoints_manyAddresses(t *testing.T) {
	lis := bufconn.Listen(1 << 16)
	srv := grpc.NewServer()
	pb.RegisterTestServiceServer(srv, &service{})
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	var mu sync.Mutex
	dialed := map[string]bool{}
	network := grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		mu.Lock()
		dialed[addr] = true
		mu.Unlock()
		return lis.DialContext(ctx)
	})
	var many []resolver.Endpoint
	for i := range 10_000 {
		many = append(many, at(fmt.Sprintf("10.0.%d.%d:443", i/250, i%250)))
	}
	f := &fleet{resolver: fleetResolver(many...)}
	f.connect(t, append(clientOptions(retrying(t, 1)), network)...)
	t.Cleanup(func() { f.conn.Close(); srv.Stop(); <-served })
	f.await(t, 100)
	f.calls(t, 10)
	slices.Reverse(many)
	f.resolver.UpdateState(resolver.State{Endpoints: many}) // keeps its choice
	f.calls(t, 10)
	mu.Lock()
	defer mu.Unlock()
	if n := len(dialed); n != 100 {
		t.Errorf("%d addresses were dialed", n)
	}
}
