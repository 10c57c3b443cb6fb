package httpmw_test

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/stack"
)

// switchTo has the addresses of e resolved again, until all requests go to r.
func switchTo(t *testing.T, e *httpmw.Endpoints, a *answers, url string, r string) {
	t.Helper()
	a.set(r)
	eventually(t, "the addresses are resolved again", func() bool {
		roundTrip(t, e, "GET", url, "")
		all := setOf(t, e).Endpoints()
		return len(all) == 1 && all[0].Address() == r
	})
}

// When an address is gone, its idle connections are closed at once. A response from it goes
// on to its end, and then its connection is closed, over HTTP/1 and HTTP/2 alike.
func TestEndpoints_drain(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		more := make(chan struct{})
		start := func() (*httptest.Server, *replica) {
			r := &replica{}
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				io.WriteString(w, "begin ")
				w.(http.Flusher).Flush()
				if req.URL.Path == "/long" {
					<-more
				}
				io.WriteString(w, "end")
			}))
			s.EnableHTTP2 = http2
			s.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that are not needed are closed
			s.Config.ConnState = countOpen(&r.open)
			s.StartTLS()
			t.Cleanup(s.Close)
			return s, r
		}
		a, old := start()
		b, _ := start()
		base := a.Client().Transport.(*http.Transport).Clone()
		base.DialContext = nil
		resolves := newAnswers(a.Listener.Addr().String())
		e := choose(t, base, resolves.resolve)
		e.Every = time.Millisecond
		long, err := e.RoundTrip(newRequest(t, "GET", "https://example.com/long", nil))
		if err != nil {
			t.Fatal(err)
		}
		fetch(t, e, "https://example.com/") // over HTTP/1, its connection is idle now
		if n := old.open.Load(); n != 2 && !http2 {
			t.Fatalf("%d connections are open, want 2", n)
		}
		gone := setOf(t, e).Endpoints()[0]
		switchTo(t, e, resolves, "https://example.com/", b.Listener.Addr().String())
		eventually(t, "the idle connections are closed", func() bool { return old.open.Load() == 1 })
		if n := gone.InFlight(); n != 1 {
			t.Errorf("HTTP/2 %v: %d in flight at the old address, want 1", http2, n)
		}
		close(more)
		if content, err := io.ReadAll(long.Body); string(content) != "begin end" || err != nil { // not closed
			t.Errorf("HTTP/2 %v: %q, %v", http2, content, err)
		}
		eventually(t, "the last connection is closed", func() bool { return old.open.Load() == 0 })
		if n := gone.InFlight(); n != 0 {
			t.Errorf("HTTP/2 %v: %d in flight at the old address, want none", http2, n)
		}
		e.CloseIdleConnections()
	}
}

// An attempt that has chosen an address before it is gone leaves no connection behind.
func TestEndpoints_drainLateAttempt(t *testing.T) {
	all := serveReplicas(t, 2)
	resolves := newAnswers(all[0].address())
	e := choose(t, nil, resolves.resolve)
	e.Every = time.Millisecond
	fetch(t, e, "http://service")
	chosen, goOn := make(chan struct{}), make(chan struct{})
	trace := &httptrace.ClientTrace{GetConn: func(string) {
		close(chosen)
		<-goOn
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		req := newRequest(t, "GET", "http://service", nil)
		resp, err := e.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
		if err != nil {
			t.Error(err)
			return
		}
		read(t, resp)
	}()
	<-chosen
	switchTo(t, e, resolves, "http://service", all[1].address())
	eventually(t, "the idle connection is closed", func() bool { return all[0].open.Load() == 0 })
	close(goOn)
	<-done
	eventually(t, "the new connection is closed", func() bool { return all[0].open.Load() == 0 })
}

// Connections that are idle for IdleConnTimeout are closed.
func TestEndpoints_idleTimeout(t *testing.T) {
	all := serveReplicas(t, 2)
	e := choose(t, &http.Transport{IdleConnTimeout: 20 * time.Millisecond}, fixed(all.addresses()...))
	hammer(t, 4, 10, func(int) { fetch(t, e, "http://service") })
	for _, r := range all {
		eventually(t, "all connections are closed", func() bool { return r.open.Load() == 0 })
	}
}

// CloseIdleConnections closes those to all addresses, also through an http.Client.
func TestEndpoints_CloseIdleConnections(t *testing.T) {
	all := serveReplicas(t, 3)
	e := choose(t, nil, fixed(all.addresses()...))
	client := &http.Client{Transport: &httpmw.Transport{Base: e, Policy: pass}}
	hammer(t, 8, 20, func(int) { fetch(t, client.Transport, "http://service") })
	client.CloseIdleConnections()
	for _, r := range all {
		eventually(t, "all connections are closed", func() bool { return r.open.Load() == 0 })
	}
}

// In flight is zero after each way in which a body or an attempt can end.
func TestEndpoints_inFlight(t *testing.T) {
	one := serveReplicas(t, 1)[0]
	one.handle(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/breaks":
			io.WriteString(w, "part")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/hangs":
			io.WriteString(w, "part")
			w.(http.Flusher).Flush()
			hang(w, r)
		default:
			io.WriteString(w, "content")
		}
	})
	e := choose(t, nil, fixed(one.address()))
	send := func(path string) *http.Response {
		resp, err := e.RoundTrip(newRequest(t, "GET", "http://service"+path, nil))
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for name, f := range map[string]func(){
		"EOF":            func() { io.ReadAll(send("/").Body) },
		"EOF and Close":  func() { read(t, send("/")) },
		"Close":          func() { send("/").Body.Close() },
		"Close twice":    func() { b := send("/").Body; b.Close(); b.Close() },
		"no body":        func() { send("/none") },
		"body breaks":    func() { io.ReadAll(send("/breaks").Body) },
		"HEAD":           func() { fetchHead(t, e) },
		"Read and Close": func() { readAndClose(send("/hangs")) },
		"canceled": func() {
			ctx, cancel := context.WithCancel(t.Context())
			resp, err := e.RoundTrip(newRequest(t, "GET", "http://service/hangs", nil).WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			io.ReadAll(resp.Body)
		},
	} {
		if f(); inFlight(e) != 0 {
			t.Errorf("%s: %d in flight", name, inFlight(e))
		}
	}
	resp := send("/")
	if n := inFlight(e); n != 1 {
		t.Errorf("%d in flight before the body is read, want 1", n)
	}
	resp.Body.Close()
	for name, ending := range testkit.Aborts("abort") {
		got := testkit.Unwind(func() error {
			trace := &httptrace.ClientTrace{GetConn: func(string) { ending.Abort() }}
			req := newRequest(t, "POST", "http://service", strings.NewReader("content"))
			_, err := e.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
			return err
		})
		if got != ending {
			t.Errorf("%s: ended with %v", name, got)
		}
		if n := inFlight(e); n != 0 {
			t.Errorf("%s: %d in flight", name, n)
		}
	}
}

func fetchHead(t *testing.T, e *httpmw.Endpoints) {
	if _, err := roundTrip(t, e, "HEAD", "http://service", ""); err != nil {
		t.Fatal(err)
	}
}

// readAndClose closes a body while it is read.
func readAndClose(resp *http.Response) {
	var reading sync.WaitGroup
	reading.Go(func() { io.ReadAll(resp.Body) })
	resp.Body.Close()
	reading.Wait()
}

// A probe makes a connection of its own. Over HTTP/2 the one that was lost would make it
// hang, although the replica is back.
func TestEndpoints_probeDialsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var conns atomic.Int32
		var lost atomic.Int32 // connections up to this number
		type number struct{}
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		start := func(h http.HandlerFunc) *testkit.Listener {
			l := testkit.NewListener()
			s := &http.Server{Handler: h, Protocols: protocols, ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
				return context.WithValue(ctx, number{}, conns.Add(1))
			}}
			go s.Serve(l)
			t.Cleanup(func() { s.Close() })
			return l
		}
		good := func(w http.ResponseWriter, r *http.Request) { time.Sleep(5 * time.Millisecond) }
		listeners := map[string]*testkit.Listener{
			"10.0.0.1:80": start(func(w http.ResponseWriter, r *http.Request) {
				if r.Context().Value(number{}).(int32) <= lost.Load() {
					hang(w, r)
				}
				good(w, r)
			}),
			"10.0.0.2:80": start(good),
		}
		base := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return listeners[address].Dial(ctx)
		}}
		e := choose(t, base, fixed("10.0.0.1:80", "10.0.0.2:80"))
		client := &httpmw.Transport{Base: e, Policy: stack.Client("service")}
		for range 20 {
			fetch(t, client, "http://service")
		}
		lost.Store(conns.Load())
		hung := setOf(t, e).Endpoints()[0]
		for hung.Working() {
			roundTrip(t, client, "GET", "http://service", "")
		}
		for range 1000 { // with a probe
			fetch(t, client, "http://service")
			time.Sleep(10 * time.Millisecond)
		}
		if !hung.Working() {
			t.Errorf("the endpoint did not return:\n%s", setOf(t, e).Explain())
		}
	})
}
