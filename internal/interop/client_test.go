package interop_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

// patient is a guard whose own timeout is too long to matter.
func patient(base http.RoundTripper) guard {
	return newGuardOf(base, func(c *stack.ClientConfig) { c.Attempt.Timeout = 10 * time.Second })
}

// http.Client.Timeout ends a call without headers, which is a failure.
func TestClientTimeout_beforeHeaders(t *testing.T) {
	each(t, http.HandlerFunc(hang), func(t *testing.T, url string, base *http.Transport) {
		g := patient(base)
		client := g.client()
		client.Timeout = 100 * time.Millisecond
		resp, err := client.Do(request(t, "GET", url, nil))
		if err == nil {
			resp.Body.Close()
			t.Fatal("a response")
		}
		if !timedOut(err) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no timeout: %v", err)
		}
		free(t, g.slots)
		if s := g.breaker.Stats(); s.Failures != 1 {
			t.Errorf("a deadline that passed is a failure: %+v", s)
		}
	})
}

// http.Client.Timeout ends a body and frees its slot.
func TestClientTimeout_duringBody(t *testing.T) {
	each(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begin")
		w.(http.Flusher).Flush()
		hang(w, r)
	}), func(t *testing.T, url string, base *http.Transport) {
		g := patient(base)
		client := g.client()
		client.Timeout = attemptLimit
		resp, err := client.Do(request(t, "GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		if g.slots.Stats().InFlight != 1 {
			t.Error("the slot is free while the body is read")
		}
		b, err := io.ReadAll(resp.Body)
		if string(b) != "begin" || !timedOut(err) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read %q and %v", b, err)
		}
		free(t, g.slots) // not closed yet, but broken
		resp.Body.Close()
		if s := g.breaker.Stats(); s.Successes != 1 || s.Failures != 0 {
			t.Errorf("an answer is a success: %+v", s)
		}
	})
}

// An attempt that times out is a timeout for an http.Client with its own Timeout.
func TestClientTimeout_attemptTimeout(t *testing.T) {
	each(t, http.HandlerFunc(hang), func(t *testing.T, url string, base *http.Transport) {
		g := newGuardOf(base, func(c *stack.ClientConfig) { c.Attempt.Timeout = 50 * time.Millisecond })
		client := g.client()
		client.Timeout = 10 * time.Second
		resp, err := client.Do(request(t, "GET", url, nil))
		if err == nil {
			resp.Body.Close()
			t.Fatal("a response")
		}
		if !timedOut(err) || !errors.Is(err, timeout.ErrExceeded) {
			t.Errorf("error %v", err)
		}
		free(t, g.slots)
	})
}

// A redirect carries the body through retries. Each hop is a call with its own attempts.
// The slot of the first hop is free before the second hop, which would find none
// otherwise.
func TestClient_redirectWithRetries(t *testing.T) {
	for _, code := range []int{http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		var sent, begun, failed atomic.Int32
		mux := http.NewServeMux()
		flaky := func(h http.HandlerFunc) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if b, _ := io.ReadAll(r.Body); string(b) == "content" {
					sent.Add(1)
				}
				if begun.Add(1)%2 == 1 {
					failed.Add(1)
					http.Error(w, "busy", http.StatusServiceUnavailable)
					return
				}
				h(w, r)
			}
		}
		mux.HandleFunc("/old", flaky(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/new")
			w.WriteHeader(code)
			io.WriteString(w, "over there")
		}))
		mux.HandleFunc("/new", flaky(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Method) }))
		each(t, mux, func(t *testing.T, url string, base *http.Transport) {
			sent.Store(0)
			failed.Store(0)
			g := newGuardOf(base, func(c *stack.ClientConfig) { c.Bulkhead.Slots, c.Bulkhead.MaxQueue = 1, -1 })
			client := g.client()
			resp, err := client.Do(request(t, "PUT", url+"/old", strings.NewReader("content")))
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, resp.Body); got != "PUT" || resp.Request.URL.Path != "/new" {
				t.Errorf("got %q of %v", got, resp.Request.URL)
			}
			if sent.Load() != 4 || failed.Load() != 2 {
				t.Errorf("the content arrived %d times, want twice at each of two hops", sent.Load())
			}
			free(t, g.slots)
		})
	}
}
