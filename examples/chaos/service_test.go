package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/timeout"
)

// ask sends n requests to h at once and returns how many got each status, 0
// standing for a connection that was dropped, and how long it all took.
func ask(ctx context.Context, h http.Handler, path string, n int) (map[int]int, time.Duration) {
	start := time.Now()
	codes := map[int]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			w := httptest.NewRecorder()
			defer func() {
				code := w.Code
				if recover() != nil {
					code = 0
				}
				mu.Lock()
				defer mu.Unlock()
				codes[code]++
			}()
			h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil))
		})
	}
	all.Wait()
	return codes, time.Since(start)
}

// A service has workers and a queue, and answers 503 when both are full.
func TestService_capacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService()
		codes, took := ask(t.Context(), s, "/", workers+queue+10)
		if codes[200] != workers+queue || codes[503] != 10 {
			t.Errorf("answers %v", codes)
		}
		if want := (workers + queue) / workers * work; took != want {
			t.Errorf("took %v, want %v", took, want)
		}
		s.set(slow)
		if _, took := ask(t.Context(), s, "/", workers); took != slowdown*work {
			t.Errorf("slow: took %v", took)
		}
	})
}

// A request whose caller left leaves the queue.
func TestService_abandonedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService()
		s.set(slow)
		ctx, cancel := context.WithTimeout(t.Context(), work)
		defer cancel()
		ask(ctx, s, "/", 10*workers)
		if n := s.inside.Load(); n != 0 {
			t.Errorf("%d requests are still inside", n)
		}
		s.set(noFault)
		if codes, took := ask(t.Context(), s, "/", workers); codes[200] != workers || took != work {
			t.Errorf("afterwards: %v in %v", codes, took)
		}
	})
}

// A hanging service never answers.
func TestService_hanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService()
		time.AfterFunc(work/2, func() { s.set(hanging) }) // in the middle of some of them
		time.AfterFunc(time.Minute, func() { s.set(noFault) })
		codes, took := ask(t.Context(), s, "/", 3*workers)
		if codes[0] != 3*workers || took != time.Minute {
			t.Errorf("%v in %v", codes, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), attempt)
		defer cancel()
		s.set(hanging)
		if codes, took := ask(ctx, s, "/", 1); codes[0] != 1 || took != attempt {
			t.Errorf("a caller who leaves: %v in %v", codes, took)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The naive client makes three attempts, whatever the server does.
func TestNaive_threeAttempts(t *testing.T) {
	failing := func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") }
	unavailable := func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 503, Body: io.NopCloser(strings.NewReader("full"))}, nil
	}
	silent := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	waits := naiveWaits[0] + naiveWaits[1]
	tests := []struct {
		name     string
		base     roundTripper
		attempts int
		took     time.Duration
	}{
		{"connection refused", failing, 3, waits},
		{"503", unavailable, 3, waits},
		{"no answer", silent, 3, waits + 3*attempt},
		{"404", func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 404, Body: http.NoBody}, nil
		}, 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts := 0
				n := newNaive(roundTripper(func(r *http.Request) (*http.Response, error) {
					attempts++
					return tt.base(r)
				}))
				start := time.Now()
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/", nil)
				if resp, err := n.Do(req); err == nil {
					resp.Body.Close()
				}
				if took := time.Since(start); attempts != tt.attempts || took != tt.took {
					t.Errorf("%d attempts in %v, want %d in %v", attempts, took, tt.attempts, tt.took)
				}
			})
		})
	}
}

type doerFunc func(*http.Request) (*http.Response, error)

func (f doerFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

// The front answers 503 at once while all its slots are taken.
func TestFront_slotsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &front{slots: make(chan struct{}, slots)}
		f.clients[broken] = doerFunc(func(*http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return nil, errors.New("timeout")
		})
		f.clients[healthy] = doerFunc(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
		})
		if codes, _ := ask(t.Context(), f, "/healthy", 1); codes[200] != 1 {
			t.Errorf("at first: %v", codes)
		}
		go ask(t.Context(), f, "/broken", slots)
		synctest.Wait()
		if codes, took := ask(t.Context(), f, "/healthy", 5); codes[503] != 5 || took != 0 {
			t.Errorf("full: %v in %v", codes, took)
		}
		time.Sleep(2 * time.Second)
		if codes, _ := ask(t.Context(), f, "/healthy", 1); codes[200] != 1 {
			t.Errorf("afterwards: %v", codes)
		}
	})
}

// The counter counts attempts at the transport, by unit of the script.
func TestCounter_perUnit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{
			base:   roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") }),
			script: theScript(time.Second),
			counts: make([]atomic.Int64, 25),
		}
		send := func() { _, _ = c.RoundTrip(nil) }
		send() // before the start
		start := time.Now()
		c.start.Store(&start)
		send()
		time.Sleep(1500 * ms)
		send()
		send()
		time.Sleep(time.Minute)
		send() // after the end
		if n := c.attempts(); n[0] != 1 || n[1] != 2 || n[2] != 0 || n[24] != 0 {
			t.Errorf("%v", n)
		}
	})
}

// A lamp keeps the state of the last transition.
func TestLamp_lastTransition(t *testing.T) {
	l := newLamp("CLOSED")
	l.Observe(t.Context(), resilience.Event{From: "CLOSED", To: "OPEN"})
	l.Observe(t.Context(), resilience.Event{Kind: timeout.EventTimedOut})
	if got := *l.state.Load(); got != "OPEN" {
		t.Error(got)
	}
}
