package grpcmw

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/resilience-go/resilience/endpoint"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

func init() { balancer.Register(builder{}) }

// balancing reports whether a connection has been configured to use the balancer. Only then
// do the interceptors of a Client put more into the context of a call.
var balancing atomic.Bool

// builder makes the balancers of connections.
type builder struct{}

// Name implements balancer.Builder.
func (builder) Name() string { return balancerName }

// Build implements balancer.Builder.
func (builder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	balancing.Store(true)
	b := &lb{ClientConn: cc, target: opts.Target.String()}
	b.child = endpointsharding.NewBalancer(b, opts, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})
	return b
}

// lb is the balancer of one connection. It leaves the connecting to a pickfirst for each
// endpoint, and chooses among those that are READY with an endpoint.Set.
//
// The set lists the endpoints that the resolver has returned, or a subset of too many. Those
// that are not READY are suspended.
type lb struct {
	balancer.ClientConn
	target string
	child  balancer.Balancer

	mu     sync.Mutex
	group  *group        // nil before the first update
	set    *endpoint.Set // of group
	listed map[string]*endpoint.Endpoint
}

// conn is the Value of an endpoint: its connection.
type conn struct {
	picker atomic.Pointer[balancer.Picker] // of the endpoint's pickfirst, nil unless it is READY
	lost   bool                            // gRPC could not connect since it was READY last; guarded by lb.mu
}

// ready reports whether e has a connection.
func ready(e *endpoint.Endpoint) bool { return e.Value().(*conn).picker.Load() != nil }

// endpointKey returns the address of e in a Set. It is the key by which endpointsharding
// distinguishes endpoints: the addresses in any order.
func endpointKey(e resolver.Endpoint) string {
	if len(e.Addresses) == 1 {
		return e.Addresses[0].Addr
	}
	var addresses []string
	for _, a := range e.Addresses {
		addresses = append(addresses, a.Addr)
	}
	slices.Sort(addresses)
	return strings.Join(slices.Compact(addresses), ",")
}

// UpdateClientConnState implements balancer.Balancer. If the resolver returns no endpoints,
// those that it returned before stay in use.
func (b *lb) UpdateClientConnState(s balancer.ClientConnState) error {
	config, ok := s.BalancerConfig.(*balancerSettings)
	if !ok {
		config = &balancerSettings{group: defaultGroup()}
	}
	endpoints, ok := b.list(config.group, s.ResolverState.Endpoints)
	if !ok {
		return balancer.ErrBadResolverState // gRPC calls the resolver again
	}
	s.ResolverState.Endpoints = endpoints
	return b.child.UpdateClientConnState(balancer.ClientConnState{
		ResolverState: pickfirst.EnableHealthListener(s.ResolverState),
	})
}

// list puts the endpoints into the set of g, and returns those that are in use. It returns
// false if there are none and others are in use.
func (b *lb) list(g *group, endpoints []resolver.Endpoint) ([]resolver.Endpoint, bool) {
	byKey := map[string]resolver.Endpoint{}
	var keys []string
	for _, e := range endpoints {
		if key := endpointKey(e); key != "" {
			byKey[key] = e
			keys = append(keys, key)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(byKey) == 0 && len(b.listed) > 0 {
		return nil, false
	}
	if g != b.group {
		b.leave()
		b.group, b.set = g, g.open(b.target)
	}
	b.set.Update(keys, func(string) any { return &conn{} })
	b.set.Suspend(func(e *endpoint.Endpoint) bool { return !ready(e) })
	b.listed = map[string]*endpoint.Endpoint{}
	used := make([]resolver.Endpoint, 0, len(byKey))
	for _, e := range b.set.Endpoints() {
		b.listed[e.Address()] = e
		used = append(used, byKey[e.Address()])
	}
	return used, true
}

// UpdateState implements balancer.ClientConn for the children: the state of an endpoint has
// changed.
func (b *lb) UpdateState(s balancer.State) {
	if set := b.update(endpointsharding.ChildStatesFromPicker(s.Picker)); set != nil && s.ConnectivityState == connectivity.Ready {
		s.Picker = picker{set}
	}
	// Without a READY endpoint, gRPC's own picker has the calls wait or fail.
	b.ClientConn.UpdateState(s)
}

// update suspends the endpoints that are not READY, and returns the set.
func (b *lb) update(children []endpointsharding.ChildState) *endpoint.Set {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.set == nil {
		return nil
	}
	for _, child := range children {
		e := b.listed[endpointKey(child.Endpoint)]
		if e == nil {
			continue // the resolver has just dropped it
		}
		c := e.Value().(*conn)
		switch child.State.ConnectivityState {
		case connectivity.Ready:
			if c.lost {
				c.lost = false
				e.Forget() // it may be another process
			}
			c.picker.Store(&child.State.Picker)
		case connectivity.TransientFailure:
			c.lost = true
			c.picker.Store(nil)
		default:
			c.picker.Store(nil)
		}
	}
	b.set.Suspend(func(e *endpoint.Endpoint) bool { return !ready(e) })
	return b.set
}

// ResolverError implements balancer.Balancer.
func (b *lb) ResolverError(err error) { b.child.ResolverError(err) }

// UpdateSubConnState implements balancer.Balancer. gRPC does not call it.
func (*lb) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle implements balancer.Balancer.
func (b *lb) ExitIdle() { b.child.ExitIdle() }

// Close implements balancer.Balancer.
func (b *lb) Close() {
	b.child.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leave()
}

// leave removes the set from its group. mu is held.
func (b *lb) leave() {
	if b.group != nil {
		b.group.close(b.set)
	}
}

// picker chooses among the READY endpoints.
type picker struct{ set *endpoint.Set }

// Pick implements balancer.Picker.
func (p picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	a := &attempt{ctx: info.Ctx, method: info.FullMethodName, call: callOf(info.Ctx)}
	var ok bool
	if a.pick, ok = p.set.Pick(endpoint.TrailOf(info.Ctx)); !ok {
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	child := a.pick.Endpoint().Value().(*conn).picker.Load()
	if child == nil {
		a.pick.End()
		// The endpoint is about to be suspended. An UpdateState follows.
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	r, err := (*child).Pick(info)
	if err != nil {
		a.pick.End()
		return r, err
	}
	a.start()
	a.inner, r.Done = r.Done, a.done
	return r, nil
}
