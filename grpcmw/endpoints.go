package grpcmw

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"unsafe"
	"weak"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"google.golang.org/grpc"
	"google.golang.org/grpc/serviceconfig"
)

// balancerName is the name of the load balancer in a service config.
const balancerName = "resilience_endpoint"

// WithEndpoints makes a connection choose among the endpoints of its target, as Endpoints
// does, without a name and an observer. It is the default service config
//
//	{"loadBalancingConfig": [{"resilience_endpoint": {}}]}
func WithEndpoints() grpc.DialOption {
	return grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"` + balancerName + `": {}}]}`)
}

// Endpoints makes connections choose among the endpoints of their targets, with an
// endpoint.Set for each connection. An endpoint is what the resolver returns as one: a
// server, which may have several addresses. gRPC makes one connection to each.
//
//	endpoints := &grpcmw.Endpoints{Name: "payments", Observer: resilience.LogObserver(nil)}
//	conn, err := grpc.NewClient("dns:///payments:443", creds, endpoints.DialOption(),
//		grpc.WithChainUnaryInterceptor(client.Unary), grpc.WithChainStreamInterceptor(client.Stream))
//
// The interceptors of a Client mark which attempts belong to one call, so that a
// retry goes to another endpoint, and when a stream is answered. Without them, and for
// streams of requests, the time to an answer is not measured: such an attempt counts by its
// result only.
//
// Calls are made to endpoints that are connected. If none is, calls wait or fail as gRPC
// always makes them. An endpoint that gRPC could not connect to starts slowly when it is
// connected again. If a connection breaks and gRPC makes a new one at once, the endpoint
// stays in the state that it had.
//
// An Endpoints may be used for any number of connections, also for several to one target:
// each has a Set of its own, and their counters add up. The fields must not change after the
// first call of a method. An Endpoints must not be copied.
type Endpoints struct {
	// Name appears in events and reports. A service config can also use it; see DialOption.
	Name string
	// Observer is called when an endpoint is ejected and when it returns, nil for none. It
	// runs on a goroutine of its own, because gRPC holds locks when that happens.
	Observer resilience.Observer

	once sync.Once
	g    *group
}

// DialOption returns the option for grpc.NewClient. It sets the default service config of a
// connection; of several such options, gRPC uses the last. A service config with more than
// the balancer contains the name of e:
//
//	{"loadBalancingConfig": [{"resilience_endpoint": {"name": "payments"}}], "methodConfig": …}
//
// It may also come from a resolver, whose service config replaces the default one. The name
// stands for the Endpoints with that name on which DialOption or Policy was called last.
// Keep e in use for that long. Without such an Endpoints, the balancer has no observer.
func (e *Endpoints) DialOption() grpc.DialOption { return e.group().dialOption() }

// Policy returns a policy that guards nothing. It is for metrics.NewCollector and
// debug.Handler, which find in it the endpoint.Set of each connection, by target.
func (e *Endpoints) Policy() resilience.Policy { return e.group() }

func (e *Endpoints) group() *group {
	e.once.Do(func() { e.g = groups.add(e.Name, e.Observer) })
	return e.g
}

// group is the connections of one Endpoints.
type group struct {
	id       uint64 // in service configs
	template *endpoint.Set

	mu    sync.Mutex
	conns []member
}

// member is the set of one connection.
type member struct {
	key string
	set *endpoint.Set
}

// Apply implements resilience.Policy.
func (*group) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }

// Name returns the name from the Endpoints.
func (g *group) Name() string { return g.template.Name() }

// Nodes returns the template of the sets, and the sets of the present connections by their
// targets. resilience.Walk calls it.
func (g *group) Nodes() iter.Seq[resilience.Node] {
	return func(yield func(resilience.Node) bool) {
		if !yield(resilience.Node{Policy: g.template, Template: true}) {
			return
		}
		g.mu.Lock()
		conns := slices.Clone(g.conns)
		g.mu.Unlock()
		for _, c := range conns {
			if !yield(resilience.Node{Policy: c.set, Key: c.key, Fork: true}) {
				return
			}
		}
	}
}

// open returns the set of a new connection. Its key is the target, with a number if the
// target has several connections.
func (g *group) open(target string) *endpoint.Set {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := unused(target, func(key string) bool {
		return slices.ContainsFunc(g.conns, func(c member) bool { return c.key == key })
	})
	set := g.template.Fork(key).(*endpoint.Set)
	g.conns = append(g.conns, member{key, set})
	return set
}

// close removes the set of a connection.
func (g *group) close(set *endpoint.Set) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns = slices.DeleteFunc(g.conns, func(c member) bool { return c.set == set })
}

// unused returns name, or name with the lowest number from 2 on that makes it unused.
func unused(name string, used func(string) bool) string {
	key := name
	for n := 2; used(key); n++ {
		key = fmt.Sprintf("%s#%d", name, n)
	}
	return key
}

// dialOption returns the option that has a connection use g. A service config is a text, so
// it has g's id. The option and the connections made with it keep the text in memory, and
// the text keeps g.
func (g *group) dialOption() grpc.DialOption {
	text := fmt.Sprintf(`{"loadBalancingConfig": [{%q: {"id": %d}}]}`, balancerName, g.id)
	runtime.AddCleanup(unsafe.StringData(text), func(*group) {}, g)
	return grpc.WithDefaultServiceConfig(text)
}

// balancerSettings is the part of a service config that is about the balancer.
type balancerSettings struct {
	serviceconfig.LoadBalancingConfig `json:"-"`

	ID    uint64 `json:"id"` // only in the texts of dialOption
	Name  string `json:"name"`
	group *group
}

// ParseConfig implements balancer.ConfigParser.
func (builder) ParseConfig(text json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	c := &balancerSettings{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("grpcmw: the service config of %s is %s: it must be {} or {\"name\": \"…\"}: %w", balancerName, text, err)
	}
	c.group = groups.find(c.ID, c.Name)
	balancing.Store(true)
	return c, nil
}

// groups is the groups of the process.
var groups = groupTable{byID: map[uint64]weak.Pointer[group]{}, byName: map[string]weak.Pointer[group]{}}

// defaultGroup returns the group of service configs without a name.
var defaultGroup = sync.OnceValue(func() *group { return groups.find(0, "") })

// groupTable finds groups by what service configs contain. It does not keep a group in
// memory that nothing else uses: a program may make any number of Endpoints.
type groupTable struct {
	mu     sync.Mutex
	last   uint64 // the last id
	byID   map[uint64]weak.Pointer[group]
	byName map[string]weak.Pointer[group] // the newest of each name
}

// add returns a new group.
func (t *groupTable) add(name string, o resilience.Observer) *group {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.addLocked(name, o, name != "")
}

func (t *groupTable) addLocked(name string, o resilience.Observer, named bool) *group {
	c := endpoint.Config{Name: name}
	if o != nil {
		c.Observer = &lateObserver{observer: o}
	}
	t.last++
	g := &group{id: t.last, template: resilience.Must(endpoint.New(c))}
	p := weak.Make(g)
	t.byID[g.id] = p
	if named {
		t.byName[name] = p
	}
	id := g.id
	runtime.AddCleanup(g, func(p weak.Pointer[group]) { t.remove(id, name, p) }, p)
	return g
}

// find returns the group with the id, or else the newest one with the name. If there is
// none, it adds one.
func (t *groupTable) find(id uint64, name string) *group {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.byID[id].Value(); g != nil {
		return g
	}
	if g := t.byName[name].Value(); g != nil {
		return g
	}
	return t.addLocked(name, nil, true)
}

func (t *groupTable) remove(id uint64, name string, p weak.Pointer[group]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, id)
	if t.byName[name] == p {
		delete(t.byName, name)
	}
}

// lateObserver calls an observer on a goroutine of its own, with one event after another.
type lateObserver struct {
	observer resilience.Observer

	mu      sync.Mutex
	events  []resilience.Event
	running bool
}

// Observe implements resilience.Observer.
func (l *lateObserver) Observe(_ context.Context, e resilience.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	if !l.running {
		l.running = true
		go l.run()
	}
}

func (l *lateObserver) run() {
	for {
		l.mu.Lock()
		if len(l.events) == 0 {
			l.events, l.running = nil, false
			l.mu.Unlock()
			return
		}
		e := l.events[0]
		l.events = l.events[1:]
		l.mu.Unlock()
		l.observe(e)
	}
}

// observe drops a panic of the observer. If the observer calls runtime.Goexit, another
// goroutine goes on.
func (l *lateObserver) observe(e resilience.Event) {
	returned := false
	defer func() {
		if recover() == nil && !returned {
			go l.run()
		}
	}()
	l.observer.Observe(context.Background(), e)
	returned = true
}
