package httpmw

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/internal/adapter"
)

// resolveTimeout is how long a resolution may take. A lookup by DNS gives up within that time
// if no name server answers, and the dialer of http.DefaultTransport has the same timeout.
const resolveTimeout = 30 * time.Second

// renewEvery is the least time between two resolutions because an address could not be
// connected. A call that fails within that time does not wait for one.
const renewEvery = time.Second

var errNoAddresses = errors.New("there are no addresses")

// service is an origin with the endpoints behind its host.
type service struct {
	endpoints       *Endpoints
	key, host, port string
	set             *endpoint.Set

	used    atomic.Bool // since the last sweep
	dropped atomic.Bool // forgotten: connections close when they become idle
	fixed   bool        // the addresses never change
	renewed atomic.Bool // within renewEvery, because an address could not be connected
	ready   atomic.Bool // there are addresses
	due     atomic.Bool // the addresses should be resolved again

	mu      sync.Mutex  // guards the fields below
	running *resolution // nil if none runs
	timer   *time.Timer // sets due
}

// resolution is one lookup of the addresses of a service.
type resolution struct {
	once sync.Once
	done chan struct{}
	err  error // set before done is closed
}

func (r *resolution) finish(err error) {
	r.once.Do(func() {
		r.err = err
		close(r.done)
	})
}

// service returns the service of the origin of u.
func (e *Endpoints) service(u *url.URL) *service {
	key := e.origins.find(u).key
	return e.services.get(key, func() *service {
		origin, _ := adapter.ParseURL(key) // fails only if host is empty or invalid
		s := &service{endpoints: e, key: key, set: e.root.Fork(key).(*endpoint.Set)}
		if origin != nil {
			s.host, s.port = origin.Hostname(), origin.Port()
		}
		if _, err := netip.ParseAddr(s.host); err == nil && e.Resolve == nil {
			s.fixed = true
			s.update([]string{net.JoinHostPort(s.host, s.port)})
		}
		return s
	})
}

// resolved returns when the service has addresses, or an error why it has none. If the
// addresses are due, it has them resolved beside the request.
func (s *service) resolved(req *http.Request) error {
	if s.ready.Load() {
		if s.due.Load() && s.due.CompareAndSwap(true, false) {
			s.resolve()
		}
		return nil
	}
	return s.await(req)
}

// renew has the addresses resolved again, because one could not be connected, and reports
// whether that has succeeded before the request ended. It does so once in renewEvery.
func (s *service) renew(req *http.Request) bool {
	if s.fixed || s.endpoints.Every == NoRefresh || !s.renewed.CompareAndSwap(false, true) {
		return false
	}
	time.AfterFunc(renewEvery, func() { s.renewed.Store(false) })
	return s.await(req) == nil
}

// await waits for the resolution that runs, or for a new one.
func (s *service) await(req *http.Request) error {
	r := s.resolve()
	select {
	case <-r.done:
		return r.err
	case <-req.Context().Done():
		return context.Cause(req.Context())
	case <-req.Cancel: //lint:ignore SA1019 net/http obeys it
		return errors.New("net/http: request canceled while waiting for connection")
	}
}

// resolve starts a resolution, unless one runs. It returns the one that runs.
func (s *service) resolve() *resolution {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		s.running = &resolution{done: make(chan struct{})}
		go s.run(s.running)
	}
	return s.running
}

// run makes the resolution r. If Resolve does not return within resolveTimeout, the requests
// that wait get an error. No other resolution starts until it returns.
func (s *service) run(r *resolution) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	late := s.wrapLookup(fmt.Errorf("no answer within %v", resolveTimeout))
	context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			r.finish(late)
		}
	})
	err := s.wrapLookup(errors.New("panic or runtime.Goexit"))
	defer func() {
		if v := recover(); v != nil { // on this goroutine a panic would end the program
			err = s.wrapLookup(fmt.Errorf("panic: %v", v))
		}
		if ctx.Err() != nil {
			err = late
		}
		s.ran(err == nil)
		r.finish(err)
	}()
	var addresses []string
	if addresses, err = s.lookup(ctx); err == nil && ctx.Err() == nil {
		s.update(addresses)
	}
}

// ran ends the resolution that runs.
func (s *service) ran(ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = nil
	every := s.endpoints.Every
	if every == NoRefresh && s.ready.Load() || s.dropped.Load() || !ok && !s.ready.Load() {
		return
	}
	if every == 0 {
		every = defaultEvery
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer = time.AfterFunc(every, func() { s.due.Store(true) })
}

// lookup returns the addresses of the host, at least one.
func (s *service) lookup(ctx context.Context) ([]string, error) {
	resolve := s.endpoints.Resolve
	if resolve == nil {
		resolve = lookupDNS
	}
	addresses, err := resolve(ctx, s.host, s.port)
	if err != nil {
		return nil, s.wrapLookup(err)
	}
	if len(addresses) == 0 {
		return nil, s.wrapLookup(errNoAddresses)
	}
	valid := make([]string, len(addresses))
	for i, a := range addresses {
		if valid[i], err = address(a); err != nil {
			return nil, configError(fmt.Sprintf("httpmw: Endpoints.Resolve of %s:%s: %v", s.host, s.port, err))
		}
	}
	return valid, nil
}

// address returns a in its usual spelling, or an error if it is not host:port.
func address(a string) (string, error) {
	if ip, err := netip.ParseAddrPort(a); err == nil {
		return ip.String(), nil
	}
	host, port, err := net.SplitHostPort(a)
	if err != nil || host == "" || port == "" || !adapter.ValidPort(port) {
		return "", fmt.Errorf("the address %q is not host:port: write it as 10.0.0.1:443 or [2001:db8::1]:443", a)
	}
	return a, nil
}

func lookupDNS(ctx context.Context, host, port string) ([]string, error) {
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	for i, a := range addresses {
		addresses[i] = net.JoinHostPort(a, port)
	}
	return addresses, err
}

// wrapLookup returns the error of a resolution as net/http returns one of a lookup.
func (s *service) wrapLookup(err error) error {
	if s.endpoints.Resolve != nil {
		err = fmt.Errorf("resolve %s:%s: %w", s.host, s.port, err)
	}
	return &net.OpError{Op: "dial", Net: "tcp", Err: err}
}

// update replaces the addresses.
func (s *service) update(addresses []string) {
	gone := s.set.Update(addresses, func(a string) any { return &replica{service: s, address: a} })
	for _, e := range gone {
		e.Value().(*replica).drop()
	}
	s.ready.Store(true)
}

// inUse reports whether a request is in flight, or waits for addresses.
func (s *service) inUse() bool {
	s.mu.Lock()
	waits := s.running != nil && !s.ready.Load()
	s.mu.Unlock()
	if waits {
		return true
	}
	for _, e := range s.set.Endpoints() {
		if e.InFlight() > 0 {
			return true
		}
	}
	return false
}

// drop has the connections closed as soon as they are idle. Requests may still use s.
func (s *service) drop() {
	s.dropped.Store(true)
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	for _, e := range s.set.Endpoints() {
		e.Value().(*replica).closeTwice()
	}
}

func (s *service) closeIdle() {
	for _, e := range s.set.Endpoints() {
		e.Value().(*replica).closeIdle()
	}
}
