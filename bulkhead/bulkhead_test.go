package bulkhead_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/testkit"
)

func newBulkhead(t *testing.T, c bulkhead.Config) *bulkhead.Bulkhead {
	t.Helper()
	b, err := bulkhead.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var nothing = resilience.Func(func(context.Context) error { return nil })

// occupy makes n calls in a synctest bubble and returns a function that ends one of them.
func occupy(b resilience.Policy, n int) (free func()) {
	leave := make(chan struct{})
	for range n {
		go func() {
			_ = resilience.Run(context.Background(), b, func(context.Context) error { <-leave; return nil })
		}()
	}
	synctest.Wait()
	return func() { leave <- struct{}{}; synctest.Wait() }
}

// Without a queue, a call is never rejected while a slot is free.
func TestBulkhead_noQueue(t *testing.T) {
	b := newBulkhead(t, bulkhead.Config{Slots: 4, MaxQueue: bulkhead.NoQueue})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5000 {
				if err := resilience.Run(context.Background(), b, nothing); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// Four goroutines that share one slot lose no wake-up, and no call is rejected.
func TestBulkhead_oneSlot(t *testing.T) {
	for _, queue := range []int{3, 4} {
		b := newBulkhead(t, bulkhead.Config{Slots: 1, MaxQueue: queue, MaxWait: time.Minute})
		var wg sync.WaitGroup
		var running atomic.Int64
		for range 4 {
			wg.Go(func() {
				for range 3000 {
					err := resilience.Run(context.Background(), b, func(context.Context) error {
						if running.Add(1) > 1 {
							t.Error("two calls in one slot")
						}
						running.Add(-1)
						return nil
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if s := b.Stats(); s != (bulkhead.Stats{Counters: bulkhead.Counters{Completed: 12000}, Gauges: bulkhead.Gauges{Slots: 1}}) {
			t.Errorf("at rest: %+v", s)
		}
	}
}

// A queued call whose context ends returns at once and takes no slot.
func TestBulkhead_canceledWhileQueued(t *testing.T) {
	left := errors.New("the caller left")
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{Slots: 1, MaxQueue: 2, MaxWait: time.Hour})
		free := occupy(b, 1)
		ctx, cancel := context.WithCancelCause(context.Background())
		result := make(chan error, 1)
		go func() {
			result <- resilience.Run(ctx, b, func(context.Context) error { t.Error("ran"); return nil })
		}()
		synctest.Wait()
		if s := b.Stats(); s.Queued != 1 || s.InFlight != 1 {
			t.Fatalf("stats %+v", s)
		}
		start := time.Now()
		cancel(left)
		err := <-result
		if !errors.Is(err, context.Canceled) || !errors.Is(err, left) || errors.Is(err, resilience.ErrRejected) || time.Since(start) != 0 {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		if s := b.Stats(); s.Queued != 0 || s.Canceled != 1 {
			t.Errorf("stats %+v", s)
		}
		free()
		if err := resilience.Run(context.Background(), b, nothing); err != nil {
			t.Errorf("the slot is lost: %v", err)
		}
	})
}

// If a slot is handed to a call at the instant its context ends, the slot is passed on.
func TestBulkhead_canceledAtHandover(t *testing.T) {
	for range 500 {
		b := newBulkhead(t, bulkhead.Config{Slots: 1, MaxQueue: 8, MaxWait: time.Minute})
		leave, in := make(chan bool), make(chan bool)
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = resilience.Run(context.Background(), b, func(context.Context) error { in <- true; <-leave; return nil })
		})
		<-in
		ctx, cancel := context.WithCancel(context.Background())
		wg.Go(func() { _ = resilience.Run(ctx, b, nothing) })
		wg.Go(func() {
			if err := resilience.Run(context.Background(), b, nothing); err != nil {
				t.Error(err)
			}
		})
		for b.Stats().Queued < 2 {
			runtime.Gosched()
		}
		wg.Go(cancel)
		leave <- true
		wg.Wait()
		if err := resilience.Run(context.Background(), b, nothing); err != nil {
			t.Fatal(err)
		}
	}
}

// The queue is first in, first out, and a new call does not pass it.
func TestBulkhead_firstInFirstOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{Slots: 1, MaxQueue: 10, MaxWait: time.Hour})
		free := occupy(b, 1)
		var order []int
		arrive := func(n int) {
			go func() {
				_ = resilience.Run(context.Background(), b, func(context.Context) error {
					order = append(order, n)
					time.Sleep(time.Second)
					return nil
				})
			}()
			synctest.Wait()
		}
		for i := range 10 {
			arrive(i)
		}
		free()
		time.Sleep(2 * time.Second)
		arrive(99) // while a slot changes hands every second
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 99}; !slices.Equal(order, want) {
			t.Errorf("order %v", order)
		}
	})
}

// If the queue is full, a call is rejected at once. A bulkhead that sizes itself has a queue
// only while there is evidence that the dependency hangs.
func TestBulkhead_queueFull(t *testing.T) {
	for _, tt := range []struct{ slots, queue, queued int }{
		{1, 0, 1}, {2, 0, 1}, {3, 0, 2}, {10, 0, 5}, {0, 0, 12}, {2, 7, 7}, {2, -1, 0}, {0, 3, 3}, {0, -1, 0},
	} {
		t.Run(fmt.Sprint(tt.slots, ",", tt.queue), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBulkhead(t, bulkhead.Config{Name: "users", Slots: tt.slots, MaxQueue: tt.queue, MaxWait: time.Hour})
				timeOut(t, b)
				slots := b.Stats().Slots
				free := occupy(b, slots+tt.queued)
				if s := b.Stats(); s.InFlight != slots || s.Queued != tt.queued {
					t.Fatalf("stats %+v", s)
				}
				start := time.Now()
				err := resilience.Run(context.Background(), b, nothing)
				var rej *resilience.Rejection
				if !errors.As(err, &rej) || !errors.Is(err, bulkhead.ErrFull) || rej.Name != "users" || !strings.HasPrefix(rej.Detail, "queue is full: ") || time.Since(start) != 0 {
					t.Errorf("got %v after %v", err, time.Since(start))
				}
				if s := b.Stats(); s.QueueFull != 1 || s.Completed != timeouts {
					t.Errorf("stats %+v", s)
				}
				for range slots + tt.queued {
					free()
				}
			})
		})
	}
}

// The slot is held until the operation ends, and released once.
func TestBulkhead_lastingOperation(t *testing.T) {
	for _, failure := range []error{nil, errors.New("503")} {
		b := newBulkhead(t, bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue})
		op := &testkit.Lasting{Mute: true, Func: func(context.Context) error { return failure }}
		if err := resilience.RunOperation(context.Background(), b, op); err != failure {
			t.Fatal(err)
		}
		for _, step := range []func(){func() {}, op.Reply, func() { op.End(op.ID+1, nil) }} {
			step()
			if err := resilience.Run(context.Background(), b, nothing); !errors.Is(err, bulkhead.ErrFull) {
				t.Fatalf("the slot is free before the end: %v", err)
			}
		}
		op.Finish(nil)
		op.Finish(nil)
		if s := b.Stats(); s.InFlight != 0 {
			t.Errorf("stats %+v", s)
		}
		free := false
		_ = resilience.Run(context.Background(), b, func(context.Context) error {
			free = true
			if err := resilience.Run(context.Background(), b, nothing); !errors.Is(err, bulkhead.ErrFull) {
				t.Error("ending twice freed two slots")
			}
			return nil
		})
		if !free {
			t.Error("the slot is lost")
		}
	}
}

// A panic or Goexit releases the slot.
func TestBulkhead_unwinds(t *testing.T) {
	for name, how := range testkit.Aborts("boom") {
		for _, slots := range []int{1, 0} {
			t.Run(fmt.Sprint(name, slots), func(t *testing.T) {
				b := newBulkhead(t, bulkhead.Config{Slots: slots, MaxQueue: bulkhead.NoQueue})
				for range 30 {
					e := testkit.Unwind(func() error {
						return resilience.Run(context.Background(), b, func(context.Context) error { how.Abort(); return nil })
					})
					if e != how {
						t.Errorf("ended with %+v", e)
					}
				}
				if s := b.Stats(); s.InFlight != 0 || s.Completed != 30 {
					t.Errorf("stats %+v", s)
				}
			})
		}
	}
}

// angry is an error whose Outcome method panics.
type angry struct{}

func (angry) Error() string               { return "angry" }
func (angry) Outcome() resilience.Outcome { panic("outcome") }

// A panic in a method of the error releases the slot.
func TestBulkhead_errorPanics(t *testing.T) {
	b := newBulkhead(t, bulkhead.Config{MaxQueue: bulkhead.NoQueue})
	func() {
		defer func() { _ = recover() }()
		_ = resilience.Run(context.Background(), b, func(context.Context) error { return angry{} })
	}()
	if s := b.Stats(); s.InFlight != 0 {
		t.Errorf("stats %+v", s)
	}
}

// The observer is called with each rejection, and its panics are dropped.
func TestBulkhead_events(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var seen []string
		o := testkit.Observer(func(e resilience.Event) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, fmt.Sprint(e.Kind, " ", e.Policy, " ", e.Name, " ", e.Reason))
			panic("dropped")
		})
		b := newBulkhead(t, bulkhead.Config{Name: "users", Slots: 1, MaxQueue: 1, Observer: o})
		free := occupy(b, 2)
		_ = resilience.Run(context.Background(), b, nothing)
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		want := []string{"bulkhead rejected a call bulkhead users queue is full", "bulkhead rejected a call bulkhead users waited too long"}
		if !slices.Equal(seen, want) {
			t.Errorf("observed %q", seen)
		}
		free()
	})
}

// Forks have their own slots and share the counters.
func TestBulkhead_Fork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{Slots: 2, MaxQueue: 1, MaxWait: time.Hour})
		f1, f2 := b.Fork("").(*bulkhead.Bulkhead), b.Fork("").(*bulkhead.Bulkhead)
		free1, free2, free := occupy(f1, 3), occupy(f2, 1), occupy(b, 1)
		_ = resilience.Run(context.Background(), f1, nothing)
		if s := b.Stats(); s != (bulkhead.Stats{Counters: bulkhead.Counters{QueueFull: 1}, Gauges: bulkhead.Gauges{InFlight: 1, Slots: 2}}) {
			t.Errorf("root %+v", s)
		}
		if s := f1.Stats(); s.InFlight != 2 || s.Queued != 1 || f1.Idle() {
			t.Errorf("fork %+v", s)
		}
		free1()
		free1()
		free1()
		free2()
		free()
		if s := b.Stats(); s != (bulkhead.Stats{Counters: bulkhead.Counters{Completed: 5, QueueFull: 1}, Gauges: bulkhead.Gauges{Slots: 2}}) || !f1.Idle() || !b.Idle() {
			t.Errorf("at rest %+v", s)
		}
	})
}

// A call that finds a free slot allocates nothing.
func TestBulkhead_allocs(t *testing.T) {
	for _, slots := range []int{0, 10} {
		b := newBulkhead(t, bulkhead.Config{Slots: slots})
		if n := testing.AllocsPerRun(100, func() { _ = resilience.Run(context.Background(), b, nothing) }); n != 0 {
			t.Errorf("%d slots: %v allocations", slots, n)
		}
	}
}
