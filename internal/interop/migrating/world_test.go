package migrating_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	failsafebulkhead "github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	failsafetimeout "github.com/failsafe-go/failsafe-go/timeout"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/timeout"
	"github.com/sony/gobreaker/v2"
)

// maker returns a client of a library around base.
type maker func(base http.RoundTripper) http.RoundTripper

// world is a server, a client and a clock for one run.
type world struct {
	t    *testing.T
	ctx  context.Context // of all calls, done at the end
	make maker
	base *counted

	handler  atomic.Pointer[http.HandlerFunc]
	requests atomic.Int32
	flying   atomic.Int32
	peak     atomic.Int32
	dials    atomic.Int32
	down     sync.Map // addresses that refuse connections

	mu    sync.Mutex
	times []time.Time
}

// inWorld runs f with a client of m and returns its result.
func inWorld(t *testing.T, m maker, f func(w *world) string) (said string) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &world{t: t, ctx: ctx, make: m}
		l := testkit.NewListener()
		s := &http.Server{Handler: http.HandlerFunc(w.serve), ErrorLog: log.New(io.Discard, "", 0)}
		go s.Serve(l)
		transport := &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			w.dials.Add(1)
			if _, down := w.down.Load(addr); down {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
			}
			return l.Dial(ctx)
		}, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			w.dials.Add(1)
			return nil, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
		}}
		w.base = &counted{RoundTripper: transport}
		said = f(w)
		cancel() // a body that is not closed holds its connection until then
		transport.CloseIdleConnections()
		s.Close()
	})
	return said
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.times = append(w.times, time.Now())
	w.mu.Unlock()
	w.requests.Add(1)
	n := w.flying.Add(1)
	defer w.flying.Add(-1)
	for p := w.peak.Load(); n > p && !w.peak.CompareAndSwap(p, n); p = w.peak.Load() {
	}
	(*w.handler.Load())(rw, r)
}

func (w *world) handle(h http.HandlerFunc) { w.handler.Store(&h) }

// client returns a new client.
func (w *world) client() *http.Client { return &http.Client{Transport: w.make(w.base)} }

// waits returns the times between the requests since the last call of waits.
func (w *world) waits() (all []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := 1; i < len(w.times); i++ {
		all = append(all, w.times[i].Sub(w.times[i-1]))
	}
	w.times = nil
	return all
}

const (
	hostA = "http://a.example"
	hostB = "http://b.example"
)

func (w *world) request(ctx context.Context, method, url string, body io.Reader) *http.Request {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		w.t.Fatal(err)
	}
	return req
}

func (w *world) get(c *http.Client, url string) answer {
	return w.send(c, w.request(w.ctx, "GET", url, nil))
}

// send sends req and reads what comes back.
func (w *world) send(c *http.Client, req *http.Request) answer {
	start := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		return answer{err: err, took: time.Since(start)}
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	return answer{resp.StatusCode, string(body), err, time.Since(start)}
}

// answer is the result of a call.
type answer struct {
	status int
	body   string
	err    error
	took   time.Duration
}

func (a answer) ok() bool { return a.err == nil && a.status == 200 }

// refused reports whether a breaker has rejected the call.
func (a answer) refused() bool {
	for _, err := range []error{breaker.ErrOpen, circuitbreaker.ErrOpen, gobreaker.ErrOpenState, gobreaker.ErrTooManyRequests} {
		if errors.Is(a.err, err) {
			return true
		}
	}
	return false
}

// sentinels are the errors that a caller can match, with the names that the page uses.
var sentinels = []struct {
	name string
	err  error
}{
	{"retrypolicy.ErrExceeded", retrypolicy.ErrExceeded},
	{"timeout.ErrExceeded", failsafetimeout.ErrExceeded}, {"timeout.ErrExceeded", timeout.ErrExceeded},
	{"circuitbreaker.ErrOpen", circuitbreaker.ErrOpen}, {"breaker.ErrOpen", breaker.ErrOpen},
	{"gobreaker.ErrOpenState", gobreaker.ErrOpenState}, {"gobreaker.ErrTooManyRequests", gobreaker.ErrTooManyRequests},
	{"bulkhead.ErrFull", bulkhead.ErrFull}, {"bulkhead.ErrFull", failsafebulkhead.ErrFull},
	{"context.DeadlineExceeded", context.DeadlineExceeded}, {"ECONNREFUSED", syscall.ECONNREFUSED},
}

// String returns the text for the page.
func (a answer) String() string {
	if a.err != nil {
		var names []string
		for _, known := range sentinels {
			if errors.Is(a.err, known.err) {
				names = append(names, "`"+known.name+"`")
			}
		}
		if names == nil {
			return "an error"
		}
		return strings.Join(names, " that matches ")
	}
	if a.body == down {
		return fmt.Sprintf("the %d with its body", a.status)
	}
	return fmt.Sprintf("the %d", a.status)
}

func seconds(d time.Duration) string {
	if d < time.Second {
		return "in less than 1 s"
	}
	return fmt.Sprintf("after %.0f s", d.Seconds())
}

func count(n int32, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// down is the body of a failure.
const down = "down"

func fail(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, down)
	}
}

func succeed(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// then uses first for the first request and second for all others.
func then(first, second http.HandlerFunc) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			first(w, r)
			return
		}
		second(w, r)
	}
}

// counted counts the open bodies.
type counted struct {
	http.RoundTripper
	open atomic.Int32
}

func (c *counted) CloseIdleConnections() {
	c.RoundTripper.(*http.Transport).CloseIdleConnections()
}

func (c *counted) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(req)
	if err == nil {
		c.open.Add(1)
		resp.Body = &countedBody{ReadCloser: resp.Body, open: &c.open}
	}
	return resp, err
}

type countedBody struct {
	io.ReadCloser
	open *atomic.Int32
	once sync.Once
}

func (b *countedBody) Close() error {
	b.once.Do(func() { b.open.Add(-1) })
	return b.ReadCloser.Close()
}
