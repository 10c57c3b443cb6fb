package httpmw_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
)

func newBreaker(failures int) *breaker.Breaker {
	return resilience.Must(breaker.New(breaker.Config{Name: "test", Trip: []breaker.Rule{breaker.Consecutive{Failures: failures}}, OpenFor: time.Hour}))
}

func newRetry() *retry.Retry {
	return resilience.Must(retry.New(retry.Config{Name: "test", BaseDelay: time.Millisecond, MaxDelay: 10 * time.Second, Budget: -1}))
}

func newBulkhead(limit int) *bulkhead.Bulkhead {
	return resilience.Must(bulkhead.New(bulkhead.Config{Name: "test", Slots: limit, MaxQueue: bulkhead.NoQueue}))
}

func newTimeout(d time.Duration, until resilience.Moment) *timeout.Timeout {
	return resilience.Must(timeout.New(timeout.Config{Name: "test", Timeout: d, Until: until}))
}

// With the real policies, the caller gets the last response.
func TestTransport_retryReturnsLastResponse(t *testing.T) {
	for name, test := range map[string]struct {
		policy   func() resilience.Policy
		attempts int32
	}{
		"attempts used up":         {func() resilience.Policy { return newRetry() }, 3},
		"breaker opened meanwhile": {func() resilience.Policy { return resilience.Compose(newRetry(), newBreaker(2), newBulkhead(1)) }, 2},
		"budget empty":             {func() resilience.Policy { return resilience.Must(retry.New(retry.Config{BaseDelay: -1, Budget: 5})) }, 2},
		"whole stack": {func() resilience.Policy {
			return resilience.Compose(newTimeout(time.Hour, 0), newRetry(), newBreaker(9), newBulkhead(1), newTimeout(time.Minute, resilience.Answered))
		}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(503)
				fmt.Fprintf(w, "answer %d", n.Add(1))
			}, func(t *testing.T, url string, base *http.Transport) {
				n.Store(0)
				client := &http.Client{Transport: &httpmw.Transport{Base: base, Policy: test.policy()}}
				resp, err := client.Do(newRequest(t, "PUT", url, strings.NewReader("content")))
				if err != nil {
					t.Fatal(err)
				}
				if got := read(t, resp); resp.StatusCode != 503 || got != fmt.Sprint("answer ", test.attempts) || n.Load() != test.attempts {
					t.Errorf("got %d %q after %d attempts", resp.StatusCode, got, n.Load())
				}
			})
		})
	}
}

// A retry waits at least Retry-After.
func TestTransport_retryAfterIsMinimum(t *testing.T) {
	for name, test := range map[string]struct {
		header   string
		within   time.Duration
		attempts int
		took     time.Duration
	}{
		"is waited for":                     {"3", 0, 3, 6 * time.Second},
		"beyond the cap there is no retry":  {"11", 0, 1, 0},
		"nor is there beyond the deadline":  {"3", 2 * time.Second, 1, 0},
		"and one of two fits the deadline":  {"3", 5 * time.Second, 2, 3 * time.Second},
		"a date is waited for like seconds": {"Sat, 01 Jan 2000 00:00:03 GMT", 0, 3, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // which starts at the year 2000
				n := 0
				base := roundTripper(func(*http.Request) (*http.Response, error) {
					n++
					resp := response(429, "later")
					resp.Header.Set("Retry-After", test.header)
					return resp, nil
				})
				req := newRequest(t, "GET", "http://x", nil)
				if test.within > 0 {
					ctx, cancel := context.WithTimeout(t.Context(), test.within)
					defer cancel()
					req = req.WithContext(ctx)
				}
				start := time.Now()
				resp, err := (&httpmw.Transport{Base: base, Policy: newRetry()}).RoundTrip(req)
				if err != nil || resp.StatusCode != 429 || read(t, resp) != "later" {
					t.Errorf("response %v, error %v", resp, err)
				}
				if took := time.Since(start); n != test.attempts || took < test.took || took > test.took+time.Second {
					t.Errorf("%d attempts in %v", n, took)
				}
			})
		})
	}
}

// A caller that cancels during the backoff gets the error of its context.
func TestTransport_cancelDuringBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := roundTripper(func(*http.Request) (*http.Response, error) {
			resp := response(503, "later")
			resp.Header.Set("Retry-After", "5")
			return resp, nil
		})
		mine := errors.New("mine")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(mine) })
		resp, err := (&httpmw.Transport{Base: base, Policy: newRetry()}).RoundTrip(newRequest(t, "GET", "http://x", nil).WithContext(ctx))
		if resp != nil || !errors.Is(err, context.Canceled) || !errors.Is(err, mine) {
			t.Errorf("response %v, error %v", resp, err)
		}
	})
}

// An attempt timeout is a failure, and an error whose Timeout is true.
func TestTransport_timeoutIsFailure(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // or the client may see a response
	}, func(t *testing.T, addr string, base *http.Transport) {
		for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
			for method, attempts := range map[string]int32{"GET": 3, "POST": 1} {
				var n atomic.Int32
				counting := roundTripper(func(r *http.Request) (*http.Response, error) { n.Add(1); return base.RoundTrip(r) })
				b := newBreaker(int(attempts))
				client := &http.Client{Transport: &httpmw.Transport{
					Base: counting, Policy: resilience.Compose(newRetry(), b, newTimeout(10*time.Millisecond, until)),
				}}
				_, err := client.Do(newRequest(t, method, addr, nil))
				ue, ok := errors.AsType[*url.Error](err)
				if !ok || !ue.Timeout() || !errors.Is(err, timeout.ErrExceeded) || n.Load() != attempts {
					t.Errorf("%v, %s: %d attempts, %v", until, method, n.Load(), err)
				}
				if b.State() != breaker.Open {
					t.Errorf("%v, %s: the breaker is %v", until, method, b.State())
				}
				_, err = client.Do(newRequest(t, method, addr, nil))
				if !errors.Is(err, breaker.ErrOpen) || !errors.Is(err, resilience.ErrRejected) {
					t.Errorf("%v, %s: then %v", until, method, err)
				}
			}
		}
	})
}

// A timeout until the headers does not cut a download off.
func TestTransport_timeoutUntilHeaders(t *testing.T) {
	proceed := make(chan struct{})
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		select {
		case <-proceed:
			io.WriteString(w, "body")
		case <-r.Context().Done():
			panic(http.ErrAbortHandler) // or the client may see a proper end of the body
		}
	}, func(t *testing.T, url string, base *http.Transport) {
		for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
			time := clock.NewMock()
			limit := resilience.Must(timeout.New(timeout.Config{Timeout: 1, Until: until, Clock: time}))
			resp, err := (&httpmw.Transport{Base: base, Policy: limit}).RoundTrip(newRequest(t, "GET", url, nil))
			if err != nil {
				t.Fatal(err)
			}
			time.Add(1000)
			if until == resilience.Answered {
				proceed <- struct{}{}
				if got := read(t, resp); got != "body" {
					t.Errorf("got %q", got)
				}
				continue
			}
			if _, err := io.ReadAll(resp.Body); !errors.Is(err, timeout.ErrExceeded) {
				t.Errorf("the body ended with %v", err)
			}
			resp.Body.Close()
		}
	})
}

// A bulkhead's slot is held until the body is closed.
func TestTransport_bodyHoldsSlot(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "body") }))
	defer s.Close()
	client := &http.Client{Transport: &httpmw.Transport{Base: s.Client().Transport, Policy: newBulkhead(1)}}
	for range 3 {
		resp, err := client.Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Get(s.URL); !errors.Is(err, bulkhead.ErrFull) {
			t.Errorf("got %v", err)
		}
		read(t, resp)
	}
}

// A fallback policy can accept a failed response, or fail itself.
func TestTransport_fallbackPolicy(t *testing.T) {
	boom := errors.New("boom")
	for name, test := range map[string]struct {
		handle error
		want   error
	}{"drops the error": {nil, nil}, "fails too": {boom, boom}} {
		f := resilience.Must(fallback.New(fallback.Config{Handle: func(context.Context, error) error { return test.handle }}))
		resp, err := (&httpmw.Transport{Base: answer(503), Policy: f}).RoundTrip(newRequest(t, "GET", "http://x", nil))
		if !errors.Is(err, test.want) || (resp == nil) == (err == nil) {
			t.Errorf("%s: response %v, error %v", name, resp, err)
		}
		if resp != nil && read(t, resp) != "body" {
			t.Errorf("%s: another body", name)
		}
	}
}

// A failing host opens its own breaker and no other.
func TestTransport_breakerPerHost(t *testing.T) {
	g := resilience.Must(keyed.New(newBreaker(1), keyed.Config{Name: "hosts", Max: 100}))
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		if strings.EqualFold(r.URL.Host, "bad.test:80") {
			return response(500, ""), nil
		}
		return response(200, ""), nil
	})
	client := &http.Client{Transport: &httpmw.Transport{Base: base, Policy: g}}
	get := func(url string) error {
		resp, err := client.Get(url)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := get("http://bad.test:80/a"); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"http://bad.test/b", "http://BAD.test", "http://user@bad.test:"} {
		if err := get(url); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("%s: %v", url, err)
		}
	}
	for i := range 10_000 {
		if err := get(fmt.Sprintf("http://host%d.test", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := get("https://bad.test"); err != nil {
		t.Errorf("another scheme: %v", err)
	}
	if err := get("http://bad.test"); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("after ten thousand others: %v", err)
	}
}

// A Server works with the real policies.
func TestServer_realPolicies(t *testing.T) {
	b := newBreaker(1)
	w := httptest.NewRecorder()
	h := httpmw.Server{Policy: resilience.Compose(newRetry(), b)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(500)
	}))
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 500 || b.State() != breaker.Open {
		t.Errorf("status %d, breaker %v", w.Code, b.State())
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 503 || w.Header().Get("Retry-After") != "3600" {
		t.Errorf("open: status %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}

	slow := httpmw.Server{Policy: newTimeout(time.Millisecond, 0)}.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	}))
	w = httptest.NewRecorder()
	slow.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 503 {
		t.Errorf("timeout: status %d", w.Code)
	}
}
