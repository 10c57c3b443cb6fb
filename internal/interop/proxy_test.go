package interop_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

func proxyTo(t testing.TB, target string, g guard) *httputil.ReverseProxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u) },
		Transport: g,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if errors.Is(err, resilience.ErrRejected) && errors.Is(err, breaker.ErrOpen) {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	}
}

// A reverse proxy retries requests without a body, and only those.
func TestReverseProxy_retriesWithoutBody(t *testing.T) {
	var n atomic.Int32
	origin := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "Sum")
		if n.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		w.(http.Flusher).Flush() // a response of known length has no trailer in HTTP/1
		io.WriteString(w, "got "+string(b))
		w.Header().Set("Sum", "end")
	})
	each(t, origin, func(t *testing.T, target string, base *http.Transport) {
		g := newGuard(base)
		front, client := serve(t, "HTTP/1", proxyTo(t, target, g))
		for _, test := range []struct {
			method, body, want string
			status             int
			runs               int32
		}{
			{"GET", "", "got ", 200, 2},
			// A server cannot read the body of its request a second time.
			{"PUT", "content", "got content", 503, 1},
		} {
			n.Store(0)
			resp, err := client.RoundTrip(request(t, test.method, front, strings.NewReader(test.body)))
			if err != nil {
				t.Fatal(err)
			}
			got := read(t, resp.Body)
			if resp.StatusCode != test.status || got != test.want || n.Load() != test.runs || resp.Trailer.Get("Sum") != "end" {
				t.Errorf("%s: %d %q with trailer %v after %d runs", test.method, resp.StatusCode, got, resp.Trailer, n.Load())
			}
		}
		free(t, g.slots)
	})
}

// The error handler of a reverse proxy gets a rejection.
func TestReverseProxy_rejection(t *testing.T) {
	each(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("called") }), func(t *testing.T, target string, base *http.Transport) {
		g := newGuard(base)
		g.breaker.SetMode(breaker.ForcedOpen)
		front, client := serve(t, "HTTP/1", proxyTo(t, target, g))
		if status, _ := fetch(t, &http.Client{Transport: client}, request(t, "POST", front, strings.NewReader("content"))); status != http.StatusTeapot {
			t.Errorf("status %d", status)
		}
	})
}

// A client that leaves a reverse proxy frees its slot.
func TestReverseProxy_clientLeaves(t *testing.T) {
	each(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begin")
		w.(http.Flusher).Flush()
		hang(w, r)
	}), func(t *testing.T, target string, base *http.Transport) {
		g := newGuard(base)
		proxy := proxyTo(t, target, g)
		proxy.FlushInterval = -1
		front, client := serve(t, "HTTP/1", proxy)
		resp, err := client.RoundTrip(request(t, "GET", front, nil))
		if err != nil {
			t.Fatal(err)
		}
		if g.slots.Stats().InFlight != 1 {
			t.Error("the slot is free in the middle of the body")
		}
		resp.Body.Close()
		free(t, g.slots)
		if s := g.breaker.Stats(); s.Successes != 1 || s.Failures != 0 {
			t.Errorf("an answer is a success: %+v", s)
		}
	})
}

// A WebSocket passes through a reverse proxy and holds each slot until it ends. It
// passes a client, the server of the proxy, the client of the proxy, and a server that
// hijacks the connection.
func TestWebSocket_holdsSlots(t *testing.T) {
	origin, gate := newDoors(), newDoors()
	target, base := serve(t, "HTTP/1", origin.Wrap(http.HandlerFunc(echo)))
	inside := newGuard(base)
	front, outer := serve(t, "HTTP/1", gate.Wrap(proxyTo(t, target, inside)))
	outside := newGuard(outer)

	conn, resp, err := websocket.Dial(t.Context(), front, &websocket.DialOptions{HTTPClient: outside.client()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("status %d", resp.StatusCode)
	}
	for start := time.Now(); time.Since(start) < streamTime; time.Sleep(attemptLimit / 10) {
		say(t, conn, "hello")
	}
	say(t, conn, strings.Repeat("x", 20_000)) // more than one buffer
	for i, b := range []guard{inside, outside} {
		if n := b.slots.Stats().InFlight; n != 1 {
			t.Errorf("client %d holds %d slots, want 1", i, n)
		}
	}
	for i, b := range []doors{origin, gate} {
		if n := b.slots.Stats().InFlight; n != 1 {
			t.Errorf("server %d holds %d slots, want 1", i, n)
		}
	}
	if err := conn.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Error(err)
	}
	free(t, inside.slots, outside.slots, origin.slots, gate.slots)
}

// echo is the server of a WebSocket. It sends back each message.
func echo(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	defer conn.CloseNow()
	for {
		kind, b, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		if err := conn.Write(r.Context(), kind, b); err != nil {
			return
		}
	}
}

func say(t testing.TB, conn *websocket.Conn, text string) {
	t.Helper()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if _, b, err := conn.Read(t.Context()); err != nil || string(b) != text {
		t.Fatalf("got %d bytes and %v", len(b), err)
	}
}

// A WebSocket whose client vanishes frees each slot.
func TestWebSocket_clientVanishes(t *testing.T) {
	origin := newDoors()
	target, base := serve(t, "HTTP/1", origin.Wrap(http.HandlerFunc(echo)))
	inside := newGuard(base)
	front, outer := serve(t, "HTTP/1", proxyTo(t, target, inside))
	outside := newGuard(outer)
	conn, _, err := websocket.Dial(t.Context(), front, &websocket.DialOptions{HTTPClient: outside.client()})
	if err != nil {
		t.Fatal(err)
	}
	say(t, conn, "hello")
	conn.CloseNow()
	free(t, outside.slots, inside.slots, origin.slots)
}

// A rejected handshake frees the slot.
func TestWebSocket_handshakeRejected(t *testing.T) {
	target, base := serve(t, "HTTP/1", http.NotFoundHandler())
	g := newGuard(base)
	_, resp, err := websocket.Dial(t.Context(), target, &websocket.DialOptions{HTTPClient: g.client()})
	if err == nil || resp == nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("got %v and %v", resp, err)
	}
	free(t, g.slots)
}
