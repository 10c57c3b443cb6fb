package limit_test

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
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/limit"
)

// until waits for something that comes soon.
func until(t *testing.T, soon func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !soon(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}

// settled waits for as many goroutines as there were.
func settled(t *testing.T, before int) {
	t.Helper()
	until(t, func() bool { return runtime.NumGoroutine() <= before })
}

// wild is an operation that ends as chance has it.
func wild(context.Context) error {
	for range rand.IntN(4) {
		runtime.Gosched()
	}
	switch rand.IntN(8) {
	case 0:
		return errDown
	case 1:
		panic("boom")
	case 2:
		runtime.Goexit()
	case 3:
		return &resilience.Rejection{Policy: "inner"}
	}
	return nil
}

// unruly is an observer that does what it should not.
func unruly(resilience.Event) {
	switch rand.IntN(3) {
	case 0:
		panic("boom")
	case 1:
		runtime.Goexit()
	}
}

// watchStats reads, until stop is closed, what l and its fork, to which 5 callers come, say
// of those who are there.
func watchStats(t *testing.T, l, fork *limit.Limit, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if s := l.Stats(); s.InFlight < 0 || s.Queued < 0 {
			t.Errorf("%d in flight, %d waiting", s.InFlight, s.Queued)
			return
		}
		if s := fork.Stats(); s.InFlight < 0 || s.InFlight > 5 || s.Queued < 0 || s.Queued > 5 {
			t.Errorf("%d in flight, %d waiting of 5 callers", s.InFlight, s.Queued)
			return
		}
	}
}

// No slot is lost while many callers run, fail, panic and leave.
func TestLimit_concurrentCallers(t *testing.T) {
	for name, c := range map[string]limit.Config{
		"one place":           {Max: 1},
		"three places":        {Max: 3, MaxQueue: 5},
		"no queue":            {Max: 2, MaxQueue: -1},
		"as many as it takes": {},
		"shadow":              {Max: 2, Shadow: true},
	} {
		t.Run(name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			c.Observer = testkit.Observer(unruly)
			l := newLimit(t, c)
			forks := []resilience.Policy{l, l.Fork(""), l.Fork("a")}
			var calls, ran, in, most atomic.Int64
			stop := make(chan struct{})
			var reader sync.WaitGroup
			reader.Go(func() { watchStats(t, l, forks[1].(*limit.Limit), stop) })
			testkit.AtOnce(16, func(i int) {
				for range 300 {
					p := forks[i%3]
					testkit.Unwind(func() error {
						ctx, cancel := context.WithCancel(context.Background())
						defer cancel()
						if rand.IntN(3) == 0 {
							go cancel()
						}
						return resilience.Run(ctx, testkit.Policy(func(ctx context.Context, next resilience.Next) error {
							return p.Apply(&counted{Context: ctx, calls: &calls}, next)
						}), func(ctx context.Context) error {
							ran.Add(1)
							if i%3 == 0 && !c.Shadow && c.Max > 0 {
								n := in.Add(1)
								defer in.Add(-1)
								for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
								}
							}
							return wild(ctx)
						})
					})
				}
			})
			close(stop)
			reader.Wait()
			s := l.Stats()
			if c.Shadow {
				s.Shed, s.QueueFull = 0, 0
			}
			if n := s.Useful + s.Abandoned; n != uint64(ran.Load()) {
				t.Errorf("%d operations are counted as %d: %+v", ran.Load(), n, s)
			}
			if n := s.Useful + s.Abandoned + s.Shed + s.QueueFull + s.Canceled; n != uint64(calls.Load()) {
				t.Errorf("%d calls are counted as %d: %+v", calls.Load(), n, s)
			}
			if s.InFlight != 0 || s.Queued != 0 {
				t.Errorf("at rest: %+v", s)
			}
			if most.Load() > int64(c.Max) {
				t.Errorf("%d of at most %d in flight", most.Load(), c.Max)
			}
			for _, p := range forks {
				if !p.(interface{ Idle() bool }).Idle() {
					t.Error("at rest and not idle")
				}
			}
			settled(t, before)
		})
	}
}

// counted is a context that counts the call, unless the limit finds it to be over as it
// comes.
type counted struct {
	context.Context
	calls *atomic.Int64
	asked bool
}

func (c *counted) Err() error {
	err := c.Context.Err()
	if !c.asked && err == nil {
		c.calls.Add(1)
	}
	c.asked = true
	return err
}

// A slot given to a caller that leaves at that instant goes to the next request.
func TestLimit_slotOfLeavingCaller(t *testing.T) {
	before := runtime.NumGoroutine()
	l := newLimit(t, limit.Config{Max: 1})
	calls := 0
	for round := range 3000 {
		leave, first, second := make(chan struct{}), make(chan error, 1), make(chan error, 1)
		entered := make(chan struct{})
		go func() {
			_ = resilience.Run(context.Background(), l, func(context.Context) error { close(entered); <-leave; return nil })
		}()
		<-entered
		ctx, cancel := context.WithCancel(context.Background())
		go func() { first <- resilience.Run(ctx, l, succeed) }()
		until(t, func() bool { return l.Stats().Queued == 1 })
		go func() { second <- resilience.Run(context.Background(), l, succeed) }()
		until(t, func() bool { return l.Stats().Queued == 2 })
		testkit.AtOnce(2, func(i int) {
			if i == 0 {
				cancel()
			} else {
				close(leave)
			}
		})
		if err := <-first; err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("round %d: who left got %v", round, err)
		}
		select {
		case err := <-second:
			if err != nil {
				t.Fatalf("round %d: who stayed got %v", round, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("round %d: who stayed was forgotten: %+v", round, l.Stats())
		}
		calls += 3
	}
	settled(t, before)
	atRest(t, l, calls)
}

// Many queued callers that leave at once leave the counters consistent and the queue
// empty.
func TestLimit_manyLeaveQueue(t *testing.T) {
	before := runtime.NumGoroutine()
	l := newLimit(t, limit.Config{Max: 2})
	calls := 0
	for range 100 {
		leave := make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { _ = resilience.Run(ctx, l, func(context.Context) error { <-leave; return nil }) })
		}
		until(t, func() bool { s := l.Stats(); return s.InFlight+s.Queued == 50 })
		cancel()
		until(t, func() bool { return l.Stats().Queued == 0 }) // though nothing else happens
		close(leave)
		all.Wait()
		calls += 50
	}
	settled(t, before)
	atRest(t, l, calls)
}
