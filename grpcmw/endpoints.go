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
func WithEndpoints() grpc.DialOption { return defaultGroup().dialOption() }

// Endpoints makes connections choose among the endpoints of their targets, with an
// endpoint.Set for each connection. An endpoint is what the resolver returns as one: a
// server, which may have several addresses. gRPC makes one connection to each.
//
//	endpoints := &grpcmw.Endpoints{Name: "payments", Observer: resilience.LogObserver(nil)}
//	conn, err := grpc.NewClient("dns:///payments:443", creds, endpoints.DialOption(),
//		grpc.WithChainUnaryInterceptor(client.Unary), grpc.WithChainStreamInterceptor(client.Stream))
//
// The interceptors of a Client tell the balancer which attempts belong to one call, so that a
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
// It may also come from a resolver, whose service config replaces the default one. If no
// Endpoints has the name, the balancer works without an observer. If several have it, the
// name stands for the first of them that had DialOption or Policy called.
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
	key      string // in service configs
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
// it has g's key. The option and the connections made with it keep the text, and the text
// keeps g.
func (g *group) dialOption() grpc.DialOption {
	type balancers map[string]lbConfig
	text, err := json.Marshal(map[string][]balancers{"loadBalancingConfig": {{balancerName: {Name: g.key}}}})
	if err != nil {
		panic(err) // it has only maps and a string
	}
	js := string(text)
	runtime.AddCleanup(unsafe.StringData(js), func(*group) {}, g)
	return grpc.WithDefaultServiceConfig(js)
}

// lbConfig is the service config of a balancer.
type lbConfig struct {
	serviceconfig.LoadBalancingConfig `json:"-"`

	Name  string `json:"name,omitempty"` // the key of the group
	group *group
}

// ParseConfig implements balancer.ConfigParser.
func (builder) ParseConfig(text json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	c := &lbConfig{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("grpcmw: the service config of %s is %s: it must be {} or {\"name\": \"…\"}: %w", balancerName, text, err)
	}
	c.group = groups.named(c.Name)
	balancing.Store(true)
	return c, nil
}

// groups finds the groups of the process by the keys in service configs.
var groups = groupTable{byKey: map[string]weak.Pointer[group]{}}

// defaultGroup is the group of service configs without a name.
var defaultGroup = sync.OnceValue(func() *group { return groups.named("") })

// groupTable does not keep a group that nothing else uses: a program may make any number of
// Endpoints.
type groupTable struct {
	mu    sync.Mutex
	byKey map[string]weak.Pointer[group]
}

// add returns a new group. Its key is name, with a number if that is in use.
func (t *groupTable) add(name string, o resilience.Observer) *group {
	if name == "" {
		defaultGroup() // has the key ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.addLocked(name, o)
}

func (t *groupTable) addLocked(name string, o resilience.Observer) *group {
	c := endpoint.Config{Name: name}
	if o != nil {
		c.Observer = &lateObserver{observer: o}
	}
	key := unused(name, func(key string) bool { return t.byKey[key].Value() != nil })
	g := &group{key: key, template: resilience.Must(endpoint.New(c))}
	p := weak.Make(g)
	t.byKey[key] = p
	runtime.AddCleanup(g, func(p weak.Pointer[group]) { t.remove(key, p) }, p)
	return g
}

// named returns the group with the key. If there is none, it adds one.
func (t *groupTable) named(key string) *group {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.byKey[key].Value(); g != nil {
		return g
	}
	return t.addLocked(key, nil)
}

func (t *groupTable) remove(key string, p weak.Pointer[group]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byKey[key] == p {
		delete(t.byKey, key)
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

// observe drops a panic of the observer.
func (l *lateObserver) observe(e resilience.Event) {
	defer func() { _ = recover() }()
	l.observer.Observe(context.Background(), e)
}
