package bulkhead_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
)

// life is a lasting operation that does what it says as it runs.
type life struct {
	resilience.Tail
	run   uint32
	lives func(*life) error
}

func (l *life) Run(context.Context) error {
	l.run = l.Begin()
	return l.lives(l)
}

func (l *life) Discard() { l.End(l.run, context.Canceled) }

// in runs l in b on a goroutine of its own, and returns when that has gone.
func (l *life) in(b resilience.Policy) {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { _ = recover() }()
		_ = resilience.RunOperation(context.Background(), b, l)
	})
	wg.Wait()
}

func answers(l *life) error { l.Answer(l.run); return nil }

// However an operation ends, it is no longer counted among those that go on: the
// next answer raises High to what the average is, and by three that do go on.
func TestNothingGoesOnThatHasEnded(t *testing.T) {
	failed := errors.New("failed")
	for name, tt := range map[string]struct {
		run  func(*life) error
		then func(*life)
	}{
		"over in time":                {func(l *life) error { l.End(l.run, nil); return nil }, nil},
		"angry in time":               {func(l *life) error { l.End(l.run, angry{}); return nil }, nil},
		"answered and over in time":   {func(l *life) error { l.Answer(l.run); l.End(l.run, nil); return nil }, nil},
		"never going on":              {func(l *life) error { l.Tail = resilience.Tail{}; return nil }, nil},
		"a body":                      {answers, func(l *life) { l.End(l.run, nil); l.End(l.run, nil) }},
		"a body that breaks":          {answers, func(l *life) { l.End(l.run, failed) }},
		"a body whose error is angry": {answers, func(l *life) { l.End(l.run, angry{}) }},
		"a late answer":               {func(*life) error { return nil }, func(l *life) { l.Answer(l.run); l.End(l.run, nil) }},
		"no answer":                   {func(*life) error { return nil }, func(l *life) { l.End(l.run, failed) }},
		"no answer but anger":         {func(*life) error { return nil }, func(l *life) { l.End(l.run, angry{}) }},
		"discarded":                   {answers, (*life).Discard},
		"discarded before an answer":  {func(*life) error { return nil }, (*life).Discard},
		"begun again":                 {answers, func(l *life) { l.End(l.Begin(), nil) }},
		"a failure":                   {func(l *life) error { l.End(l.run, failed); return failed }, nil},
		"a failure with a body":       {func(l *life) error { l.Answer(l.run); return failed }, func(l *life) { l.End(l.run, nil) }},
		"anger":                       {func(l *life) error { l.Answer(l.run); return angry{} }, func(l *life) { l.End(l.run, nil) }},
		"panic":                       {func(*life) error { panic("boom") }, func(l *life) { l.End(l.run, failed) }},
		"panic after the answer":      {func(l *life) error { l.Answer(l.run); panic("boom") }, func(l *life) { l.End(l.run, failed) }},
		"goexit":                      {func(*life) error { runtime.Goexit(); return nil }, func(l *life) { l.End(l.run, failed) }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBulkhead(t, bulkhead.Config{})
			live := func() *life {
				l := &life{lives: tt.run}
				l.in(b)
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
			first, second := live(), live() // beside each other
			end(first)
			end(second)
			if s := b.Stats(); s.InFlight != 0 || s.Completed != 12 || s.High > 2 {
				t.Errorf("at rest %+v", s)
			}
			for range 15 {
				defer acquire(t, b).Release(nil)
			}
			for range 3 {
				l := &life{lives: answers}
				l.in(b)
				defer l.End(l.run, nil)
			}
			_ = resilience.Run(t.Context(), b, nothing)
			if s := b.Stats(); s.InFlight != 18 || s.High != s.Average+3 {
				t.Errorf("stats %+v, want a High of 3 above the average", s)
			}
		})
	}
}

// What failed at once and still has a body to be read makes no room.
func TestFailuresThatGoOnDoNotRaiseTheLimit(t *testing.T) {
	b := newBulkhead(t, bulkhead.Config{})
	for range 20 {
		l := &life{lives: func(l *life) error { l.Answer(l.run); return errWork }}
		l.in(b)
		defer l.End(l.run, nil)
	}
	_ = resilience.Run(t.Context(), b, nothing)
	if s := b.Stats(); s.InFlight != 20 || s.High > 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestAHerdFillsTheLineAndNoMore(t *testing.T) {
	const herd, queue = 2000, 5
	for range 5 {
		b := newBulkhead(t, bulkhead.Config{Slots: 1, MaxQueue: queue, MaxWait: -1})
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
