package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
	"google.golang.org/grpc/backoff"
)

// leastSuccess is the share of the calls in percent that the clients with endpoints must
// keep in each phase.
const leastSuccess = 99.9

// plan is how long and how hard the replicas are tried.
type plan struct {
	replicas  int
	work      time.Duration // of an answer
	attempt   time.Duration // timeout of an attempt
	patience  time.Duration // of a caller
	instances int           // of each client
	perSec    int           // calls of all instances of a client
	lead      time.Duration // of a phase, which is not counted
	trouble   time.Duration
	recovery  time.Duration
}

func thePlan() plan {
	return plan{
		replicas: 3, work: 5 * time.Millisecond, attempt: 250 * time.Millisecond, patience: 2 * time.Second,
		instances: 5, perSec: 100, lead: 2 * time.Second, trouble: 8 * time.Second, recovery: 2 * time.Second,
	}
}

// reconnect is how gRPC connects again. Its default of up to 120 s between two tries would
// keep a replica that is back out of use for longer than a phase.
func reconnect() backoff.Config {
	c := backoff.DefaultConfig
	c.BaseDelay, c.MaxDelay = 100*time.Millisecond, time.Second
	return c
}

// phase is one trouble. begin makes it, and end, unless it is nil, repairs it.
type phase struct {
	name       string
	begin, end func(context.Context, *fleet) error
}

// broken is the replica that the phases break.
const broken = 1

func phases() []phase {
	send := func(c command) func(context.Context, *fleet) error {
		return func(_ context.Context, f *fleet) error { return f.replicas[broken].Send(c) }
	}
	return []phase{
		{"all work", func(context.Context, *fleet) error { return nil }, nil},
		{"one refuses connections", send(refuse), send(work)},
		{"one answers 503", send(fail), send(work)},
		{
			"one is killed",
			func(_ context.Context, f *fleet) error { return f.kill(broken) },
			func(ctx context.Context, f *fleet) error { return f.restart(ctx, broken) },
		},
		{
			"one hangs",
			func(_ context.Context, f *fleet) error { return pause(f.replicas[broken].ID()) },
			func(_ context.Context, f *fleet) error { return resume(f.replicas[broken].ID()) },
		},
		{"each is killed in turn", killInTurn, nil},
	}
}

// killInTurn replaces the replicas, as a rollout without a graceful shutdown does.
func killInTurn(ctx context.Context, f *fleet) error {
	each := f.plan.trouble / time.Duration(len(f.replicas))
	for i := range f.replicas {
		began := time.Now()
		if err := f.kill(i); err != nil {
			return err
		}
		time.Sleep(each / 4)
		if err := f.restart(ctx, i); err != nil {
			return err
		}
		time.Sleep(time.Until(began.Add(each)))
	}
	return nil
}

// experiment runs all phases and returns what -check demands.
func experiment(ctx context.Context, p plan, t *table) ([]demo.Check, error) {
	f, err := startFleet(ctx, p)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	t.head()
	var checks []demo.Check
	for _, ph := range phases() {
		results, err := f.try(ctx, ph)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ph.name, err)
		}
		t.row(ph.name, results)
		for _, r := range results {
			if r.of.endpoints {
				checks = append(checks, demo.Check{
					What: fmt.Sprintf("%s over %s", ph.name, r.of.protocol), Want: fmt.Sprintf(">= %v %%", leastSuccess),
					Got: fmt.Sprintf("%.2f %%", r.success()), OK: r.success() >= leastSuccess,
				})
			}
		}
	}
	return checks, nil
}

// result is what the calls of one client came to in one phase.
type result struct {
	of        *client
	mu        sync.Mutex
	calls     int
	succeeded []time.Duration // how long they took
}

func (r *result) add(took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if err == nil {
		r.succeeded = append(r.succeeded, took)
	}
}

// success returns the share of the calls that succeeded, in percent.
func (r *result) success() float64 { return 100 * float64(len(r.succeeded)) / float64(max(1, r.calls)) }

// try runs a phase under the load of new clients: the connections of old ones would avoid a
// replica that was broken before.
func (f *fleet) try(ctx context.Context, ph phase) ([]*result, error) {
	all, err := clients(f)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, c := range all {
			c.close()
		}
	}()
	if _, err := f.load(ctx, all, f.plan.lead); err != nil {
		return nil, err
	}
	var trouble error
	var script sync.WaitGroup
	script.Go(func() {
		repairAt := time.Now().Add(f.plan.trouble)
		if trouble = ph.begin(ctx, f); trouble == nil && ph.end != nil {
			time.Sleep(time.Until(repairAt))
			trouble = ph.end(ctx, f)
		}
	})
	results, err := f.load(ctx, all, f.plan.trouble+f.plan.recovery)
	script.Wait()
	return results, errors.Join(trouble, err)
}

// load sends calls through all clients for d, and returns when all have ended.
func (f *fleet) load(ctx context.Context, all []*client, d time.Duration) ([]*result, error) {
	results := make([]*result, len(all))
	sends := make([]func(int, time.Time), len(all))
	for i, c := range all {
		results[i] = &result{of: c}
		sends[i] = func(n int, intended time.Time) {
			ctx, cancel := context.WithDeadline(ctx, intended.Add(f.plan.patience))
			defer cancel()
			err := c.calls[n%len(c.calls)](ctx)
			results[i].add(time.Since(intended), err)
		}
	}
	return results, demo.OpenLoop(ctx, time.Now(), f.plan.schedule(d), sends...)
}

// schedule returns random instants (a Poisson process) in d.
func (p plan) schedule(d time.Duration) []time.Duration {
	var all []time.Duration
	for at := time.Duration(0); ; {
		at += time.Duration(rand.ExpFloat64() * float64(time.Second) / float64(p.perSec))
		if at >= d {
			return all
		}
		all = append(all, at)
	}
}
