package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// ending is how a request ended for its caller.
type ending uint8

const (
	answered  ending = iota // 200, in time
	rejected                // 503
	abandoned               // no answer came in time
	failed                  // anything else: the load is not the intended one
)

// record is one request as its caller saw it.
type record struct {
	At       time.Duration // when it was to be sent, from the start
	Late     time.Duration // how much later it was sent
	Took     time.Duration // from At to the end of the answer
	End      ending
	Critical bool
}

// schedule returns the instants at which requests are to be sent: rate in a second, at
// random, the same in every run.
func schedule(rate float64, length time.Duration) []time.Duration {
	random := rand.New(rand.NewPCG(1, 8))
	var at []time.Duration
	for d := 0.0; ; {
		d += random.ExpFloat64() / rate * float64(time.Second)
		if d >= float64(length) {
			return at
		}
		at = append(at, time.Duration(d))
	}
}

// routes returns for each of n requests whether it is critical, which a share of them are at
// random, the same in every run.
func routes(n int, share float64) []bool {
	random := rand.New(rand.NewPCG(2, 8))
	critical := make([]bool, n)
	for i := range critical {
		critical[i] = random.Float64() < share
	}
	return critical
}

// generator sends requests to the sockets of a service in turn.
type generator struct {
	clients  []*client
	patience time.Duration
}

func newGenerator(addrs []string, patience time.Duration) *generator {
	g := &generator{patience: patience}
	for _, addr := range addrs {
		g.clients = append(g.clients, newClient(addr))
	}
	return g
}

func (g *generator) close() {
	for _, c := range g.clients {
		c.close()
	}
}

// open sends on schedule, whether or not earlier requests were answered: independent
// users send like that. A share of the requests is critical. It returns when all have ended.
func (g *generator) open(ctx context.Context, start time.Time, at []time.Duration, share float64) ([]record, error) {
	records, critical := make([]record, len(at)), routes(len(at), share)
	err := demo.OpenLoop(ctx, start, at, func(i int, intended time.Time) {
		records[i] = g.send(i, intended, at[i], critical[i])
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// closed runs a number of callers until an instant. Each sends its next request when
// the one before has ended as it should. It counts them.
func (g *generator) closed(ctx context.Context, callers int, until time.Time, want ending, answers *atomic.Int64) error {
	var all sync.WaitGroup
	var bad atomic.Int64
	for i := range callers {
		all.Go(func() {
			for ctx.Err() == nil && time.Now().Before(until) {
				if g.send(i, time.Now(), 0, false).End != want {
					bad.Add(1)
					return
				}
				answers.Add(1)
			}
		})
	}
	all.Wait()
	if n := bad.Load(); n > 0 && ctx.Err() == nil {
		return errors.New("the service did not answer a few callers in time: this machine is too busy to measure anything")
	}
	return ctx.Err()
}

func (g *generator) send(i int, intended time.Time, at time.Duration, critical bool) record {
	r := record{At: at, Late: time.Since(intended), Critical: critical}
	route := bulkRoute
	if critical {
		route = criticalRoute
	}
	status, err := g.clients[i%len(g.clients)].get(route, intended.Add(g.patience))
	r.Took = time.Since(intended)
	switch {
	case r.Took > g.patience || err != nil && late(err):
		r.End = abandoned
	case err == nil && status == http.StatusOK:
		r.End = answered
	case err == nil && status == http.StatusServiceUnavailable:
		r.End = rejected
	default:
		r.End = failed
	}
	return r
}
