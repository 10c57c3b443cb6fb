package grpcmw_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/timeout"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/health" // enables health checking by clients
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
)

// One of three replicas that refuses connections, hangs or returns UNAVAILABLE costs no
// success, and gets next to no calls.
func TestEndpoints_oneOfThree(t *testing.T) {
	const calls = 300
	for name, breakIt := range map[string]func(*replica){
		"refuses":     func(r *replica) { r.srv.Stop() },
		"hangs":       func(r *replica) { r.do.Store(hangs) },
		"UNAVAILABLE": func(r *replica) { r.do.Store(failsWith(codes.Unavailable)) },
	} {
		t.Run(name, func(t *testing.T) {
			limit := resilience.Must(timeout.New(timeout.Config{Timeout: time.Second}))
			f := newFleet(t, 3, clientOptions(retrying(t, 3, limit))...)
			f.calls(t, 60)
			bad := f.replicas[0]
			before := bad.calls.Load()
			if before == 0 {
				t.Error("the replica got no calls while it worked")
			}
			breakIt(bad)
			f.calls(t, calls)
			if n := bad.calls.Load() - before; n > calls/20 {
				t.Errorf("the broken replica got %d of %d calls", n, calls)
			}
		})
	}
}

// A retry of a policy goes to another endpoint.
func TestEndpoints_retryGoesElsewhere(t *testing.T) {
	f := newFleet(t, 2, clientOptions(retrying(t, 2))...)
	f.failFirstAttempts("retry-attempt")
	f.wantDistinctAttempts(t)
}

// failFirstAttempts makes the first attempt of each call fail, wherever it goes. Later ones
// have the metadata key.
func (f *fleet) failFirstAttempts(key string) {
	for _, r := range f.replicas {
		r.do.Store(func(ctx context.Context) error {
			if metadata.ValueFromIncomingContext(ctx, key) == nil {
				return status.Error(codes.Unavailable, r.addr)
			}
			return nil
		})
	}
}

// wantDistinctAttempts wants each call to make one attempt at each replica.
func (f *fleet) wantDistinctAttempts(t *testing.T) {
	t.Helper()
	for i := range 50 {
		before := [2]int64{f.replicas[0].calls.Load(), f.replicas[1].calls.Load()}
		if _, err := f.call(patience(t)); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		for j, r := range f.replicas {
			if n := r.calls.Load() - before[j]; n != 1 {
				t.Errorf("call %d made %d attempts at replica %d", i, n, j)
			}
		}
	}
}

// retryPolicy makes gRPC itself retry the method UnaryCall once.
const retryPolicy = `"methodConfig": [{
	"name": [{"service": "grpc.testing.TestService"}],
	"retryPolicy": {
		"maxAttempts": 2, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1,
		"retryableStatusCodes": ["UNAVAILABLE"]
	}
}]`

// config is a default service config with the balancer of e and more.
func config(t testing.TB, name, more string) grpc.DialOption {
	return grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"resilience_endpoint": {"name": "` + name + `"}}], ` + more + `}`)
}

// A retry that a service config has gRPC make goes to another endpoint, too.
func TestEndpoints_serviceConfigRetry(t *testing.T) {
	opts := append(clientOptions(grpcmw.Client{Policy: resilience.Compose()}), config(t, t.Name(), retryPolicy))
	f := newFleet(t, 2, opts...)
	f.failFirstAttempts("grpc-previous-rpc-attempts")
	f.wantDistinctAttempts(t)
}

// An endpoint with several addresses is one endpoint, whichever of them works.
func TestEndpoints_dualStack(t *testing.T) {
	dead := newReplica(t)
	dead.srv.Stop()
	f := &fleet{replicas: []*replica{newReplica(t), newReplica(t)}}
	f.resolver = fleetResolver(at(dead.addr, f.replicas[0].addr), at(f.replicas[1].addr))
	f.connect(t, clientOptions(retrying(t, 2))...)
	f.await(t, 2)
	f.calls(t, 50)
	for i, r := range f.replicas {
		if r.calls.Load() == 0 {
			t.Errorf("replica %d got no calls", i)
		}
	}
	if all := f.set(t).Endpoints(); len(all) != 2 {
		t.Errorf("the set has %d endpoints", len(all))
	}
}

// An endpoint that is not healthy by gRPC's health checking gets no calls.
func TestEndpoints_health(t *testing.T) {
	checks := &healthServer{status: make(chan grpc_health_v1.HealthCheckResponse_ServingStatus, 2)}
	checks.status <- grpc_health_v1.HealthCheckResponse_SERVING
	f := &fleet{replicas: []*replica{
		newReplica(t, func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, checks) }), newReplica(t),
	}}
	f.connect(t, append(clientOptions(retrying(t, 1)), config(t, t.Name(), `"healthCheckConfig": {"serviceName": ""}`))...)
	f.await(t, 2)
	checks.status <- grpc_health_v1.HealthCheckResponse_NOT_SERVING
	f.await(t, 1)
	before := f.replicas[0].calls.Load()
	f.calls(t, 20)
	if n := f.replicas[0].calls.Load(); n != before {
		t.Errorf("the unhealthy replica got %d calls", n-before)
	}
	checks.status <- grpc_health_v1.HealthCheckResponse_SERVING
	f.await(t, 2)
	eventually(t, "the healthy replica gets calls", func() bool {
		f.calls(t, 1)
		return f.replicas[0].calls.Load() > before
	})
}

// healthServer is a health service that sends what is in status.
type healthServer struct {
	grpc_health_v1.UnimplementedHealthServer
	status chan grpc_health_v1.HealthCheckResponse_ServingStatus
}

func (h *healthServer) Watch(_ *grpc_health_v1.HealthCheckRequest, s grpc_health_v1.Health_WatchServer) error {
	for {
		select {
		case st := <-h.status:
			if err := s.Send(&grpc_health_v1.HealthCheckResponse{Status: st}); err != nil {
				return err
			}
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

// A replica that restarts starts slowly and then gets its share: what was known about the
// old process is forgotten.
func TestEndpoints_restart(t *testing.T) {
	f := newFleet(t, 2, clientOptions(retrying(t, 3))...)
	f.calls(t, 20)
	r := f.replicas[0]
	r.srv.Stop()
	f.await(t, 1)
	f.calls(t, 20)
	if got := f.state(t, r.addr).State; got != endpoint.Suspended {
		t.Errorf("a replica that is down is %s", got)
	}
	before := r.calls.Load()
	r.start(t)
	f.await(t, 2)
	if got := f.state(t, r.addr).State; got != endpoint.Returning {
		t.Errorf("a replica that is back is %s", got)
	}
	eventually(t, "a replica that is back gets calls", func() bool {
		f.calls(t, 1)
		return r.calls.Load() >= before+10
	})
}

// A replica that accepts each connection and breaks it with the first call is ejected
// although it is connected again every time.
func TestEndpoints_flapping(t *testing.T) {
	f := newFleet(t, 3, clientOptions(retrying(t, 3))...)
	f.calls(t, 20)
	bad := f.replicas[0]
	bad.do.Store(func(ctx context.Context) error {
		p, _ := peer.FromContext(ctx)
		bad.drop(p.Addr.String())
		return nil
	})
	eventually(t, "the replica is ejected", func() bool {
		f.calls(t, 1)
		return strings.Contains(f.state(t, bad.addr).Why, "could not be connected")
	})
	before := bad.calls.Load()
	const calls = 400
	for range calls {
		f.calls(t, 1)
		f.await(t, 3) // the replica is connected again and could get a call
	}
	if n := bad.calls.Load() - before; n > calls/20 {
		t.Errorf("the broken replica got %d of %d calls", n, calls)
	}
	if st := f.state(t, bad.addr); st.State != endpoint.Ejected {
		t.Errorf("the broken replica is %+v", st)
	}
}

// Without a connected endpoint, calls fail with gRPC's own error, or wait if the caller
// wants them to.
func TestEndpoints_noneReady(t *testing.T) {
	r := newReplica(t)
	r.srv.Stop()
	f := &fleet{replicas: []*replica{r}}
	f.connect(t, clientOptions(retrying(t, 1))...)
	_, err := f.call(patience(t))
	wantCode(t, err, codes.Unavailable)
	if err == nil || !strings.Contains(err.Error(), "connection error") {
		t.Errorf("got %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = f.call(short, grpc.WaitForReady(true))
	wantCode(t, err, codes.DeadlineExceeded)
	waited := make(chan error, 1)
	go func() {
		_, err := f.call(patience(t), grpc.WaitForReady(true))
		waited <- err
	}()
	r.start(t)
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// A resolver that returns no endpoints leaves those that it returned before in use.
func TestEndpoints_emptyAnswer(t *testing.T) {
	f := newFleet(t, 2, clientOptions(retrying(t, 1))...)
	for _, empty := range [][]resolver.Endpoint{nil, {}, {at()}} {
		f.resolver.UpdateState(resolver.State{Endpoints: empty}) // returns an error, or not before the update is used
		f.calls(t, 10)
	}
	f.resolver.CC().ReportError(errors.New("no such host"))
	f.calls(t, 10)
	f.await(t, 2)
}

// If the first answer of a resolver is empty, calls fail as with any balancer.
func TestEndpoints_emptyFirstAnswer(t *testing.T) {
	f := &fleet{resolver: fleetResolver()}
	f.connect(t, clientOptions(retrying(t, 1))...)
	_, err := f.call(patience(t))
	wantCode(t, err, codes.Unavailable)
}

// Duplicate endpoints are one endpoint, with the addresses in any order.
func TestEndpoints_duplicates(t *testing.T) {
	f := &fleet{replicas: []*replica{newReplica(t), newReplica(t)}}
	a, b := f.replicas[0].addr, f.replicas[1].addr
	f.resolver = fleetResolver(at(a, b), at(b, a), at(a, b, a))
	f.connect(t, clientOptions(retrying(t, 1))...)
	f.await(t, 1)
	f.calls(t, 10)
	if n := len(f.set(t).Endpoints()); n != 1 {
		t.Errorf("the set has %d endpoints", n)
	}
}

// The load moves to the endpoints of the newest answer, and no call fails.
func TestEndpoints_changesUnderLoad(t *testing.T) {
	f := newFleet(t, 6, clientOptions(retrying(t, 3))...)
	all := f.all()
	var stop atomic.Bool
	changes := make(chan int)
	go func() {
		n := 0
		for ; n < 200 || !stop.Load(); n++ {
			i := n % 6
			// One of them stays, because a new connection takes time.
			some := append([]resolver.Endpoint{all[i], all[(i+n/6)%6], all[i], all[0]}, all[:n%4]...)
			f.resolver.UpdateState(resolver.State{Endpoints: some})
			time.Sleep(time.Millisecond)
		}
		f.resolver.UpdateState(resolver.State{Endpoints: all[:2]})
		changes <- n
	}()
	testkit.AtOnce(8, func(int) {
		for range 100 {
			if _, err := f.call(patience(t)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	stop.Store(true)
	t.Logf("%d changes", <-changes)
	f.await(t, 2)
	before := f.replicas[5].calls.Load()
	f.calls(t, 20)
	if n := f.replicas[5].calls.Load(); n != before {
		t.Error("a dropped endpoint got a call")
	}
	f.idle(t)
}
