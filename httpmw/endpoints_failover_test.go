package httpmw_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/stack"
)

// A request whose address refuses goes on at another one, whatever its method, in the same
// attempt: nothing was sent. Its body is closed.
func TestEndpoints_refusedGoesOn(t *testing.T) {
	one := serveReplicas(t, 1)[0]
	one.handle(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	for _, method := range []string{"GET", "POST", "PATCH", "DELETE"} {
		for range 10 {
			e := choose(t, nil, fixed(one.address(), refusing(t)))
			content := "content"
			if method == "GET" {
				content = ""
			}
			if got, err := roundTrip(t, e, method, "http://service", content); err != nil || got != content {
				t.Fatalf("%s: %q, %v", method, got, err)
			}
			if n := inFlight(e); n != 0 {
				t.Errorf("%s: %d in flight", method, n)
			}
			e.CloseIdleConnections()
		}
	}
}

// A request whose body cannot be made again goes on too, because nothing has read the body. It
// is closed once the request is over, also if no address can be connected.
func TestEndpoints_refusedWithoutGetBody(t *testing.T) {
	all := serveReplicas(t, 1)
	refuses := refusing(t)
	for range 20 { // until the address that refuses is chosen
		for _, base := range []func(*httpmw.Endpoints) http.RoundTripper{
			func(e *httpmw.Endpoints) http.RoundTripper { return e },
			func(e *httpmw.Endpoints) http.RoundTripper { return &httpmw.Transport{Base: e, Policy: pass} },
		} {
			sent := &body{Reader: strings.NewReader("content")}
			resp, err := base(choose(t, nil, fixed(all[0].address(), refuses))).RoundTrip(newRequest(t, "POST", "http://service", sent))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if sent.closed.Load() == 0 {
				t.Error("the body is not closed")
			}
		}
	}
	sent := &body{Reader: strings.NewReader("content")}
	_, err := choose(t, nil, fixed(refuses)).RoundTrip(newRequest(t, "POST", "http://service", sent))
	failed, ok := errors.AsType[*httpmw.EndpointError](err)
	if op, dial := errors.AsType[*net.OpError](err); !ok || failed.Address != refuses || !dial || op.Op != "dial" {
		t.Errorf("error %v, want an EndpointError around the error of a dial", err)
	}
	if sent.closed.Load() != 1 {
		t.Errorf("the body was closed %d times", sent.closed.Load())
	}
}

// A request that was sent does not go on, unless a policy retries it. Then it goes to
// another endpoint.
func TestEndpoints_sentDoesNotGoOn(t *testing.T) {
	all := serveReplicas(t, 2)
	for _, r := range all {
		r.handle(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	}
	e := choose(t, nil, fixed(all.addresses()...))
	for _, policy := range []resilience.Policy{pass, again(3)} {
		tr := &httpmw.Transport{Base: e, Policy: policy}
		before := all[0].calls.Load() + all[1].calls.Load()
		if _, err := roundTrip(t, tr, "POST", "http://service", "content"); err == nil {
			t.Fatal("no error")
		}
		if n := all[0].calls.Load() + all[1].calls.Load() - before; n != 1 {
			t.Errorf("a POST was sent %d times", n)
		}
	}
}

// An attempt tries at most three addresses, none twice, and fewer if none is left that works.
// When all refuse, each further attempt dials once.
func TestEndpoints_refusedThreeTimes(t *testing.T) {
	var dials atomic.Int32
	base := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return nil, errors.New("refused")
	}}
	for addresses, want := range map[int][]int32{1: {1, 1}, 2: {2, 1}, 3: {3, 1}, 6: {3, 3, 1}} {
		all := []string{"a:1", "b:1", "c:1", "d:1", "e:1", "f:1"}[:addresses]
		e := choose(t, base, fixed(all...))
		for i, want := range want {
			dials.Store(0)
			roundTrip(t, e, "GET", "http://service", "")
			if n := dials.Load(); n != want {
				t.Errorf("%d addresses, attempt %d: %d dials, want %d", addresses, i+1, n, want)
			}
		}
	}
}

// An attempt that ends while it dials does not go on, and its endpoint timed out rather than
// being unreachable. One that the caller canceled shows nothing.
func TestEndpoints_endsInDial(t *testing.T) {
	for name, canceled := range map[string]bool{"timeout": false, "cancel": true} {
		synctest.Test(t, func(t *testing.T) {
			base := memory(t, map[string]http.HandlerFunc{"10.0.0.1:80": nil, "10.0.0.2:80": nil})
			e := choose(t, base, fixed("10.0.0.1:80", "10.0.0.2:80"))
			ctx, cancel := context.WithCancel(t.Context())
			if canceled {
				time.AfterFunc(time.Second, cancel)
			} else {
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			}
			defer cancel()
			_, err := e.RoundTrip(newRequest(t, "GET", "http://service", nil).WithContext(ctx))
			if !errors.Is(err, context.Cause(ctx)) {
				t.Errorf("%s: error %v, want %v", name, err, context.Cause(ctx))
			}
			st := setOf(t, e).Stats()
			if st.Picks != 1 || st.Unreachable != 0 {
				t.Errorf("%s: %+v, want one pick and no unreachable endpoint", name, st.Counters)
			}
			failed := 0.
			for _, one := range st.Endpoints {
				failed += one.Failures
			}
			if (failed > 0) == canceled {
				t.Errorf("%s: %v failures", name, failed)
			}
		})
	}
}

// When IPv6 packets are lost, the first call to the IPv6 address of a replica costs 300 ms,
// as with net.Dialer, and later calls cost nothing. A refused one costs nothing at all.
func TestEndpoints_dualStack(t *testing.T) {
	for name, test := range map[string]struct {
		lost  bool
		first time.Duration
	}{"no route": {false, 0}, "lost": {true, 300 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			handlers := map[string]http.HandlerFunc{"10.0.0.1:80": answerWith("ok")}
			if test.lost {
				handlers["[2001:db8::1]:80"] = nil
			}
			e := choose(t, memory(t, handlers), fixed("10.0.0.1:80", "[2001:db8::1]:80"))
			tr := &httpmw.Transport{Base: e, Policy: stack.Client("payments")}
			var longest, sum time.Duration
			for range 3000 { // a minute
				began := time.Now()
				if content, err := roundTrip(t, tr, "POST", "http://service", "content"); err != nil || content != "ok" {
					t.Fatalf("%s: %q, %v", name, content, err)
				}
				took := time.Since(began)
				longest, sum = max(longest, took), sum+took
				time.Sleep(20 * time.Millisecond)
			}
			// A probe of the address costs the same again, once in 200 calls.
			if longest > test.first || sum > 16*test.first {
				t.Errorf("%s: the longest call took %v, all took %v", name, longest, sum)
			}
		})
	}
}

// The address of a real network without a route to it costs nothing noticeable.
func TestEndpoints_unroutable(t *testing.T) {
	one := serveReplicas(t, 1)[0]
	e := choose(t, nil, fixed(one.address(), "[100::1]:80")) // the discard prefix, RFC 6666
	began := time.Now()
	for range 200 {
		fetch(t, e, "http://service")
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("200 calls took %v", took)
	}
}

// While no other address works, a dial may take as long as Base allows.
func TestEndpoints_slowDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := memory(t, map[string]http.HandlerFunc{"10.0.0.1:80": answerWith("ok"), "10.0.0.2:80": answerWith("ok")})
		dial := base.DialContext
		base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			select {
			case <-time.After(5 * time.Second):
				return dial(ctx, network, address)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		e := choose(t, base, fixed("10.0.0.1:80"))
		if content := fetch(t, e, "http://service"); content != "ok" {
			t.Errorf("the answer is %q", content)
		}
		e = choose(t, base, fixed("10.0.0.1:80", "10.0.0.2:80"))
		began := time.Now()
		if content := fetch(t, e, "http://service"); content != "ok" || time.Since(began) > 7*time.Second {
			t.Errorf("the answer is %q after %v", content, time.Since(began))
		}
	})
}

// ejected returns an Endpoints for two addresses in memory, of which the first one was ejected
// and is due for a probe. Later, the first address is served by h.
func ejected(t *testing.T, h http.HandlerFunc) (e *httpmw.Endpoints, probed *atomic.Int32) {
	t.Helper()
	var bad atomic.Pointer[http.HandlerFunc]
	failing := status(500)
	bad.Store(&failing)
	probed = new(atomic.Int32)
	base := memory(t, map[string]http.HandlerFunc{
		"10.0.0.1:80": func(w http.ResponseWriter, r *http.Request) {
			probed.Add(1)
			(*bad.Load())(w, r)
		},
		"10.0.0.2:80": func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(5 * time.Millisecond)
			io.WriteString(w, "ok")
		},
	})
	e = choose(t, base, fixed("10.0.0.1:80", "10.0.0.2:80"))
	fetch(t, e, "http://service")
	for setOf(t, e).Stats().Failures == 0 {
		roundTrip(t, e, "GET", "http://service", "")
	}
	bad.Store(&h)
	probed.Store(0)
	for range 190 { // an ejection lasts for at least 200 picks
		fetch(t, e, "http://service")
		time.Sleep(10 * time.Millisecond)
	}
	if probed.Load() > 0 {
		t.Fatal("the probe came too early")
	}
	return e, probed
}

// A probe that fails, is late or breaks off costs its caller nothing but time: the work goes
// to another endpoint in the same attempt, and the caller gets a body that is open.
func TestEndpoints_probeFails(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"500":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); io.WriteString(w, "broken") },
		"hangs": hang,
		"abort": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		for _, method := range []string{"GET", "HEAD"} {
			synctest.Test(t, func(t *testing.T) {
				e, probed := ejected(t, h)
				var longest time.Duration
				for probed.Load() == 0 {
					began := time.Now()
					content, err := roundTrip(t, e, method, "http://service", "")
					if err != nil || content != "ok" && method != "HEAD" {
						t.Fatalf("%s, %s: %q, %v", name, method, content, err)
					}
					longest = max(longest, time.Since(began))
				}
				if longest > 60*time.Millisecond { // eight times as long as usual, at least 50 ms
					t.Errorf("%s, %s: the probe took %v", name, method, longest)
				}
				if n := inFlight(e); n != 0 {
					t.Errorf("%s, %s: %d in flight", name, method, n)
				}
				if st := setOf(t, e).Stats(); st.Probes != 1 {
					t.Errorf("%s, %s: %d probes, want 1", name, method, st.Probes)
				}
			})
		}
	}
}

// A probe that is slow to send its body is no longer late: the headers were in time.
func TestEndpoints_probeWithLongBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, probed := ejected(t, func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			time.Sleep(time.Hour)
			io.WriteString(w, "long")
		})
		for probed.Load() == 0 {
			if content := fetch(t, e, "http://service"); probed.Load() > 0 && content != "long" {
				t.Errorf("the probe's body is %q", content)
			}
		}
	})
}

// A request that must not be processed twice waits for its probe: one that has a body, whose
// method is not safe, or whose context has WithoutRetry.
func TestEndpoints_probeNotRepeated(t *testing.T) {
	for name, send := range map[string]func(t *testing.T) *http.Request{
		"POST":   func(t *testing.T) *http.Request { return newRequest(t, "POST", "http://service", nil) },
		"DELETE": func(t *testing.T) *http.Request { return newRequest(t, "DELETE", "http://service", nil) },
		"body": func(t *testing.T) *http.Request {
			return newRequest(t, "GET", "http://service", strings.NewReader("x"))
		},
		"WithoutRetry": func(t *testing.T) *http.Request {
			req := newRequest(t, "GET", "http://service", nil)
			return req.WithContext(httpmw.WithoutRetry(req.Context()))
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			e, probed := ejected(t, func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(time.Second)
				w.WriteHeader(500)
				io.WriteString(w, "broken")
			})
			for probed.Load() == 0 {
				resp, err := e.RoundTrip(send(t))
				if err != nil {
					t.Fatal(err)
				}
				if content := read(t, resp); probed.Load() > 0 && (content != "broken" || resp.StatusCode != 500) {
					t.Errorf("%s: status %d with %q, want the answer of the probe", name, resp.StatusCode, content)
				}
			}
		})
	}
}

// A probe that is late goes on waiting if no other endpoint works.
func TestEndpoints_probeWithoutAlternative(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var bad atomic.Bool
		bad.Store(true)
		var down atomic.Bool
		base := memory(t, map[string]http.HandlerFunc{
			"10.0.0.1:80": func(w http.ResponseWriter, _ *http.Request) {
				if bad.Load() {
					w.WriteHeader(500)
					return
				}
				<-release
				io.WriteString(w, "probe")
			},
			"10.0.0.2:80": func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(5 * time.Millisecond)
				if down.Load() {
					w.WriteHeader(500)
				}
				io.WriteString(w, "ok")
			},
		})
		e := choose(t, base, fixed("10.0.0.1:80", "10.0.0.2:80"))
		roundTrip(t, e, "GET", "http://service", "")
		for setOf(t, e).Stats().Failures == 0 {
			roundTrip(t, e, "GET", "http://service", "")
		}
		bad.Store(false)
		for range 190 {
			fetch(t, e, "http://service")
			time.Sleep(10 * time.Millisecond)
		}
		got := make(chan string)
		for setOf(t, e).Stats().Probes == 0 {
			go func() {
				content, err := roundTrip(t, e, "GET", "http://service", "")
				if err != nil {
					t.Error(err)
				}
				got <- content
			}()
			synctest.Wait()
			if setOf(t, e).Stats().Probes == 0 {
				<-got
			}
		}
		down.Store(true)
		fetch(t, e, "http://service")
		time.Sleep(time.Second)
		close(release)
		if content := <-got; content != "probe" {
			t.Errorf("the caller of the probe got %q", content)
		}
	})
}

// A retry goes to another endpoint, through a Transport whose Base is an Endpoints, and
// through any other one if the context has a Trail.
func TestEndpoints_retryElsewhere(t *testing.T) {
	all := serveReplicas(t, 3)
	for _, r := range all[:2] {
		r.handle(status(503))
	}
	for range 30 {
		e := choose(t, nil, fixed(all.addresses()...))
		for name, rt := range map[string]http.RoundTripper{
			"Transport": &httpmw.Transport{Base: e, Policy: again(3)},
			"wrapped": roundTripper(func(r *http.Request) (*http.Response, error) {
				ctx := endpoint.WithTrail(r.Context(), new(endpoint.Trail))
				tr := &httpmw.Transport{Base: roundTripper(e.RoundTrip), Policy: again(3)}
				return tr.RoundTrip(r.WithContext(ctx))
			}),
		} {
			before := [2]int32{all[0].calls.Load(), all[1].calls.Load()}
			if content := fetch(t, rt, "http://service"); content != "2" {
				t.Fatalf("%s: %q, want the answer of the third endpoint", name, content)
			}
			for i := range before {
				if n := all[i].calls.Load() - before[i]; n > 1 {
					t.Errorf("%s: endpoint %d had %d attempts of one call", name, i, n)
				}
			}
		}
		e.CloseIdleConnections()
	}
}

// A Base that wraps an Endpoints works without a Trail.
func TestEndpoints_wrapped(t *testing.T) {
	one := serveReplicas(t, 1)[0]
	e := choose(t, nil, fixed(one.address(), refusing(t)))
	tr := &httpmw.Transport{Base: roundTripper(e.RoundTrip), Policy: stack.Client("payments")}
	for range 50 {
		if content, err := roundTrip(t, tr, "POST", "http://service", "content"); err != nil || content != "0" {
			t.Fatalf("%q, %v", content, err)
		}
	}
}
