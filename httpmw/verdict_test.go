package httpmw_test

import (
	"context"
	"errors"
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
	serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, func(t *testing.T, url string, base *http.Transport) {
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
