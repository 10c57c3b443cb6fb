package bulkhead_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
)

// watching is a context that calls look in each call of Err.
type watching struct {
	context.Context
	look func()
}

func (w watching) Err() error { w.look(); return w.Context.Err() }

// A call that leaves the queue without a slot is never counted in flight.
func TestBulkhead_Stats_leaving(t *testing.T) {
	for _, fork := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBulkhead(t, bulkhead.Config{Slots: 1})
			if fork {
				b = b.Fork("").(*bulkhead.Bulkhead)
			}
			p := acquire(t, b)
			looks := 0
			look := func() {
				looks++
				if s := b.Stats(); s.Completed != 0 || s.InFlight != 1 {
					t.Errorf("stats %+v while a call waits or leaves", s)
				}
			}
			if err := resilience.Run(watching{t.Context(), look}, b, nothing); !errors.Is(err, bulkhead.ErrFull) {
				t.Error(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if err := resilience.Run(watching{ctx, look}, b, nothing); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if s := b.Stats(); s.WaitExpired != 1 || s.Canceled != 1 || looks < 6 {
				t.Errorf("stats %+v after %d looks", s, looks)
			}
			p.Release(nil)
		})
	}
}

// Counters never fall.
func TestCounters_neverFall(t *testing.T) {
	root := newBulkhead(t, bulkhead.Config{Slots: 2, MaxQueue: 1, MaxWait: 20 * time.Microsecond})
	policies := []resilience.Policy{root, root.Fork("")}
	var all sync.WaitGroup
	var stop atomic.Bool
	for i := range 8 {
		all.Go(func() {
			for range 3000 {
				_ = resilience.Run(t.Context(), policies[i%2], nothing)
			}
		})
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		var last bulkhead.Stats
		for !stop.Load() {
			s := root.Stats()
			if s.Completed < last.Completed || s.QueueFull < last.QueueFull || s.WaitExpired < last.WaitExpired || s.Canceled < last.Canceled {
				t.Errorf("%+v after %+v", s, last)
				return
			}
			last = s
		}
	}()
	all.Wait()
	stop.Store(true)
	<-watched
	if s := root.Stats(); s.Completed+s.QueueFull+s.WaitExpired != 8*3000 || s.InFlight != 0 || s.Queued != 0 {
		t.Errorf("at rest: %+v", s)
	}
}

// A context that panics while its call is queued leaves the queue.
func TestBulkhead_contextPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{Slots: 1})
		p := acquire(t, b)
		calls := 0
		func() {
			defer func() {
				if v := recover(); v != any("boom") {
					t.Errorf("recovered %v", v)
				}
			}()
			_, _ = b.Acquire(watching{t.Context(), func() {
				if calls++; calls > 1 {
					panic("boom")
				}
			}})
		}()
		p.Release(nil)
		if s := b.Stats(); s != (bulkhead.Stats{Counters: bulkhead.Counters{Completed: 1, Canceled: 1}, Gauges: bulkhead.Gauges{Slots: 1}}) || !b.Idle() {
			t.Errorf("stats %+v", s)
		}
	})
}

// Slots follows from High, and a fork has its own gauges.
func TestGauges_Slots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		for range 3 {
			var held [24]*bulkhead.Permit
			for i := range held {
				held[i] = acquire(t, b)
			}
			for _, p := range held {
				p.Release(nil)
			}
		}
		s := b.Stats()
		if s.Average <= 8 || s.High < s.Average || s.High > 24 || s.Slots != int(3*s.High) {
			t.Errorf("stats %+v", s)
		}
		if f := b.Fork("").(*bulkhead.Bulkhead).Stats(); f.Average != 0 || f.High != 0 || f.Slots != 24 {
			t.Errorf("a fork has %+v", f)
		}
	})
}

// A call that gets its slot in time leaves no timer.
func TestConfig_MaxWait_noTimerLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mock := clock.NewMock()
		b := newBulkhead(t, bulkhead.Config{Slots: 1, Clock: mock})
		p := acquire(t, b)
		got := acquiring(t, b)
		synctest.Wait()
		p.Release(nil)
		(<-got).Release(nil)
		before := mock.Now()
		if left := mock.WaitForAllTimers(); !left.Equal(before) {
			t.Errorf("a timer is left for %v", left.Sub(before))
		}
	})
}
