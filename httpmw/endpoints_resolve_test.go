package httpmw_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
)

// The first requests to an origin share one resolution. Each gives up when its own context
// ends, or its Cancel is closed, and the others go on.
func TestEndpoints_firstResolution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resolved := make(chan struct{})
		var calls atomic.Int32
		base := memory(t, map[string]http.HandlerFunc{"10.0.0.1:80": answerWith("ok")})
		e := choose(t, base, func(context.Context, string, string) ([]string, error) {
			calls.Add(1)
			<-resolved
			return []string{"10.0.0.1:80"}, nil
		})
		var ok, gaveUp atomic.Int32
		var waiting sync.WaitGroup
		for range 10 {
			waiting.Go(func() {
				if content := fetch(t, e, "http://service"); content == "ok" {
					ok.Add(1)
				}
			})
		}
		mine := errors.New("mine")
		ctx, cancel := context.WithCancelCause(t.Context())
		sent := &body{Reader: strings.NewReader("content")}
		waiting.Go(func() {
			if _, err := e.RoundTrip(newRequest(t, "POST", "http://service", sent).WithContext(ctx)); !errors.Is(err, mine) {
				t.Errorf("error %v, want the cause of the context", err)
			}
			gaveUp.Add(1)
		})
		legacy := newRequest(t, "GET", "http://service", nil)
		quit := make(chan struct{})
		legacy.Cancel = quit //lint:ignore SA1019 net/http obeys it
		waiting.Go(func() {
			if _, err := e.RoundTrip(legacy); err == nil {
				t.Error("no error after Cancel")
			}
			gaveUp.Add(1)
		})
		synctest.Wait()
		cancel(mine)
		close(quit)
		synctest.Wait()
		if sent.closed.Load() == 0 || gaveUp.Load() != 2 {
			t.Errorf("%d of 2 requests gave up, the body closed %d times", gaveUp.Load(), sent.closed.Load())
		}
		close(resolved)
		waiting.Wait()
		if ok.Load() != 10 || calls.Load() != 1 {
			t.Errorf("%d of 10 succeeded with %d resolutions, want all with 1", ok.Load(), calls.Load())
		}
	})
}

// The answer is kept although the only request that waited for it has given up.
func TestEndpoints_resolutionWithoutWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		base := memory(t, map[string]http.HandlerFunc{"10.0.0.1:80": answerWith("ok")})
		e := choose(t, base, func(context.Context, string, string) ([]string, error) {
			calls.Add(1)
			time.Sleep(3 * time.Second)
			return []string{"10.0.0.1:80"}, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := e.RoundTrip(newRequest(t, "GET", "http://service", nil).WithContext(ctx)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the deadline", err)
		}
		time.Sleep(3 * time.Second)
		if fetch(t, e, "http://service"); calls.Load() != 1 {
			t.Errorf("%d resolutions, want 1", calls.Load())
		}
	})
}

// A first resolution that fails is the error of a lookup, which proves that nothing was sent.
// The next request resolves again.
func TestEndpoints_firstResolutionFails(t *testing.T) {
	one := serveReplicas(t, 1)[0]
	down := errors.New("down")
	for name, test := range map[string]struct {
		answer func() ([]string, error)
		want   string
	}{
		"error":  {func() ([]string, error) { return nil, down }, "resolve service:80: down"},
		"empty":  {func() ([]string, error) { return nil, nil }, "resolve service:80: there are no addresses"},
		"panic":  {func() ([]string, error) { panic("broken") }, "resolve service:80: panic: broken"},
		"Goexit": {func() ([]string, error) { runtime.Goexit(); return nil, nil }, "resolve service:80: panic or runtime.Goexit"},
	} {
		a := newAnswers()
		a.do(test.answer)
		e := choose(t, nil, a.resolve)
		sent := &body{Reader: strings.NewReader("content")}
		_, err := e.RoundTrip(newRequest(t, "POST", "http://service", sent))
		op, ok := errors.AsType[*net.OpError](err)
		if !ok || op.Op != "dial" || !strings.Contains(err.Error(), test.want) || sent.closed.Load() == 0 {
			t.Errorf("%s: error %v, want a net.OpError of a dial with %q, and the body closed", name, err, test.want)
		}
		if !httpmw.DefaultRetryable(newRequest(t, "POST", "http://service", nil), nil, err) {
			t.Errorf("%s: a POST is not retried", name)
		}
		a.set(one.address())
		if content := fetch(t, e, "http://service"); content != "0" {
			t.Errorf("%s: then %q", name, content)
		}
	}
}

// A name that does not exist has the error of net/http and is not retried.
func TestEndpoints_noSuchHost(t *testing.T) {
	e := &httpmw.Endpoints{}
	_, err := e.RoundTrip(newRequest(t, "GET", "http://does-not-exist.invalid", nil))
	dns, ok := errors.AsType[*net.DNSError](err)
	if !ok {
		t.Fatalf("error %v, want a net.DNSError", err)
	}
	if !dns.IsNotFound {
		t.Skip("no name server answers: ", err)
	}
	if httpmw.DefaultRetryable(newRequest(t, "GET", "http://service", nil), nil, err) {
		t.Error("the request is retried")
	}
}

// An address that is not host:port is an error that says so, and counts against no server.
func TestEndpoints_malformedAddress(t *testing.T) {
	for _, address := range []string{"10.0.0.1", "", ":80", "10.0.0.1:", "::1:x", "[::1]", "host:port", "host:99999", "http://host:80"} {
		e := choose(t, nil, fixed("127.0.0.1:1", address))
		_, err := e.RoundTrip(newRequest(t, "GET", "http://service", nil))
		if err == nil || !strings.Contains(err.Error(), "is not host:port: write it as") || !strings.Contains(err.Error(), fmt.Sprintf("%q", address)) {
			t.Errorf("%q: %v", address, err)
		}
		if resilience.OutcomeOf(t.Context(), err, nil) != resilience.Ignored {
			t.Errorf("%q: the error counts against the server", address)
		}
	}
}

// After the first resolution, requests never wait for one. An answer that fails, is empty,
// has a malformed address or panics keeps the addresses. So does one that comes too late.
func TestEndpoints_refreshKeepsAddresses(t *testing.T) {
	for name, answer := range map[string]func() ([]string, error){
		"error":     func() ([]string, error) { return nil, errors.New("down") },
		"both":      func() ([]string, error) { return []string{"10.0.0.2:80"}, errors.New("down") },
		"empty":     func() ([]string, error) { return nil, nil },
		"malformed": func() ([]string, error) { return []string{"10.0.0.2:80", "10.0.0.2"}, nil },
		"panic":     func() ([]string, error) { panic("broken") },
		"Goexit":    func() ([]string, error) { runtime.Goexit(); return nil, nil },
		"late":      func() ([]string, error) { time.Sleep(31 * time.Second); return []string{"10.0.0.2:80"}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := memory(t, map[string]http.HandlerFunc{"10.0.0.1:80": answerWith("old"), "10.0.0.2:80": answerWith("new")})
				a := newAnswers("10.0.0.1:80")
				e := choose(t, base, a.resolve)
				fetch(t, e, "http://service")
				a.do(answer)
				time.Sleep(11 * time.Second) // the addresses are due
				for range 50 {
					began := time.Now()
					if content := fetch(t, e, "http://service"); content != "old" || time.Since(began) > 0 {
						t.Fatalf("%q after %v", content, time.Since(began))
					}
					time.Sleep(time.Second)
				}
				a.set("10.0.0.2:80")
				time.Sleep(time.Minute)
				fetch(t, e, "http://service")
				synctest.Wait()
				if content := fetch(t, e, "http://service"); content != "new" {
					t.Errorf("later answers have no effect: %q", content)
				}
			})
		})
	}
}

// Addresses are resolved again when a request comes after Every, at most once at a time, and
// not while there are no requests. NoRefresh resolves once.
func TestEndpoints_Every(t *testing.T) {
	for every, want := range map[time.Duration]int32{0: 6, 20 * time.Second: 3, httpmw.NoRefresh: 1} {
		t.Run(every.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var running, most, calls atomic.Int32
				base := memory(t, map[string]http.HandlerFunc{"10.0.0.1:80": answerWith("ok")})
				e := choose(t, base, func(ctx context.Context, _, _ string) ([]string, error) {
					calls.Add(1)
					most.Store(max(most.Load(), running.Add(1)))
					defer running.Add(-1)
					if calls.Load() > 1 { // the first one lets the requests begin
						time.Sleep(100 * time.Millisecond)
					}
					return []string{"10.0.0.1:80"}, nil
				})
				e.Every = every
				for range 600 {
					fetch(t, e, "http://service")
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(time.Hour)
				if calls.Load() != want || most.Load() != 1 {
					t.Errorf("%d resolutions in a minute, want %d; %d at a time", calls.Load(), want, most.Load())
				}
			})
		})
	}
}

// A Resolve that never returns blocks no request for longer than 30 s, and no further call
// of Resolve begins.
func TestEndpoints_resolveHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quit := make(chan struct{})
		a := newAnswers()
		var calls atomic.Int32
		a.do(func() ([]string, error) { calls.Add(1); <-quit; return []string{"10.0.0.1:80"}, nil })
		e := choose(t, nil, a.resolve)
		for _, want := range []time.Duration{30 * time.Second, 0} {
			began := time.Now()
			_, err := e.RoundTrip(newRequest(t, "GET", "http://service", nil))
			if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "no answer within 30s") || took != want {
				t.Errorf("%v after %v, want an error after %v", err, took, want)
			}
		}
		if calls.Load() != 1 {
			t.Errorf("%d calls", calls.Load())
		}
		close(quit)
	})
}

// Resolve gets the host without brackets and the port of the URL or of its scheme, and a
// context that ends.
func TestEndpoints_resolveArguments(t *testing.T) {
	for url, want := range map[string]string{
		"http://Service": "service 80", "https://service": "service 443", "http://service:8080/path": "service 8080",
		"http://[::1]": "::1 80", "http://user:password@service": "service 80", "http://10.0.0.1:81": "10.0.0.1 81",
		"http://[fe80::1%25eth0]:82": "fe80::1%eth0 82",
	} {
		stop := errors.New("stop")
		e := choose(t, nil, func(ctx context.Context, host, port string) ([]string, error) {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("the context has no deadline")
			}
			if got := host + " " + port; got != want {
				t.Errorf("%s: resolves %q, want %q", url, got, want)
			}
			return nil, stop
		})
		if _, err := e.RoundTrip(newRequest(t, "GET", url, nil)); !errors.Is(err, stop) {
			t.Errorf("%s: error %v, want the one of Resolve", url, err)
		}
	}
}

// Duplicates are one endpoint. Of 10 000 addresses a hundred are used.
func TestEndpoints_manyAddresses(t *testing.T) {
	one := serveReplicas(t, 1)[0]
	e := choose(t, nil, fixed(slices.Repeat([]string{one.address()}, 1000)...))
	fetch(t, e, "http://service")
	if n := len(setOf(t, e).Endpoints()); n != 1 {
		t.Errorf("%d endpoints of duplicates, want 1", n)
	}
	same := choose(t, nil, fixed("[::1]:80", "[0:0::1]:80"))
	roundTrip(t, same, "GET", "http://service", "")
	if n := len(setOf(t, same).Endpoints()); n != 1 {
		t.Errorf("%d endpoints of two spellings, want 1", n)
	}
	var many []string
	for i := range 10_000 {
		many = append(many, fmt.Sprintf("127.0.%d.%d:1", i/250, i%250+1))
	}
	e = choose(t, nil, fixed(many...))
	roundTrip(t, e, "GET", "http://service", "")
	if n := len(setOf(t, e).Endpoints()); n != 100 {
		t.Errorf("%d endpoints, want 100", n)
	}
}
