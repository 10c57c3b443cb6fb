package httpmw

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fallbackDelay is how long a dial may take while an address of the other family, IPv4
	// or IPv6, works. It is the FallbackDelay of net.Dialer (RFC 6555).
	fallbackDelay = 300 * time.Millisecond
	// connectTime is how long a dial may take while another address of the same family
	// works. It is enough for the first packet to be lost and sent again after 1 s.
	connectTime = 2 * time.Second
	// closeAgain is when the idle connections of a dropped address are closed again. Over
	// HTTP/2 a stream may outlive its attempt for a moment, and keeps its connection from
	// being idle. A dial may outlive the attempt that it was for.
	closeAgain = time.Second
)

// replica is an address of a service and its connections. It is the Value of its
// endpoint.Endpoint.
type replica struct {
	service *service
	address string
	gone    atomic.Bool // no longer an address of the service

	mu   sync.Mutex                     // held to make the transport
	made atomic.Pointer[http.Transport] // nil before the first attempt
}

// transport returns the transport whose connections all lead to the address.
func (r *replica) transport() *http.Transport {
	if t := r.made.Load(); t != nil {
		return t
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.made.Load()
	if t == nil {
		t = r.clone()
		r.made.Store(t)
	}
	return t
}

func (r *replica) clone() *http.Transport {
	base := r.service.endpoints.base
	t := base.Clone()
	t.Proxy = nil // it has returned no proxy for these requests
	t.DialContext = r.dial
	// A DialContext turns HTTP/2 off, unless ForceAttemptHTTP2 is set. After Clone, base has
	// an entry for h2 if it uses HTTP/2.
	t.ForceAttemptHTTP2 = base.ForceAttemptHTTP2 || base.TLSNextProto["h2"] != nil
	return t
}

// dial connects the address, whatever host net/http needs a connection for. Each error is a
// net.OpError with Op dial, which proves that nothing was sent.
func (r *replica) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	dial := r.service.endpoints.base.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	whole := ctx
	if d := r.dialTimeout(); d > 0 && ctx.Value(lastTryKey{}) == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	conn, err := dial(ctx, network, r.address)
	if err == nil && conn == nil {
		err = errors.New("net/http: Transport.DialContext hook returned (nil, nil)")
	}
	if err == nil {
		return conn, nil
	}
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "dial" {
		op = &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return nil, &dialError{op, ctx.Err() != nil && whole.Err() == nil}
}

// lastTryKey is in the context of an attempt after which no other address is tried. Its dial
// has the time that Base allows.
type lastTryKey struct{}

// dialError is the error of replica.dial, unlike a dial that user code makes.
type dialError struct {
	*net.OpError
	cut bool // the dial took too long while another address works
}

func (e *dialError) Unwrap() error { return e.OpError }

// dialTimeout returns how long a dial may take before another address is tried, 0 if none
// works.
func (r *replica) dialTimeout() (d time.Duration) {
	for _, e := range r.service.set.Endpoints() {
		switch a := e.Address(); {
		case a == r.address || !e.Working():
		case isIPv6(a) != isIPv6(r.address):
			return fallbackDelay
		default:
			d = connectTime
		}
	}
	return d
}

func isIPv6(address string) bool {
	a, err := netip.ParseAddrPort(address)
	return err == nil && a.Addr().Is6() && !a.Addr().Is4In6()
}

// leaving reports whether connections are to be closed when they are idle.
func (r *replica) leaving() bool { return r.gone.Load() || r.service.dropped.Load() }

// drop has the connections closed as soon as they are idle.
func (r *replica) drop() {
	r.gone.Store(true)
	r.closeTwice()
}

func (r *replica) closeIdle() {
	if t := r.made.Load(); t != nil {
		t.CloseIdleConnections()
	}
}

// ended closes idle connections after an attempt at r, which is leaving, has ended. inFlight
// is how many attempts have not.
func (r *replica) ended(inFlight int64) {
	if inFlight == 0 {
		r.closeTwice()
	} else {
		r.closeIdle()
	}
}

// closeTwice closes the idle connections now and after closeAgain.
func (r *replica) closeTwice() {
	if t := r.made.Load(); t != nil {
		t.CloseIdleConnections()
		time.AfterFunc(closeAgain, t.CloseIdleConnections)
	}
}
