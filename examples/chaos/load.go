package main

import (
	"context"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// record is one request as the load generator saw it.
type record struct {
	System int           `json:"s"`
	Route  int           `json:"r"`
	At     time.Duration `json:"at"`   // when it was to be sent, from the start
	Late   time.Duration `json:"late"` // how much later it was sent
	Took   time.Duration `json:"took"` // from At to the end of the answer
	Status int           `json:"code"` // 0 if there was no complete answer
}

// ok reports whether the request was answered with success, even if late.
func (r record) ok() bool { return r.Status >= 200 && r.Status < 300 }

// good reports whether it counts as goodput.
func (r record) good() bool { return r.ok() && r.Took <= goodUntil }

// schedule returns when the requests of a route are to be sent: rate of them in
// each second, at random instants, the same ones in every run.
func schedule(route int, length time.Duration) []time.Duration {
	random := rand.New(rand.NewPCG(1, uint64(route)))
	var at []time.Duration
	for second := time.Duration(0); second < length; second += time.Second {
		for range rate {
			at = append(at, second+time.Duration(random.Int64N(int64(time.Second))))
		}
	}
	slices.Sort(at)
	n, _ := slices.BinarySearch(at, length)
	return at[:n]
}

// generator sends requests on schedule, whether or not earlier ones were answered.
type generator struct {
	fronts  [2]string
	clients [2]*http.Client
	start   time.Time
	mu      sync.Mutex
	records []record // guarded by mu; ended and not reported yet
}

// newGenerator has no limit on connections and keeps all that are idle, so that
// it never waits for one of its own.
func newGenerator(fronts [2]string, start time.Time) *generator {
	g := &generator{fronts: fronts, start: start}
	for i := range g.clients {
		g.clients[i] = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: math.MaxInt}}
	}
	return g
}

// drive sends each request of a route to both systems, and returns when all have
// ended.
func (g *generator) drive(route int, at []time.Duration) {
	to := func(system int) func(int, time.Time) {
		return func(i int, intended time.Time) { g.send(system, route, at[i], intended) }
	}
	_ = demo.OpenLoop(context.Background(), g.start, at, to(unprotected), to(protected)) // nothing ends it early
}

func (g *generator) send(system, route int, at time.Duration, intended time.Time) {
	r := record{System: system, Route: route, At: at, Late: time.Since(intended)}
	r.Status = g.get(system, route, intended.Add(giveUp))
	r.Took = time.Since(intended)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.records = append(g.records, r)
}

func (g *generator) get(system, route int, until time.Time) (status int) {
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.fronts[system]+"/"+routeNames[route], nil)
	if err != nil {
		return 0
	}
	resp, err := g.clients[system].Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0
	}
	return resp.StatusCode
}

func (g *generator) take() []record {
	g.mu.Lock()
	defer g.mu.Unlock()
	taken := g.records
	g.records = nil
	return taken
}

// runLoad reports every request when it has ended.
func runLoad(c config, l *link) error {
	l.send(report{Addr: "none"})
	g := newGenerator(c.Fronts, <-l.starts)
	var drivers sync.WaitGroup
	for route := range routeNames {
		at := schedule(route, c.Script.length())
		drivers.Go(func() { g.drive(route, at) })
	}
	done := make(chan struct{})
	go func() {
		drivers.Wait()
		close(done)
	}()
	for {
		select {
		case <-time.After(reportEvery):
			l.send(report{Records: g.take()})
		case <-done:
			l.send(report{Records: g.take()})
			l.send(report{Done: true})
			return nil
		}
	}
}
