package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
)

// front serves two routes by calling one service each. It has a fixed number of
// slots, as a server with a pool of threads or of connections has, and bounds
// nothing else.
type front struct {
	slots    chan struct{}
	clients  [2]doer
	targets  [2]string
	policies []resilience.Policy // of the clients, none in the unprotected copy
}

type doer interface {
	Do(*http.Request) (*http.Response, error)
}

// frontReport is how a front stands.
type frontReport struct {
	Busy     int    `json:"busy"`     // slots taken
	Breaker  string `json:"breaker"`  // towards the broken service
	Attempts []int  `json:"attempts"` // started towards the broken service, by unit
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		http.Error(w, "no slot is free", http.StatusServiceUnavailable)
		return
	}
	route := healthy
	if r.URL.Path == "/"+routeNames[broken] {
		route = broken
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://"+f.targets[route]+"/", nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	resp, err := f.clients[route].Do(req)
	if err != nil {
		status := http.StatusBadGateway
		if errors.Is(err, resilience.ErrRejected) {
			status = http.StatusServiceUnavailable
		}
		http.Error(w, http.StatusText(status), status) // the text of err is not for clients
		return
	}
	defer resp.Body.Close()
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// counter counts the attempts at the transport, below everything that could repeat
// or reject one.
type counter struct {
	base   http.RoundTripper
	script script
	start  atomic.Pointer[time.Time]
	counts []atomic.Int64 // by unit
}

// RoundTrip implements http.RoundTripper.
func (c *counter) RoundTrip(req *http.Request) (*http.Response, error) {
	if start := c.start.Load(); start != nil {
		if unit, ok := c.script.unitOf(time.Since(*start)); ok {
			c.counts[unit].Add(1)
		}
	}
	return c.base.RoundTrip(req)
}

func (c *counter) attempts() []int {
	n := make([]int, len(c.counts))
	for i := range c.counts {
		n[i] = int(c.counts[i].Load())
	}
	return n
}

// lamp remembers the state of one breaker.
type lamp struct{ state atomic.Pointer[string] }

func newLamp(state string) *lamp {
	l := &lamp{}
	l.state.Store(&state)
	return l
}

// Observe implements resilience.Observer.
func (l *lamp) Observe(_ context.Context, e resilience.Event) {
	if e.To != "" {
		l.state.Store(&e.To)
	}
}

// newFront builds the front of either system. They differ in the clients alone.
func newFront(s script, system int, targets [2]string) (*front, *counter, *lamp, error) {
	f := &front{slots: make(chan struct{}, slots), targets: targets}
	attempts := &counter{script: s, counts: make([]atomic.Int64, s.units())}
	breaker := newLamp("no breaker")
	if system == protected {
		breaker = newLamp("CLOSED")
	}
	for route := range f.clients {
		var base http.RoundTripper = &http.Transport{MaxIdleConnsPerHost: slots}
		if route == broken {
			attempts.base = base
			base = attempts
		}
		if system == unprotected {
			f.clients[route] = newNaive(base)
			continue
		}
		var observer resilience.Observer
		if route == broken {
			observer = breaker
		}
		client, policy, err := newProtected(routeNames[route], base, observer)
		if err != nil {
			return nil, nil, nil, err
		}
		f.clients[route] = client
		f.policies = append(f.policies, policy)
	}
	return f, attempts, breaker, nil
}
