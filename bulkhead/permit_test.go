package bulkhead_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
)

func acquire(t *testing.T, b *bulkhead.Bulkhead) *bulkhead.Permit {
	t.Helper()
	p, err := b.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// acquiring waits for a permit on a new goroutine.
func acquiring(t *testing.T, b *bulkhead.Bulkhead) <-chan *bulkhead.Permit {
	got := make(chan *bulkhead.Permit, 1)
	go func() {
		p, err := b.Acquire(t.Context())
		if err != nil {
			t.Error(err)
			p = new(bulkhead.Permit)
		}
		got <- p
	}()
	return got
}

// A permit holds its slot until Release, even if its context ends.
func TestPermit_holdsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue})
		ctx, cancel := context.WithCancel(t.Context())
		p, err := b.Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		time.Sleep(1000 * time.Hour)
		if s := b.Stats(); s != (bulkhead.Stats{Gauges: bulkhead.Gauges{Slots: 1, InFlight: 1}}) {
			t.Errorf("stats %+v", s)
		}
		if err := resilience.Run(t.Context(), b, nothing); !errors.Is(err, bulkhead.ErrFull) {
			t.Errorf("the slot is free before Release: %v", err)
		}
		p.Release(nil)
		if err := resilience.Run(t.Context(), b, nothing); err != nil {
			t.Errorf("the slot is lost: %v", err)
		}
	})
}

// A permit that is garbage holds its slot.
func TestPermit_unreachable(t *testing.T) {
	b := newBulkhead(t, bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue})
	acquire(t, b)
	runtime.GC()
	runtime.GC()
	if _, err := b.Acquire(t.Context()); !errors.Is(err, bulkhead.ErrFull) {
		t.Errorf("got %v, want ErrFull, since there was no Release", err)
	}
}

// Only the first call of Release releases the slot.
func TestPermit_Release_twice(t *testing.T) {
	b := newBulkhead(t, bulkhead.Config{Slots: 2, MaxQueue: bulkhead.NoQueue})
	first, second := acquire(t, b), acquire(t, b)
	first.Release(nil)
	first.Release(errors.New("late"))
	third := acquire(t, b)
	first.Release(nil)
	if _, err := b.Acquire(t.Context()); !errors.Is(err, bulkhead.ErrFull) {
		t.Errorf("got %v with two of two slots taken", err)
	}
	second.Release(nil)
	third.Release(nil)
	if s := b.Stats(); s.InFlight != 0 || s.Completed != 3 {
		t.Errorf("stats %+v", s)
	}
}

// Concurrent calls of Release release one slot.
func TestPermit_Release_concurrency(t *testing.T) {
	b := newBulkhead(t, bulkhead.Config{Slots: 2, MaxQueue: bulkhead.NoQueue})
	kept := acquire(t, b)
	for range 500 {
		p := acquire(t, b)
		start := make(chan struct{})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { <-start; p.Release(nil) })
		}
		close(start)
		all.Wait()
		if s := b.Stats(); s.InFlight != 1 {
			t.Fatalf("%d in flight, want 1", s.InFlight)
		}
	}
	kept.Release(nil)
}

// Release of the zero Permit does nothing.
func TestPermit_Release_zero(*testing.T) {
	new(bulkhead.Permit).Release(nil)
}

// Acquire fails as Apply does, with the same errors and counters.
func TestBulkhead_Acquire_errors(t *testing.T) {
	left := errors.New("the caller left")
	for name, test := range map[string]struct {
		queue int
		ctx   func(context.Context) (context.Context, context.CancelFunc)
		after time.Duration
		want  []error
		count bulkhead.Stats
	}{
		"a full queue": {
			-1, context.WithCancel, 0, []error{bulkhead.ErrFull, resilience.ErrRejected}, bulkhead.Stats{Counters: bulkhead.Counters{QueueFull: 1}},
		},
		"waited too long": {
			1, context.WithCancel, 100 * time.Millisecond, []error{bulkhead.ErrFull, resilience.ErrRejected}, bulkhead.Stats{Counters: bulkhead.Counters{WaitExpired: 1}},
		},
		"canceled": {
			1, func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(ctx)
				time.AfterFunc(time.Millisecond, func() { cancel(left) })
				return ctx, func() {}
			}, time.Millisecond, []error{context.Canceled, left}, bulkhead.Stats{Counters: bulkhead.Counters{Canceled: 1}},
		},
		"deadline": {
			1, func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, time.Millisecond)
			}, time.Millisecond, []error{context.DeadlineExceeded}, bulkhead.Stats{Counters: bulkhead.Counters{Canceled: 1}},
		},
		"done before": {
			1, func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(ctx)
				cancel(left)
				return ctx, func() {}
			}, 0, []error{context.Canceled, left}, bulkhead.Stats{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBulkhead(t, bulkhead.Config{Slots: 1, MaxQueue: test.queue})
				held := acquire(t, b)
				ctx, cancel := test.ctx(t.Context())
				defer cancel()
				start := time.Now()
				p, err := b.Acquire(ctx)
				if p != nil || time.Since(start) != test.after {
					t.Errorf("got %v after %v, want none after %v", p, time.Since(start), test.after)
				}
				for _, want := range test.want {
					if !errors.Is(err, want) {
						t.Errorf("error %v, want %v", err, want)
					}
				}
				test.count.Slots, test.count.InFlight = 1, 1
				if s := b.Stats(); s != test.count {
					t.Errorf("stats %+v, want %+v", s, test.count)
				}
				held.Release(nil)
			})
		})
	}
}

// Release hands the slot to the first queued call at once.
func TestPermit_Release_handsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{Slots: 1, MaxWait: time.Hour})
		held := acquire(t, b)
		got := acquiring(t, b)
		time.Sleep(time.Minute)
		held.Release(nil)
		start := time.Now()
		next := <-got
		if d := time.Since(start); d != 0 {
			t.Errorf("came %v after the Release", d)
		}
		next.Release(nil)
	})
}

// If Release hands the slot to a call whose context ends, the slot is passed on.
func TestPermit_Release_canceledWaiter(t *testing.T) {
	for range 500 {
		b := newBulkhead(t, bulkhead.Config{Slots: 1, MaxQueue: 8, MaxWait: time.Minute})
		held := acquire(t, b)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for _, ctx := range []context.Context{ctx, t.Context()} {
			all.Go(func() {
				if p, err := b.Acquire(ctx); err == nil {
					p.Release(nil)
				} else if ctx.Err() == nil {
					t.Error(err)
				}
			})
		}
		for b.Stats().Queued < 2 {
			runtime.Gosched()
		}
		all.Go(cancel)
		held.Release(nil)
		all.Wait()
		if s := b.Stats(); s.InFlight != 0 || s.Queued != 0 {
			t.Fatalf("stats %+v", s)
		}
		acquire(t, b).Release(nil)
	}
}

// Permits change the number of slots as calls do.
func TestPermit_sizing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 1))
		calls, permits := newBulkhead(t, bulkhead.Config{}), newBulkhead(t, bulkhead.Config{})
		for range 50 {
			n := 20 + rng.IntN(5)
			end := make([]chan error, n)
			held := make([]*bulkhead.Permit, n)
			for i := range n {
				end[i] = make(chan error)
				go func() { _ = resilience.Run(t.Context(), calls, func(context.Context) error { return <-end[i] }) }()
				held[i] = acquire(t, permits)
				synctest.Wait()
			}
			for _, i := range rng.Perm(n) {
				err := []error{errors.New("failed"), context.Canceled, nil, nil, nil, nil, nil, nil}[rng.IntN(8)]
				p := held[i]
				end[i] <- err
				p.Release(err)
				p.Release(nil) // only the first one counts
				synctest.Wait()
				if c, p := calls.Stats(), permits.Stats(); c != p {
					t.Fatalf("calls %+v, permits %+v", c, p)
				}
			}
		}
		if s := permits.Stats(); s.Slots <= 24 {
			t.Errorf("%d slots: nothing was compared", s.Slots)
		}
	})
}

// A deferred Release releases the slot after a panic or Goexit.
func TestPermit_unwinds(t *testing.T) {
	for name, how := range map[string]func(){"panic": func() { panic("boom") }, "goexit": runtime.Goexit} {
		for _, slots := range []int{1, 0} {
			t.Run(fmt.Sprint(name, slots), func(t *testing.T) {
				b := newBulkhead(t, bulkhead.Config{Slots: slots, MaxQueue: bulkhead.NoQueue})
				var all sync.WaitGroup
				all.Go(func() {
					defer func() { _ = recover() }()
					p := acquire(t, b)
					err := resilience.ErrAborted
					defer func() { p.Release(err) }()
					how()
					err = nil
				})
				all.Wait()
				if s := b.Stats(); s.InFlight != 0 || s.Completed != 1 || s.High != 0 {
					t.Errorf("stats %+v", s)
				}
			})
		}
	}
}

// A panic in a method of the error releases the slot.
func TestPermit_Release_errorPanics(t *testing.T) {
	b := newBulkhead(t, bulkhead.Config{})
	p := acquire(t, b)
	func() {
		defer func() {
			if v := recover(); v != any("outcome") {
				t.Errorf("recovered %v", v)
			}
		}()
		p.Release(angry{})
	}()
	p.Release(angry{})
	if s := b.Stats(); s.InFlight != 0 {
		t.Errorf("stats %+v", s)
	}
}

// A fork with a permit is not idle.
func TestBulkhead_Idle_permit(t *testing.T) {
	b := newBulkhead(t, bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue})
	f := b.Fork("").(*bulkhead.Bulkhead)
	p := acquire(t, f)
	if f.Idle() || !b.Idle() {
		t.Error("the permit is not held by the fork it came from")
	}
	if s := f.Stats(); s.InFlight != 1 || s.Completed != 0 {
		t.Errorf("stats %+v", s)
	}
	p.Release(nil)
	if s := f.Stats(); !f.Idle() || s.InFlight != 0 || b.Stats().Completed != 1 {
		t.Errorf("stats %+v", s)
	}
}

// A permit is one allocation.
func TestBulkhead_Acquire_allocs(t *testing.T) {
	for _, slots := range []int{0, 10} {
		b := newBulkhead(t, bulkhead.Config{Slots: slots})
		n := testing.AllocsPerRun(100, func() {
			p, err := b.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			p.Release(nil)
		})
		if n > 1 {
			t.Errorf("%d slots: %v allocations", slots, n)
		}
	}
}
