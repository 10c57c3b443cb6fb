package interop_test

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/stack"
	"go.uber.org/goleak"
)

// A link of toxiproxy that a toxic has closed may keep its goroutines forever.
func TestMain(m *testing.M) {
	runtime.MemProfileRate = 1 // for heap
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"))
}

// attemptLimit is the timeout of an attempt. Streams last for streamTime.
const (
	attemptLimit = 500 * time.Millisecond
	streamTime   = 3 * attemptLimit
	patience     = 20 * time.Second // for events that must happen
)

// guard is a client stack with access to its policies.
type guard struct {
	*httpmw.Transport
	slots   *bulkhead.Bulkhead
	breaker *breaker.Breaker
}

// newGuard returns the default stack around base, with attemptLimit and very short
// waits.
func newGuard(base http.RoundTripper) guard {
	return newGuardOf(base, func(*stack.ClientConfig) {})
}

func newGuardOf(base http.RoundTripper, change func(*stack.ClientConfig)) guard {
	c := stack.DefaultClient("test")
	c.Without |= stack.Keyed
	c.Retry.BaseDelay = time.Millisecond
	c.Attempt.Timeout = attemptLimit
	change(&c)
	p := resilience.Must(c.New())
	return guard{&httpmw.Transport{Base: base, Policy: p}, find[*bulkhead.Bulkhead](p), find[*breaker.Breaker](p)}
}

func (g guard) client() *http.Client { return &http.Client{Transport: g} }

// doors is a server stack with access to its bulkhead.
type doors struct {
	httpmw.Server
	slots *bulkhead.Bulkhead
}

func newDoors() doors {
	p := withSlots()
	return doors{httpmw.Server{Policy: p}, find[*bulkhead.Bulkhead](p)}
}

// withSlots returns a server stack with a bulkhead. Streams and upgraded connections
// hold a slot until they end.
func withSlots() resilience.Policy {
	c := stack.DefaultServer("test")
	c.Bulkhead = bulkhead.Config{Name: "test", Slots: 1000, MaxQueue: -1}
	return resilience.Must(c.New())
}

// find returns the policy of type P in p.
func find[P resilience.Policy](p resilience.Policy) (found P) {
	for n := range resilience.Walk(p) {
		inner := n.Policy
		if f, ok := inner.(P); ok {
			found = f
		}
	}
	return found
}

// kinds of servers, by name.
var kinds = []string{"HTTP/1", "h2c", "HTTP/2"}

// serve starts a server of a kind that ends with the test. It returns its URL and a
// transport for it.
func serve(t testing.TB, kind string, h http.Handler) (url string, base *http.Transport) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	switch kind {
	case "HTTP/2":
		s.EnableHTTP2 = true
		s.StartTLS()
	case "h2c":
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	default:
		s.Start()
	}
	base = s.Client().Transport.(*http.Transport)
	base.Protocols = s.Config.Protocols
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections) // or Close waits for the connections of a failed test
	t.Cleanup(base.CloseIdleConnections)
	return s.URL, base
}

// each runs f with a server of each kind.
func each(t *testing.T, h http.Handler, f func(t *testing.T, url string, base *http.Transport)) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			url, base := serve(t, kind, h)
			f(t, url, base)
		})
	}
}

func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// fetch sends req and returns the status and the body of the response.
func fetch(t testing.TB, c *http.Client, req *http.Request) (int, string) {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, read(t, resp.Body)
}

func read(t testing.TB, body io.ReadCloser) string {
	t.Helper()
	b, err := io.ReadAll(body)
	if err != nil {
		t.Errorf("read the body: %v", err)
	}
	if err := body.Close(); err != nil {
		t.Errorf("close the body: %v", err)
	}
	return string(b)
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// free waits until no slot is held.
func free(t testing.TB, all ...*bulkhead.Bulkhead) {
	t.Helper()
	for _, b := range all {
		eventually(t, "all slots are free", func() bool { return b.Stats().InFlight == 0 })
	}
}

// timedOut reports whether err is a timeout, as net.Error does.
func timedOut(err error) bool {
	n, ok := err.(net.Error)
	return ok && n.Timeout()
}

// hang waits until the client has left.
func hang(_ http.ResponseWriter, r *http.Request) { wait(r.Context()) }

func wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(patience):
	}
}
