package httpmw_test

import (
	"context"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/keyed"
)

// allocations returns the least that f allocates. The race detector makes a sync.Pool forget
// some of its content, so the count of a single run varies.
func allocations(f func()) float64 {
	least := math.Inf(1)
	for range 50 {
		least = min(least, testing.AllocsPerRun(1, f))
	}
	return least
}

// A call through a Transport allocates once more than without it.
func TestTransport_allocatesOnceMore(t *testing.T) {
	resp := response(200, "body")
	bare := resp.Body
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		resp.Body = bare
		return resp, nil
	})
	req := newRequest(t, "GET", "http://x", nil)
	upload := newRequest(t, "PUT", "http://x", strings.NewReader("content"))
	post := newRequest(t, "POST", "http://x", strings.NewReader("content"))
	stream := newRequest(t, "PUT", "http://x", &body{Reader: strings.NewReader("content")})
	real := resilience.Compose(newRetry(), newBreaker(3), newBulkhead(10))
	for name, policy := range map[string]resilience.Policy{
		"no policy":              resilience.Compose(),
		"body not held":          &testkit.Holder{At: resilience.Answered},
		"body held":              resilience.Compose(again(3), &testkit.Holder{At: resilience.Answered}, &testkit.Holder{At: resilience.Ended}),
		"real policies":          real,
		"real ones of each host": resilience.Must(keyed.New(real, keyed.Config{})),
	} {
		tr := &httpmw.Transport{Base: base, Policy: policy}
		for _, req := range []*http.Request{req, upload, post, stream} {
			got := allocations(func() {
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			})
			if got != 1 {
				t.Errorf("%s, %s of a %T: %v allocations more", name, req.Method, req.Body, got)
			}
		}
	}
}

// An attempt at an endpoint allocates no more than one with net/http, except for the body of
// the response.
func TestEndpoints_allocations(t *testing.T) {
	for answer, want := range map[string]float64{
		"HTTP/1.1 204 No Content\r\n\r\n":                     0,
		"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncontent": 1,
	} {
		base := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return &cannedConn{answer: []byte(answer), ready: make(chan struct{}, 1), closed: make(chan struct{})}, nil
		}}
		t.Cleanup(base.CloseIdleConnections)
		count := func(rt http.RoundTripper) float64 {
			req := newRequest(t, "GET", "http://service", nil)
			content := make([]byte, 100)
			n := math.Inf(1)
			for range 5 {
				n = min(n, allocations(func() {
					resp, err := rt.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					for err == nil {
						_, err = resp.Body.Read(content)
					}
					resp.Body.Close()
				}))
			}
			return n
		}
		guarded := func(base http.RoundTripper) *httpmw.Transport {
			return &httpmw.Transport{Base: base, Policy: resilience.Compose()}
		}
		bare, direct := count(base), count(guarded(base))
		for _, addresses := range [][]string{{"a:80"}, {"a:80", "b:80", "c:80"}} {
			e := choose(t, base, fixed(addresses...))
			if n := count(e) - bare; n > want {
				t.Errorf("%d addresses: %v allocations more than net/http for %q, want %v", len(addresses), n, answer, want)
			}
			if n := count(guarded(e)) - direct; n > want {
				t.Errorf("%d addresses: %v allocations more in a Transport for %q, want %v", len(addresses), n, answer, want)
			}
		}
	}
}

// cannedConn is a connection that gives the same answer to each request, without allocations.
type cannedConn struct {
	net.Conn
	answer []byte
	ready  chan struct{} // there is a request
	closed chan struct{}
	once   sync.Once
}

func (c *cannedConn) Write(p []byte) (int, error) {
	c.ready <- struct{}{} // net/http writes a small request at once
	return len(p), nil
}

func (c *cannedConn) Read(p []byte) (int, error) {
	select {
	case <-c.ready:
		return copy(p, c.answer), nil
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *cannedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// A request through a Server allocates once more than without it.
func TestServer_allocatesOnceMore(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200) })
	held := resilience.Compose(&testkit.Holder{At: resilience.Answered}, &testkit.Holder{At: resilience.Ended})
	priority := func(*http.Request) resilience.Priority { return resilience.Low }
	caller := func(r *http.Request) string { return r.Host }
	for name, s := range map[string]httpmw.Server{
		"no policy":     {Policy: resilience.Compose()},
		"real policy":   {Policy: newBreaker(3)},
		"held":          {Policy: held},
		"no ranks":      {Policy: &ranking{times: 2}},
		"ranks":         {Policy: held, Priority: priority, Caller: caller},
		"ranks in need": {Policy: &ranking{times: 2}, Priority: priority, Caller: caller},
	} {
		wrapped := s.Wrap(h)
		w := httptest.NewRecorder()
		w.WriteHeader(200)
		r := httptest.NewRequest("GET", "/", nil)
		bare := testing.AllocsPerRun(100, func() { h.ServeHTTP(w, r) })
		if got := testing.AllocsPerRun(100, func() { wrapped.ServeHTTP(w, r) }) - bare; got != 1 {
			t.Errorf("%s: %v allocations more", name, got)
		}
	}
}
