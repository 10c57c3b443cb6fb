package httpmw

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
)

const (
	// NoRefresh is an Endpoints.Every that resolves each host once.
	NoRefresh time.Duration = -1
	// defaultEvery is the default of Endpoints.Every. It bounds how long a new replica gets
	// no work, and most services answer DNS with a TTL of 5 to 60 s.
	defaultEvery = 10 * time.Second
	// defaultMaxOrigins is the default of Endpoints.Max. It is more origins than most
	// clients call, and bounds the memory of a client that calls arbitrary hosts.
	defaultMaxOrigins = 1000
)

// Endpoints is a Base for Transport that chooses among the replicas behind a host name, so
// that a replica that is down, hangs, fails or is slow rarely costs a call:
//
//	client := &http.Client{Transport: &httpmw.Transport{
//		Policy: stack.Client("payments"),
//		Base:   &httpmw.Endpoints{},
//	}}
//
// Each address of a host has a connection pool of its own, a clone of Base. Each attempt
// goes to the address that an endpoint.Set chooses. A Transport whose Base is an *Endpoints
// sends a retry to another address than the attempts before it. Only the address of the
// connection changes: URL, Host header, the server name of TLS and the check of its
// certificate, HTTP/2, trailers and upgrades are as with Base.
//
// An attempt whose address cannot be connected goes on at another one, whatever its method,
// because nothing was sent. It does so for at most three addresses, while another one works.
// A body without GetBody goes along, unless it is an *os.File.
//
// An attempt that probes an ejected address goes on at another one if it fails or takes much
// longer than usual. Only safe requests without a body do that, because the probed address
// may have processed them (RFC 9110, section 9.2.1). They do not under a context with
// WithoutRetry.
//
// Requests for which Base.Proxy returns a proxy go to Base as they are, and so do requests
// for other schemes than http and https, and for hosts with letters that are not ASCII.
//
// The zero value resolves hosts by DNS every 10 s, and clones http.DefaultTransport. An
// Endpoints is safe for concurrent use. Once it is in use, do not copy it or change its
// fields.
type Endpoints struct {
	// Name appears in events, metrics and on the debug page.
	Name string

	// Base is cloned for each address. nil is http.DefaultTransport. Its limits of
	// connections, such as MaxConnsPerHost, then hold for each address. Its DialContext is
	// called with the address. Its Dial, DialTLS, DialTLSContext, and an HTTP/2
	// implementation of its own in TLSNextProto cannot be kept: with them, RoundTrip returns
	// an error. Do not register protocols with Base.
	Base *http.Transport

	// Resolve returns the addresses of a host, as host:port. It gets the port of the URL, or
	// the default port of its scheme. nil is a lookup of IPv4 and IPv6 addresses by DNS.
	//
	// One call runs at a time for each origin. Only the first requests to an origin wait for
	// it. Later calls run beside the requests: after an error, without an address, or after
	// 30 s the previous addresses stay. ctx ends after 30 s.
	Resolve func(ctx context.Context, host, port string) ([]string, error)

	// Every is how old the addresses of an origin may be before a request has them resolved
	// again, by default 10 s. NoRefresh resolves once.
	Every time.Duration

	// Observer is called when an address is ejected and when it returns. nil is none.
	Observer resilience.Observer

	// Max is how many origins are remembered, by default 1000. More are remembered while
	// more have requests in flight. The connections of a forgotten origin are closed.
	Max int

	once     sync.Once       // guards setup, which sets the fields below and services.max
	err      error           // of the fields
	base     *http.Transport // sends what no endpoint is chosen for; nil if the fields are wrong
	root     *endpoint.Set   // the template of each service's Set
	origins  origins
	services services
	sendings sync.Pool // of *sending
	trails   sync.Pool // of *endpoint.Trail
}

// setup sets what is made of the fields. It returns an error if they are wrong.
func (e *Endpoints) setup() error {
	e.once.Do(func() {
		e.root = resilience.Must(endpoint.New(endpoint.Config{Name: e.Name, Observer: e.Observer}))
		e.services.max = int64(cmp.Or(e.Max, defaultMaxOrigins))
		e.base, e.err = e.check()
	})
	return e.err
}

// check returns the transport to clone, or an error that says what to change.
func (e *Endpoints) check() (*http.Transport, error) {
	wrong := func(field, problem string, args ...any) (*http.Transport, error) {
		return nil, configError("httpmw: Endpoints." + field + " " + fmt.Sprintf(problem, args...))
	}
	base := e.Base
	if base == nil {
		var ok bool
		if base, ok = http.DefaultTransport.(*http.Transport); !ok {
			return wrong("Base", "is nil and http.DefaultTransport is a %T, which cannot be cloned: set Base to an *http.Transport", http.DefaultTransport)
		}
	}
	switch {
	case e.Every < NoRefresh:
		return wrong("Every", "is %v: must not be negative; to resolve once use httpmw.NoRefresh", e.Every)
	case e.Max < 0:
		return wrong("Max", "is %d: must be at least 1, or 0 for the default of %d", e.Max, defaultMaxOrigins)
	case base.Dial != nil: //lint:ignore SA1019 net/http still calls it
		return wrong("Base.Dial", "is set: set DialContext instead, which gets the address of the endpoint")
	case base.DialTLS != nil: //lint:ignore SA1019 net/http still calls it
		return wrong("Base.DialTLS", "is set: set DialContext and TLSClientConfig instead")
	case base.DialTLSContext != nil:
		return wrong("Base.DialTLSContext", "is set: set DialContext and TLSClientConfig instead")
	case base.Clone().TLSNextProto["h2"] != nil: // a clone, because net/http sets the field of base
		return wrong("Base.TLSNextProto", "has an implementation of HTTP/2, whose connections all addresses would share: leave it out, and set HTTP2 and Protocols instead")
	}
	return base, nil
}

// RoundTrip implements http.RoundTripper. It returns an *EndpointError for an attempt that
// failed at an address. It uses and extends the endpoint.Trail of the request's context, if
// there is one.
func (e *Endpoints) RoundTrip(req *http.Request) (*http.Response, error) {
	if t := endpoint.TrailOf(req.Context()); t != nil {
		return e.send(req, t)
	}
	// If an address cannot be connected, the next one must be another.
	t, ok := e.trails.Get().(*endpoint.Trail)
	if !ok {
		t = new(endpoint.Trail)
	}
	resp, err := e.send(req, t)
	*t = endpoint.Trail{}
	e.trails.Put(t)
	return resp, err
}

// CloseIdleConnections closes the idle connections to all addresses, and Base's.
func (e *Endpoints) CloseIdleConnections() {
	if e.setup() != nil {
		return
	}
	e.base.CloseIdleConnections()
	for s := range e.services.all() {
		s.closeIdle()
	}
}

// Policy returns a policy for metrics.NewCollector and debug.Handler, which find in it the
// endpoint.Set of each origin. It guards nothing.
func (e *Endpoints) Policy() resilience.Policy { return endpointsPolicy{e} }

// endpointsPolicy is an Endpoints as a group of its endpoint.Sets.
type endpointsPolicy struct{ of *Endpoints }

// Name returns the name from the Endpoints.
func (p endpointsPolicy) Name() string { return p.of.Name }

// Apply implements resilience.Policy.
func (endpointsPolicy) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }

// Nodes returns the template, and the Set of each origin. resilience.Walk calls it.
func (p endpointsPolicy) Nodes() iter.Seq[resilience.Node] {
	e := p.of
	_ = e.setup() // root is there in any case
	return func(yield func(resilience.Node) bool) {
		if !yield(resilience.Node{Policy: e.root, Template: true}) {
			return
		}
		for s := range e.services.all() {
			if !yield(resilience.Node{Policy: s.set, Key: s.key, Fork: true}) {
				return
			}
		}
	}
}
