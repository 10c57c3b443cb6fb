package bulkhead_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/testkit"
)

// life is a lasting operation whose Run calls lives.
type life = testkit.Lasting

func newLife(lives func(*life) error) *life {
	l := &life{Mute: true}
	l.Func = func(context.Context) error { return lives(l) }
	return l
}

// runIn runs l under b on a new goroutine, and returns when that has ended.
func runIn(b resilience.Policy, l *life) {
	testkit.Unwind(func() error { return resilience.RunOperation(context.Background(), b, l) })
}

func answers(l *life) error { l.Reply(); return nil }

// However an operation ends, it is no longer counted among the operations that go on.
// The next answer then raises High to the average, and by three if three operations do
// go on.
func TestBulkhead_endedNotGoingOn(t *testing.T) {
	failed := errors.New("failed")
	for name, tt := range map[string]struct {
		run  func(*life) error
		then func(*life)
	}{
		"over in time":                {func(l *life) error { l.Finish(nil); return nil }, nil},
		"angry in time":               {func(l *life) error { l.Finish(angry{}); return nil }, nil},
		"answered and over in time":   {func(l *life) error { l.Reply(); l.Finish(nil); return nil }, nil},
		"never going on":              {func(l *life) error { l.Tail = resilience.Tail{}; return nil }, nil},
		"a body":                      {answers, func(l *life) { l.Finish(nil); l.Finish(nil) }},
		"a body that breaks":          {answers, func(l *life) { l.Finish(failed) }},
		"a body whose error is angry": {answers, func(l *life) { l.Finish(angry{}) }},
		"a late answer":               {func(*life) error { return nil }, func(l *life) { l.Reply(); l.Finish(nil) }},
		"no answer":                   {func(*life) error { return nil }, func(l *life) { l.Finish(failed) }},
		"no answer but anger":         {func(*life) error { return nil }, func(l *life) { l.Finish(angry{}) }},
		"discarded":                   {answers, (*life).Discard},
		"discarded before an answer":  {func(*life) error { return nil }, (*life).Discard},
		"begun again":                 {answers, func(l *life) { l.End(l.Begin(), nil) }},
		"a failure":                   {func(l *life) error { l.Finish(failed); return failed }, nil},
		"a failure with a body":       {func(l *life) error { l.Reply(); return failed }, func(l *life) { l.Finish(nil) }},
		"anger":                       {func(l *life) error { l.Reply(); return angry{} }, func(l *life) { l.Finish(nil) }},
		"panic":                       {func(*life) error { panic("boom") }, func(l *life) { l.Finish(failed) }},
		"panic after the answer":      {func(l *life) error { l.Reply(); panic("boom") }, func(l *life) { l.Finish(failed) }},
		"goexit":                      {func(*life) error { runtime.Goexit(); return nil }, func(l *life) { l.Finish(failed) }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBulkhead(t, bulkhead.Config{})
			live := func() *life {
				l := newLife(tt.run)
				runIn(b, l)
				return l
			}
			end := func(l *life) {
				defer func() { _ = recover() }()
				if tt.then != nil {
					tt.then(l)
				}
			}
			for range 10 {
				end(live())
			}
			first, second := live(), live() // at the same time
			end(first)
			end(second)
			if s := b.Stats(); s.InFlight != 0 || s.Completed != 12 || s.High > 2 {
				t.Errorf("at rest %+v", s)
			}
			for range 15 {
				defer acquire(t, b).Release(nil)
			}
			for range 3 {
				l := newLife(answers)
				runIn(b, l)
				defer l.Finish(nil)
			}
			_ = resilience.Run(t.Context(), b, nothing)
			if s := b.Stats(); s.InFlight != 18 || s.High != s.Average+3 {
				t.Errorf("stats %+v, want a High of 3 above the average", s)
			}
		})
	}
}

// Operations that failed and still have a body to read do not raise the number of slots.
func TestBulkhead_failedBodies(t *testing.T) {
	b := newBulkhead(t, bulkhead.Config{})
	for range 20 {
		l := newLife(func(l *life) error { l.Reply(); return errWork })
		runIn(b, l)
		defer l.Finish(nil)
	}
	_ = resilience.Run(t.Context(), b, nothing)
	if s := b.Stats(); s.InFlight != 20 || s.High > 1 {
		t.Errorf("stats %+v", s)
	}
}

// A herd of calls fills the queue and not more.
func TestBulkhead_herd(t *testing.T) {
	const herd, queue = 2000, 5
	for range 5 {
		b := newBulkhead(t, bulkhead.Config{Slots: 1, MaxQueue: queue, MaxWait: bulkhead.Unbounded})
		held := acquire(t, b)
		var all sync.WaitGroup
		start := make(chan struct{})
		for range herd {
			all.Go(func() { <-start; _ = resilience.Run(context.Background(), b, nothing) })
		}
		close(start)
		for b.Stats().QueueFull < herd-queue {
			if s := b.Stats(); s.Queued > queue {
				t.Fatalf("stats %+v", s)
			}
			runtime.Gosched()
		}
		held.Release(nil)
		all.Wait()
		if s := b.Stats(); s != (bulkhead.Stats{Counters: bulkhead.Counters{Completed: queue + 1, QueueFull: herd - queue}, Gauges: bulkhead.Gauges{Slots: 1}}) {
			t.Fatalf("stats %+v", s)
		}
	}
}
