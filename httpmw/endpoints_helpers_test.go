package httpmw_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

type resolver = func(ctx context.Context, host, port string) ([]string, error)

// fixed returns a Resolve that always returns addresses.
func fixed(addresses ...string) resolver {
	return func(context.Context, string, string) ([]string, error) { return addresses, nil }
}

// answers is a Resolve whose answer a test changes. It counts its calls.
type answers struct {
	next  atomic.Pointer[func() ([]string, error)]
	calls atomic.Int32
}

func newAnswers(addresses ...string) *answers {
	a := &answers{}
	a.set(addresses...)
	return a
}

func (a *answers) set(addresses ...string) {
	a.do(func() ([]string, error) { return addresses, nil })
}

func (a *answers) do(f func() ([]string, error)) { a.next.Store(&f) }

func (a *answers) resolve(context.Context, string, string) ([]string, error) {
	defer a.calls.Add(1)
	return (*a.next.Load())()
}

// choose returns an Endpoints that resolves by r. Its connections are closed when the test
// ends.
func choose(t testing.TB, base *http.Transport, r resolver) *httpmw.Endpoints {
	t.Helper()
	if base == nil {
		base = &http.Transport{}
	}
	e := &httpmw.Endpoints{Base: base, Resolve: r}
	t.Cleanup(e.CloseIdleConnections)
	return e
}

// replicas are servers that answer with their number.
type replicas []*replica

type replica struct {
	*httptest.Server
	handler atomic.Pointer[http.HandlerFunc]
	calls   atomic.Int32
	open    atomic.Int32 // connections
}

// serveReplicas starts n servers. They are closed when the test ends.
func serveReplicas(t testing.TB, n int) replicas {
	t.Helper()
	all := make(replicas, n)
	for i := range all {
		r := &replica{}
		all[i] = r
		r.handle(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, string(rune('0'+i))) })
		r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			r.calls.Add(1)
			(*r.handler.Load())(w, req)
		}))
		r.Config.ConnState = countOpen(&r.open)
		r.Config.Protocols = new(http.Protocols)
		r.Config.Protocols.SetHTTP1(true)
		r.Config.Protocols.SetUnencryptedHTTP2(true)
		r.Start()
		t.Cleanup(r.Close)
	}
	return all
}

func (r *replica) handle(f http.HandlerFunc) { r.handler.Store(&f) }

func (r *replica) address() string { return r.Listener.Addr().String() }

func (all replicas) addresses() (a []string) {
	for _, r := range all {
		a = append(a, r.address())
	}
	return a
}

// countOpen returns a ConnState that counts the connections that are open.
func countOpen(open *atomic.Int32) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
}

// status answers with code.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// hang answers when the client has left.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// setsOf returns the Sets of e by their keys.
func setsOf(e *httpmw.Endpoints) map[string]*endpoint.Set {
	sets := map[string]*endpoint.Set{}
	for n := range resilience.Walk(e.Policy()) {
		if s, ok := n.Policy.(*endpoint.Set); ok && !n.Template {
			sets[n.Key] = s
		}
	}
	return sets
}

// setOf returns the only Set of e.
func setOf(t testing.TB, e *httpmw.Endpoints) *endpoint.Set {
	t.Helper()
	sets := setsOf(e)
	if len(sets) != 1 {
		t.Fatalf("%d sets, want 1", len(sets))
	}
	for _, s := range sets {
		return s
	}
	return nil
}

// inFlight returns how many attempts at the endpoints of e have not ended.
func inFlight(e *httpmw.Endpoints) (n int64) {
	for _, s := range setsOf(e) {
		for _, one := range s.Endpoints() {
			n += one.InFlight()
		}
	}
	return n
}

// roundTrip sends a request and returns the content of the response.
func roundTrip(t testing.TB, rt http.RoundTripper, method, url, content string) (string, error) {
	t.Helper()
	var body io.Reader
	if content != "" {
		body = strings.NewReader(content)
	}
	resp, err := rt.RoundTrip(newRequest(t, method, url, body))
	if err != nil {
		return "", err
	}
	return read(t, resp), nil
}

// fetch returns the content of url, and ends the test if there is none.
func fetch(t testing.TB, rt http.RoundTripper, url string) string {
	t.Helper()
	content, err := roundTrip(t, rt, "GET", url, "")
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// eventually waits until f returns true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in 5 s: %s", what)
		}
	}
}

// hammer calls f with 0 to n-1 on each of several goroutines.
func hammer(t testing.TB, goroutines, n int, f func(i int)) {
	t.Helper()
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for i := range n {
				f(i)
			}
		})
	}
	all.Wait()
}

// memory serves handlers in memory, by their addresses, and returns a Base that connects to
// them. An address whose handler is nil does not answer a dial, and any other address refuses
// it. Call memory in a synctest bubble.
func memory(t testing.TB, handlers map[string]http.HandlerFunc) *http.Transport {
	listeners := map[string]*testkit.Listener{}
	for address, h := range handlers {
		if h == nil {
			listeners[address] = testkit.NewListener() // accepts nothing
			continue
		}
		s := &http.Server{Handler: h}
		l := testkit.NewListener()
		listeners[address] = l
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
	}
	return &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		l, ok := listeners[address]
		if !ok {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return l.Dial(ctx)
	}}
}

// answerWith answers with content.
func answerWith(content string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, content) }
}
