package httpmw_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
	"golang.org/x/sync/errgroup"
)

// If a call of an errgroup times out, the calls that the group cancels are canceled by their
// caller, whatever the cause. The breaker of a healthy host counts no failure.
func TestTransport_canceledByGroup(t *testing.T) {
	serve(t, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // or the client may see a response
	}, func(t *testing.T, url string, base *http.Transport) {
		client := func(d time.Duration) (*httpmw.Transport, *breaker.Breaker) {
			b := resilience.Must(breaker.New(breaker.Config{}))
			limit := resilience.Must(timeout.New(timeout.Config{Timeout: d, Until: resilience.Answered}))
			return &httpmw.Transport{Base: base, Policy: resilience.Compose(b, limit)}, b
		}
		hanging, ofHanging := client(100 * time.Millisecond)
		healthy, ofHealthy := client(time.Hour)
		for range 3 {
			group, ctx := errgroup.WithContext(t.Context())
			get := func(tr *httpmw.Transport) error {
				_, err := tr.RoundTrip(newRequest(t, "GET", url, nil).WithContext(ctx))
				return err
			}
			group.Go(func() error { return get(hanging) })
			group.Go(func() error { return get(healthy) }) // net/http returns the group's cause
			if err := group.Wait(); !errors.Is(err, timeout.ErrExceeded) {
				t.Fatal(err)
			}
		}
		if s := ofHanging.Stats(); s.Failures != 3 {
			t.Errorf("of the hanging host: %+v", s.Counters)
		}
		if s := ofHealthy.Stats(); s.Failures != 0 || s.Ignored != 3 {
			t.Errorf("of the healthy host: %+v", s.Counters)
		}
	})
}

// 404 is an answer: it earns retry budget, and a retry that ends in it is refunded.
func TestTransport_notFoundIsAnswer(t *testing.T) {
	r := resilience.Must(retry.New(retry.Config{BaseDelay: retry.NoDelay}))
	var n atomic.Int32
	tr := &httpmw.Transport{Policy: r, Base: roundTripper(func(*http.Request) (*http.Response, error) {
		if n.Add(1)%3 == 1 {
			return response(http.StatusServiceUnavailable, ""), nil
		}
		return response(http.StatusNotFound, ""), nil
	})}
	for range 60 { // every second call needs a retry
		resp, err := tr.RoundTrip(newRequest(t, "GET", "http://x", nil))
		if err != nil || resp.StatusCode != http.StatusNotFound {
			t.Fatal(resp, err)
		}
	}
	if s := r.Stats(); s.FirstTry != 30 || s.Recovered != 30 || s.Refunded != s.Spent {
		t.Errorf("%+v", s)
	}
}

// A server that sheds load earns no retry budget by that, with 429 or as a limit does, also
// by answers to requests that are not retried.
func TestTransport_sheddingEarnsNothing(t *testing.T) {
	for name, shed := range map[string]http.Header{"429": nil, "503 of a limit": {"Retry-Attempt": {"0"}}} {
		t.Run(name, func(t *testing.T) {
			r := resilience.Must(retry.New(retry.Config{BaseDelay: retry.NoDelay}))
			gets := 0
			tr := &httpmw.Transport{Policy: r, Base: roundTripper(func(req *http.Request) (*http.Response, error) {
				consume(req)
				if req.Method == "GET" {
					gets++
					return response(http.StatusServiceUnavailable, ""), nil
				}
				if shed == nil {
					return response(http.StatusTooManyRequests, ""), nil
				}
				resp := response(http.StatusServiceUnavailable, "")
				resp.Header = shed.Clone()
				return resp, nil
			})}
			for i := range 500 {
				method := "POST"
				if i%10 == 0 {
					method = "GET"
				}
				resp, err := tr.RoundTrip(newRequest(t, method, "http://x", nil))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			}
			if s := r.Stats(); gets > 60 || s.Earned != 0 {
				t.Errorf("%d attempts for 50 requests, %d earned", gets, s.Earned)
			}
		})
	}
}

// A caller that cancels, with any cause, while it reads the response body is no failure, also
// for a breaker that judges the end of the body.
func TestTransport_cancelDuringBody(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}, func(t *testing.T, url string, base *http.Transport) {
		for _, cause := range []error{nil, context.DeadlineExceeded, errors.New("another call failed")} {
			b := resilience.Must(breaker.New(breaker.Config{Until: resilience.Ended}))
			ctx, cancel := context.WithCancelCause(t.Context())
			resp, err := (&httpmw.Transport{Base: base, Policy: b}).RoundTrip(newRequest(t, "GET", url, nil).WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			cancel(cause)
			_, _ = io.ReadAll(resp.Body)
			resp.Body.Close()
			if s := b.Stats(); s.Failures != 0 || s.Ignored != 1 {
				t.Errorf("cause %v: %+v", cause, s.Counters)
			}
		}
	})
}

// closeFails is a body whose Close returns an error.
type closeFails struct{ io.Reader }

func (closeFails) Close() error { return errors.New("cleanup failed") }

// A server that resets uploads has failed, also if closing the caller's body then fails.
func TestTransport_resetAndCloseFails(t *testing.T) {
	url := "http://" + listen(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1024))
		reset(conn)
	})
	b := resilience.Must(breaker.New(breaker.Config{}))
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		for {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	}()
	_, err := (&httpmw.Transport{Base: base, Policy: b}).RoundTrip(newRequest(t, "PUT", url, closeFails{r}))
	if s := b.Stats(); err == nil || s.Failures != 1 {
		t.Errorf("error %v, %+v", err, s.Counters)
	}
}

// The Fallback of a Transport answers a request that its deadline ended in a queue of ours.
func TestTransport_fallbackInQueue(t *testing.T) {
	slots := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxWait: time.Minute}))
	held, err := slots.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release(nil)
	tr := &httpmw.Transport{Policy: slots, Base: answer(200), Fallback: func(*http.Request, error) *http.Response { return response(203, "") }}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	resp, err := tr.RoundTrip(newRequest(t, "GET", "http://x", nil).WithContext(ctx))
	if err != nil || resp.StatusCode != 203 {
		t.Errorf("%v, %v", resp, err)
	}
}

// A deadline that passes while a request waits for a slot of ours is no failure of the
// server, which has not seen the request.
func TestTransport_queueIsNoFailure(t *testing.T) {
	var seen atomic.Int32
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}, func(t *testing.T, url string, base *http.Transport) {
		b := resilience.Must(breaker.New(breaker.Config{}))
		slots := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1}))
		tr := &httpmw.Transport{Base: base, Policy: resilience.Compose(b, slots)}
		seen.Store(0)
		stream, err := tr.RoundTrip(newRequest(t, "GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Body.Close()
		for _, d := range []time.Duration{time.Minute, 10 * time.Millisecond} { // MaxWait is 100 ms
			ctx, cancel := context.WithTimeout(t.Context(), d)
			if resp, err := tr.RoundTrip(newRequest(t, "GET", url, nil).WithContext(ctx)); err == nil {
				resp.Body.Close()
				t.Error("it got a slot")
			}
			cancel()
		}
		if s := b.Stats(); s.Failures != 0 || s.Ignored != 2 || seen.Load() != 1 {
			t.Errorf("%d requests seen, %+v", seen.Load(), s.Counters)
		}
	})
}
