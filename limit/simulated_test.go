package limit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit"
	"golang.org/x/sync/semaphore"
)

// A simulated service works on so many requests at a time, first in, first out, in virtual time.
// The load that it gets follows from a seed.
type simulated struct {
	front   resilience.Policy
	workers *semaphore.Weighted // nil: on any number
	free    atomic.Bool         // of its workers: from now on any number
	luck    *rand.Rand

	all               sync.WaitGroup
	sent, ok, refused atomic.Int64
}

func simulate(workers int64, front resilience.Policy, seed uint64) *simulated {
	s := &simulated{front: front, luck: rand.New(rand.NewPCG(seed, 0))}
	if workers > 0 {
		s.workers = semaphore.NewWeighted(workers)
	}
	return s
}

// about returns half of d to one and a half of it.
func (s *simulated) about(d time.Duration) time.Duration {
	return d/2 + time.Duration(s.luck.Int64N(int64(d)))
}

// start has a caller come who leaves after patience.
func (s *simulated) start(patience, work time.Duration) {
	s.all.Go(func() { _ = s.call(patience, work) })
}

func (s *simulated) call(patience, work time.Duration) error {
	s.sent.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := resilience.Run(ctx, s.front, func(ctx context.Context) error { return s.work(ctx, work) })
	switch {
	case err == nil:
		s.ok.Add(1)
	case errors.Is(err, resilience.ErrRejected):
		s.refused.Add(1)
	}
	return err
}

func (s *simulated) work(ctx context.Context, long time.Duration) error {
	if s.workers != nil && !s.free.Load() {
		if err := s.workers.Acquire(ctx, 1); err != nil {
			return err
		}
		defer s.workers.Release(1)
	}
	done := time.NewTimer(long)
	defer done.Stop()
	select {
	case <-done.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// steady has so many callers a second come, at random times, for so long.
func (s *simulated) steady(long time.Duration, rps float64, patience, work time.Duration) {
	for end := time.Now().Add(long); time.Now().Before(end); {
		s.start(patience, s.about(work))
		time.Sleep(time.Duration(s.luck.ExpFloat64() / rps * float64(time.Second)))
	}
}

// success is in percent, of the calls since then.
func (s *simulated) success(sent, ok int64) float64 {
	return 100 * float64(s.ok.Load()-ok) / float64(s.sent.Load()-sent)
}

// A load is what happens to a service that works on so many requests at a time, 0 for
// any number. What happens before it is measured is before.
type load struct {
	workers int64
	before  func(s *simulated)
	run     func(s *simulated)
	costs   float64 // points of success that the limit may cost
}

// under returns how many percent succeed behind front.
func (l load) under(t *testing.T, front func() resilience.Policy) (success float64) {
	synctest.Test(t, func(*testing.T) {
		s := simulate(l.workers, front(), 1)
		if l.before != nil {
			l.before(s)
		}
		sent, ok := s.sent.Load(), s.ok.Load()
		l.run(s)
		s.all.Wait()
		success = s.success(sent, ok)
		if c, is := s.front.(*limit.Limit); is {
			t.Logf("%+v", c.Stats())
		}
	})
	return success
}

// costsNothing reports if more succeed without a limit than with one.
func (l load) costsNothing(t *testing.T) {
	bare := l.under(t, func() resilience.Policy { return resilience.Compose() })
	limited := l.under(t, func() resilience.Policy {
		return resilience.Must(limit.New(limit.Config{}))
	})
	t.Logf("%.1f %% succeed, without a limit %.1f %%", limited, bare)
	if limited < bare-l.costs {
		t.Error("the limit costs too much")
	}
}
