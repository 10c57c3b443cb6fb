package stack_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
)

// ending is how an operation of TestPolicies_mayhem ends.
type ending int

const (
	panics ending = iota
	exits
	fails
	hangs
	asksToWait
	succeeds
	endings
)

// lively is an operation that answers and ends on other goroutines, perhaps several times.
type lively struct {
	resilience.Tail
	key   string
	ends  ending
	slow  time.Duration
	fatal bool // the later part fails
	later *sync.WaitGroup
}

func (o *lively) Key() string { return o.key }

func (o *lively) Run(ctx context.Context) error {
	run := o.Begin()
	o.later.Go(func() {
		time.Sleep(o.slow)
		defer func() { // an observer may end this goroutine in Answer
			o.later.Go(func() { o.End(run, nil) })
			if o.fatal {
				o.End(run, errors.New("later"))
			} else {
				o.End(run, nil)
			}
		}()
		o.Answer(run)
	})
	switch o.ends {
	case panics:
		panic("operation")
	case exits:
		runtime.Goexit()
	case fails:
		return errors.New("down")
	case hangs:
		<-ctx.Done()
		return ctx.Err()
	case asksToWait:
		return retry.After(errors.New("busy"), time.Microsecond)
	}
	return nil
}

func (o *lively) Discard() { o.End(1, resilience.ErrAborted) }

// Calls that end in every way, under all policies at once, leave no slot taken and are counted
// at most once. This holds while an operator changes modes, and while observers panic or exit.
func TestPolicies_mayhem(t *testing.T) {
	for seed := range uint64(4) {
		mayhem(t, seed)
	}
}

func mayhem(t *testing.T, seed uint64) {
	o := resilience.ObserverFunc(func(context.Context, resilience.Event) {
		switch rand.IntN(20) {
		case 0:
			panic("observer")
		case 1:
			runtime.Goexit()
		}
	})
	const window = 50 * time.Millisecond
	br := resilience.Must(breaker.New(breaker.Config{
		Trip: []breaker.Rule{
			breaker.Consecutive{Failures: 4}, breaker.Rate{Failures: 6, Of: 10, Over: window},
			breaker.Slow{LongerThan: time.Millisecond, Calls: 5, Of: 10, Over: window},
		},
		OpenFor: time.Millisecond, CloseAfter: 8, ProbeTimeout: 5 * time.Millisecond, Observer: o,
	}))
	sized := resilience.Must(bulkhead.New(bulkhead.Config{Name: "sized", MaxWait: time.Millisecond, Observer: o}))
	fixed := resilience.Must(bulkhead.New(bulkhead.Config{Name: "fixed", Slots: 5, MaxWait: time.Millisecond, Observer: o}))
	front := resilience.Must(limit.New(limit.Config{Max: 12, Observer: o}))
	again := resilience.Must(retry.New(retry.Config{BaseDelay: time.Microsecond, MaxDelay: 2 * time.Microsecond, Budget: retry.NoBudget, Observer: o}))
	short := resilience.Must(timeout.New(timeout.Config{Timeout: 500 * time.Microsecond, Until: resilience.Answered, Observer: o}))
	group := resilience.Must(keyed.New(resilience.Compose(again, br, sized, fixed, short), keyed.Config{Max: 3}))
	p := resilience.Compose(front, group)

	var started atomic.Uint64
	var callers, later, operator sync.WaitGroup
	for worker := range uint64(12) {
		callers.Go(func() {
			r := rand.New(rand.NewPCG(seed, worker))
			for range 300 {
				started.Add(1)
				when := time.Duration(r.IntN(6))
				ctx, cancel := context.WithTimeout(t.Context(), (1+when)*300*time.Microsecond)
				op := &lively{key: string(rune('a' + r.IntN(6))), ends: ending(r.IntN(int(endings))), slow: when * 50 * time.Microsecond, fatal: r.IntN(3) == 0, later: &later}
				if when == 5 {
					go cancel()
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { _ = recover() }()
					_ = resilience.RunOperation(ctx, p, op)
				}()
				<-done
				cancel()
			}
		})
	}
	stop := make(chan struct{})
	operator.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
			}
			for n := range resilience.Walk(group) {
				if b, ok := n.Policy.(*breaker.Breaker); ok {
					b.SetMode(breaker.Mode(i % 4))
					_ = b.Explain()
					if i%5 == 0 {
						b.Reset()
					}
					b.SetMode(breaker.Auto)
				}
			}
		}
	})
	callers.Wait()
	close(stop)
	operator.Wait()
	later.Wait()

	s := front.Stats()
	if s.InFlight != 0 || s.Queued != 0 {
		t.Errorf("the limit holds %+v", s.Gauges)
	}
	if n := s.Useful + s.Abandoned + s.Shed + s.QueueFull + s.Canceled; n > started.Load() {
		t.Errorf("the limit counts %d of %d", n, started.Load())
	}
	for n := range resilience.Walk(group) {
		switch q := n.Policy.(type) {
		case *bulkhead.Bulkhead:
			if s := q.Stats(); s.InFlight != 0 || s.Queued != 0 {
				t.Errorf("%v for %q holds %+v", q.Name(), n.Key, s.Gauges)
			}
		case *breaker.Breaker:
			if s := q.Stats(); s.State == breaker.Closed && s.InFlight != 0 {
				t.Errorf("the breaker for %q holds %+v", n.Key, s.Gauges)
			}
		}
	}
}
