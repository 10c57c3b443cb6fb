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
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/timeout"
)

// bad is an endpoint in memory among two good ones, that answers with h.
func bad(t *testing.T, base *http.Transport, h http.HandlerFunc) *httpmw.Endpoints {
	t.Helper()
	good := func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(5 * time.Millisecond)
		io.WriteString(w, "ok")
	}
	m := memory(t, map[string]http.HandlerFunc{"10.0.0.1:80": h, "10.0.0.2:80": good, "10.0.0.3:80": good})
	if base != nil {
		dial := base.DialContext
		m.ResponseHeaderTimeout = base.ResponseHeaderTimeout
		if dial != nil {
			inner := m.DialContext
			m.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				if address == "10.0.0.1:80" {
					return dial(ctx, network, address)
				}
				return inner(ctx, network, address)
			}
		}
	}
	return choose(t, m, fixed("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"))
}

// Each result of an attempt counts as it should: which ones eject an endpoint, and why.
func TestEndpoints_results(t *testing.T) {
	header := func(code int, name, value string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(name, value)
			w.WriteHeader(code)
		}
	}
	var none endpoint.Counters
	failures, timeouts, unreachable := endpoint.Counters{Failures: 1}, endpoint.Counters{Timeouts: 1}, endpoint.Counters{Unreachable: 1}
	for name, test := range map[string]struct {
		h     http.HandlerFunc
		base  *http.Transport
		want  endpoint.Counters
		share bool // some attempts count as failures
	}{
		"200":          {h: status(200), want: none},
		"404":          {h: status(404), want: none},
		"429":          {h: status(429), want: none, share: true},
		"500":          {h: status(500), want: failures, share: true},
		"501":          {h: status(501), want: none},
		"503":          {h: status(503), want: failures, share: true},
		"505":          {h: status(505), want: none},
		"shed":         {h: header(503, "Retry-Attempt", "0"), want: none, share: true},
		"not shed":     {h: header(503, "Retry-Attempt", "1"), want: failures, share: true},
		"breaks":       {h: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, want: failures, share: true},
		"hangs":        {h: hang, want: timeouts, share: true},
		"slow headers": {h: hang, base: &http.Transport{ResponseHeaderTimeout: 500 * time.Millisecond}, want: timeouts, share: true},
		"refuses": {h: hang, base: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("refused")
		}}, want: unreachable, share: true},
		"lost": {h: nil, want: timeouts, share: true},
		"dial rejected": {h: hang, base: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, resilience.Ignore(errors.New("not now"))
		}}, want: none},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := bad(t, test.base, test.h)
				limit := time.Second
				if name == "lost" {
					limit = 5 * time.Second // or the attempt ends before the dial does
				}
				client := &httpmw.Transport{Base: e, Policy: resilience.Must(timeout.New(timeout.Config{Timeout: limit}))}
				failed := 0.
				for range 250 {
					roundTrip(t, client, "GET", "http://service", "")
					failed = max(failed, setOf(t, e).Stats().Endpoints[0].Failures)
					time.Sleep(400 * time.Millisecond) // a share of failures fades within seconds
				}
				st := setOf(t, e).Stats()
				got := st.Counters
				got.Picks, got.Probes, got.PicksOfFailing = 0, 0, 0
				if got != test.want {
					t.Errorf("ejections %+v, want %+v", got, test.want)
				}
				if share := failed > 0; share != test.share {
					t.Errorf("the share of failures is %v", failed)
				}
			})
		})
	}
}

// What the caller did is no evidence against an endpoint: it canceled, its request cannot be
// sent, or its body failed or blocked.
func TestEndpoints_callerCaused(t *testing.T) {
	broken := errors.New("broken")
	for name, send := range map[string]func(t *testing.T, rt http.RoundTripper) error{
		"canceled": func(t *testing.T, rt http.RoundTripper) error {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			_, err := rt.RoundTrip(newRequest(t, "GET", "http://service", nil).WithContext(ctx))
			return err
		},
		"Cancel": func(t *testing.T, rt http.RoundTripper) error {
			req := newRequest(t, "GET", "http://service", nil)
			quit := make(chan struct{})
			req.Cancel = quit //lint:ignore SA1019 net/http obeys it
			time.AfterFunc(time.Millisecond, func() { close(quit) })
			_, err := rt.RoundTrip(req)
			return err
		},
		"invalid": func(t *testing.T, rt http.RoundTripper) error {
			req := newRequest(t, "GET", "http://service", nil)
			req.Method = "bad method"
			_, err := rt.RoundTrip(req)
			return err
		},
		"body fails": func(t *testing.T, rt http.RoundTripper) error {
			_, err := rt.RoundTrip(newRequest(t, "POST", "http://service", io.MultiReader(strings.NewReader("x"), errReader{broken})))
			return err
		},
		"body blocks": func(t *testing.T, rt http.RoundTripper) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r, w := io.Pipe()
			context.AfterFunc(ctx, func() { time.Sleep(time.Millisecond); w.Close() })
			_, err := rt.RoundTrip(newRequest(t, "POST", "http://service", r).WithContext(ctx))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); hang(w, r) }
				base := memory(t, map[string]http.HandlerFunc{"10.0.0.1:80": h, "10.0.0.2:80": h})
				e := choose(t, base, fixed("10.0.0.1:80", "10.0.0.2:80"))
				tr := &httpmw.Transport{Base: e, Policy: pass}
				for range 10 {
					if err := send(t, tr); err == nil {
						t.Fatal("no error")
					}
				}
				st := setOf(t, e).Stats()
				if st.Counters != (endpoint.Counters{Picks: 10}) {
					t.Errorf("%+v", st.Counters)
				}
				for _, one := range st.Endpoints {
					if one.Failures != 0 || one.InFlight != 0 {
						t.Errorf("%s: failures %v, %d in flight", one.Address, one.Failures, one.InFlight)
					}
				}
			})
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// Errors through an Endpoints have the address and are classified as errors of an
// http.Transport: their outcome, whether they are retried, and whether they are timeouts.
func TestEndpoints_errorsAsDirect(t *testing.T) {
	handlers := map[string]http.HandlerFunc{"10.0.0.1:80": func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang":
			hang(w, r)
		default:
			panic(http.ErrAbortHandler)
		}
	}}
	for _, test := range []struct {
		name, method, url string
		at                string
	}{
		{"refused GET", "GET", "http://service/", "10.0.0.9:80"},
		{"refused POST", "POST", "http://service/", "10.0.0.9:80"},
		{"broken GET", "GET", "http://service/", "10.0.0.1:80"},
		{"broken POST", "POST", "http://service/", "10.0.0.1:80"},
		{"hang GET", "GET", "http://service/hang", "10.0.0.1:80"},
		{"hang POST", "POST", "http://service/hang", "10.0.0.1:80"},
		{"handshake", "POST", "https://service/", "10.0.0.1:80"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				try := func(base http.RoundTripper) (outcome resilience.Outcome, attempts int, text string, err error) {
					var seen error
					policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
						attempts++
						err := next.Run(ctx)
						for range 2 {
							if !retryable(err) {
								break
							}
							attempts++
							next.Discard()
							err = next.Run(ctx)
						}
						outcome, seen = resilience.OutcomeOf(ctx, err, nil), err
						return err
					})
					limits := resilience.Must(timeout.New(timeout.Config{Timeout: time.Second}))
					tr := &httpmw.Transport{Base: base, Policy: resilience.Compose(limits, policy)}
					_, err = roundTrip(t, tr, test.method, test.url, "")
					return outcome, attempts, seen.Error(), err
				}
				base := memory(t, handlers)
				direct := base.Clone()
				direct.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
					return base.DialContext(ctx, network, test.at)
				}
				defer direct.CloseIdleConnections()
				wantOutcome, wantAttempts, wantText, want := try(direct)
				outcome, attempts, text, err := try(choose(t, base, fixed(test.at)))
				if outcome != wantOutcome || attempts != wantAttempts {
					t.Errorf("%v after %d attempts, want %v after %d", outcome, attempts, wantOutcome, wantAttempts)
				}
				// http.Client looks for the error of the handshake by its type.
				if (test.name != "handshake") != strings.Contains(text, "10.0.0.") {
					t.Errorf("the text is %q, directly %q", text, wantText)
				}
				isTimeout := func(err error) bool { n, ok := err.(net.Error); return ok && n.Timeout() }
				if isTimeout(err) != isTimeout(want) || errors.Is(err, context.DeadlineExceeded) != errors.Is(want, context.DeadlineExceeded) {
					t.Errorf("timeout %v, want %v: %v", isTimeout(err), isTimeout(want), err)
				}
				t.Log(text)
			})
		})
	}
}

// The error of an attempt is an EndpointError, also through a Transport and http.Client, and
// its text has the address once.
func TestEndpointError(t *testing.T) {
	refuses := refusing(t)
	client := &http.Client{Transport: &httpmw.Transport{Base: choose(t, nil, fixed(refuses)), Policy: pass}}
	_, err := client.Get("http://service")
	e, ok := errors.AsType[*httpmw.EndpointError](err)
	if !ok || e.Address != refuses || strings.Count(err.Error(), refuses) != 1 {
		t.Errorf("error %v, want an EndpointError with the address %s", err, refuses)
	}
	named := &httpmw.EndpointError{Address: "10.0.0.1:80", Err: io.EOF}
	if text := named.Error(); text != "endpoint 10.0.0.1:80: EOF" || !errors.Is(named, io.EOF) || named.Timeout() || named.Temporary() {
		t.Errorf("%q", text)
	}
	timedOut := &httpmw.EndpointError{Address: "10.0.0.1:80", Err: context.DeadlineExceeded}
	if _, ok := error(timedOut).(net.Error); !ok || !timedOut.Timeout() || !timedOut.Temporary() {
		t.Error("a deadline is no timeout")
	}
}

// A request that waits for a connection, because all MaxConnsPerHost are in use, is ignored
// by the policies, as with an http.Transport as Base.
func TestEndpoints_maxConnsPerHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var busy atomic.Int32
		base := memory(t, map[string]http.HandlerFunc{"10.0.0.1:80": func(w http.ResponseWriter, r *http.Request) {
			busy.Add(1)
			time.Sleep(10 * time.Second)
		}})
		base.MaxConnsPerHost = 1
		e := choose(t, base, fixed("10.0.0.1:80"))
		tr := &httpmw.Transport{Base: e, Policy: pass}
		go roundTrip(t, tr, "GET", "http://service", "")
		synctest.Wait()
		var outcome resilience.Outcome
		see := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			err := next.Run(ctx)
			outcome = resilience.OutcomeOf(ctx, err, nil)
			return err
		})
		waiting := &httpmw.Transport{Base: e, Policy: see}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := waiting.RoundTrip(newRequest(t, "GET", "http://service", nil).WithContext(ctx)); err == nil || outcome != resilience.Ignored || busy.Load() != 1 {
			t.Errorf("%v has the outcome %v", err, outcome)
		}
		time.Sleep(time.Minute)
	})
}
