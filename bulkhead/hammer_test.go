package bulkhead_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/testkit"
)

// An evil error has methods that panic, or call back into the bulkhead.
type evil struct {
	b       *bulkhead.Bulkhead
	timeout func() bool
}

func (e evil) Error() string { e.look(); panic("error") }
func (e evil) Timeout() bool { e.look(); return e.timeout() }

func (e evil) look() {
	e.b.Stats()
	e.b.Report(true)
	_ = e.b.String()
}

// endings are the ways in which the operations of a hammer end.
func endings(b *bulkhead.Bulkhead) []func() error {
	return []func() error{
		func() error { return nil },
		func() error { return nil },
		func() error { return timeout{} },
		func() error { return errWork },
		func() error { return resilience.Ignore(errWork) },
		func() error { return angry{} },
		func() error { return evil{b, func() bool { return true }} },
		func() error { return evil{b, func() bool { panic("timeout") }} },
		func() error { panic("operation") },
		func() error { runtime.Goexit(); return nil },
	}
}

// checkSlots acquires slots of b until there is none, while a timeout is evidence: as many as
// Stats says. No call is in flight. The end of a congestion may add slots.
func checkSlots(t *testing.T, b *bulkhead.Bulkhead) {
	t.Helper()
	for range min(b.Stats().Completed, 16_000) { // more than three times as many as have answered
		if timeOut(t, b); strings.Contains(b.Report(true).Why, "of the last") {
			break
		}
	}
	before := b.Stats()
	if before.InFlight != 0 || before.Queued != 0 || !b.Idle() {
		t.Fatalf("at rest: %+v", before)
	}
	var held []*bulkhead.Permit
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		p, err := b.Acquire(ctx)
		cancel()
		if err != nil {
			break
		}
		held = append(held, p)
	}
	s := b.Stats()
	if s.InFlight != len(held) || s.InFlight != s.Slots || s.Slots != before.Slots && !before.Congested {
		t.Errorf("%d permits: %+v, and before %+v", len(held), s, before)
	}
	for _, p := range held {
		p.Cancel()
	}
}

// hammer makes calls on many goroutines that end in all ways. It fails if more of them are in
// flight than most.
func hammer(t *testing.T, b *bulkhead.Bulkhead, goroutines, rounds, most int, ends []func() error) {
	t.Helper()
	var in atomic.Int64
	testkit.AtOnce(goroutines, func(g int) {
		for r := range rounds {
			end := ends[(g*7+r)%len(ends)]
			ctx, cancel := context.WithCancel(context.Background())
			work := func(context.Context) error {
				if n := in.Add(1); n > int64(most) {
					t.Errorf("%d in flight", n)
				}
				defer in.Add(-1)
				if r%3 == 0 {
					runtime.Gosched()
				}
				return end()
			}
			testkit.Unwind(func() error {
				switch r % 4 {
				case 0:
					op := &testkit.Lasting{Func: work}
					defer op.Finish(nil)
					return resilience.RunOperation(ctx, b, op)
				case 1:
					p, err := b.Acquire(ctx)
					if err != nil {
						return err
					}
					if g%2 == 0 {
						defer p.Cancel()
					}
					err = resilience.ErrAborted
					defer func() { p.Release(err) }()
					err = work(ctx)
					return nil
				case 2:
					if g%8 == 0 {
						go cancel()
					}
					fallthrough
				default:
					return resilience.Run(ctx, b, work)
				}
			})
			cancel()
		}
	})
	if n := in.Load(); n != 0 {
		t.Errorf("%d in flight at the end", n)
	}
}

// However calls end, on however many goroutines, no slot is lost or doubled.
func TestBulkhead_hammer(t *testing.T) {
	for _, queue := range []int{0, 3, bulkhead.NoQueue} {
		b := newBulkhead(t, bulkhead.Config{MaxQueue: queue, MaxWait: time.Millisecond})
		for range 4 {
			hammer(t, b, 64, 60, 64, endings(b))
			checkSlots(t, b)
		}
	}
}

// Never more calls are in flight than Config.Slots.
func TestBulkhead_hammer_slots(t *testing.T) {
	for _, slots := range []int{1, 7} {
		b := newBulkhead(t, bulkhead.Config{Slots: slots, MaxWait: time.Millisecond})
		hammer(t, b, 64, 100, slots, endings(b))
		checkSlots(t, b)
	}
}

// At each moment in which nothing changes, no more calls are in flight than there are slots,
// and Stats counts exactly them.
func TestBulkhead_hammer_still(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			b := newBulkhead(t, bulkhead.Config{})
			rng := rand.New(rand.NewPCG(seed, 11))
			ends := endings(b)
			if seed%2 == 0 {
				ends = append(ends[:2], ends[3:6]...) // without timeouts
			}
			var in atomic.Int64
			peak := 0
			for i := range 2000 {
				for range rng.IntN(8) + i%1000/900*8 { // an overload at the end of each thousand
					d, end := time.Duration(rng.IntN(300))*time.Millisecond, ends[rng.IntN(len(ends))]
					go testkit.Unwind(func() error {
						return resilience.Run(context.Background(), b, func(context.Context) error {
							in.Add(1)
							defer in.Add(-1)
							time.Sleep(d)
							return end()
						})
					})
				}
				time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
				synctest.Wait()
				s := b.Stats()
				if s.InFlight != int(in.Load()) || s.InFlight > s.Slots {
					t.Fatalf("%d in flight: %+v", in.Load(), s)
				}
				peak = max(peak, s.InFlight)
			}
			time.Sleep(time.Minute)
			checkSlots(t, b)
			if peak < []int{100, 24}[seed%2] {
				t.Errorf("at most %d in flight: little was compared", peak)
			}
		})
	}
}

// When traffic is healthy again, the number of slots returns to its minimum.
func TestBulkhead_hammer_recovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		for range 3 {
			hammer(t, b, 64, 60, 64, endings(b))
			burst(b, 500, takes(time.Second, timeout{}))
			for range 600 {
				time.Sleep(time.Second)
				if n := burst(b, 2, takes(time.Millisecond, nil)); n != 0 {
					t.Fatalf("%d rejected: %+v", n, b.Stats())
				}
			}
			if s := b.Stats(); s.Slots != 24 || s.Congested {
				t.Errorf("%+v", s)
			}
			checkSlots(t, b)
			time.Sleep(time.Minute)
		}
	})
}

// The sum of all outcomes is the number of calls.
func TestBulkhead_hammerCounts(t *testing.T) {
	b := newBulkhead(t, bulkhead.Config{MaxWait: time.Millisecond})
	hammer(t, b, 64, 50, 64, endings(b)[:1])
	timeOut(t, b)
	before := b.Stats()
	hammer(t, b, 64, 50, 64, endings(b))
	s := b.Stats()
	if n := s.Completed + s.QueueFull + s.WaitExpired + s.Canceled; before.Completed != 64*50+timeouts || n < before.Completed+64*44 || n > before.Completed+64*50 {
		t.Errorf("%+v, and before %+v", s, before)
	}
}

// Resizing under load loses no slot and adds none, with bursts and without.
func TestSizing_losesNoSlot(t *testing.T) {
	for _, evidence := range []bool{false, true, true} {
		b := newBulkhead(t, bulkhead.Config{MaxWait: time.Minute})
		calls := uint64(16 * 1000)
		if evidence {
			timeOut(t, b)
			calls += timeouts
		}
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for n := range 1000 {
					p, err := b.Acquire(context.Background())
					if err != nil {
						continue
					}
					if i%4 == 0 {
						runtime.Gosched()
					}
					if n%64 < 32 && i < 12 {
						err = errors.New("counts as 0")
					}
					p.Release(err)
				}
			})
		}
		wg.Wait()
		s := b.Stats()
		if s.InFlight != 0 || s.Queued != 0 || s.Completed+s.QueueFull != calls {
			t.Fatalf("stats %+v", s)
		}
		checkSlots(t, b)
	}
}

// No call sees more calls admitted while it runs than there are calls.
func TestSizing_averageOfFewCalls(t *testing.T) {
	const goroutines, rounds = 64, 50
	for range 5 {
		b := newBulkhead(t, bulkhead.Config{MaxWait: time.Millisecond})
		timeOut(t, b)
		var most atomic.Uint64
		testkit.AtOnce(goroutines, func(int) {
			for range rounds {
				_ = resilience.Run(context.Background(), b, func(context.Context) error { runtime.Gosched(); return nil })
				most.Store(max(most.Load(), uint64(b.Stats().Average)))
			}
		})
		if n := most.Load(); n > goroutines*rounds {
			t.Fatalf("an average of %d after at most %d calls", n, goroutines*rounds)
		}
	}
}

// A nosy clock calls back into the bulkhead, or panics.
type nosy struct {
	clock.Clock
	call func()
}

func (n *nosy) Now() time.Time                   { n.call(); return n.Clock.Now() }
func (n *nosy) Since(at time.Time) time.Duration { n.call(); return n.Clock.Since(at) }

// A Clock, an error and an Observer may call the methods of the bulkhead.
func TestConfig_Clock_callsBack(t *testing.T) {
	n := &nosy{clock.New(), func() {}}
	var b *bulkhead.Bulkhead
	b = newBulkhead(t, bulkhead.Config{Clock: n, MaxWait: time.Millisecond, Observer: testkit.Observer(func(resilience.Event) { b.Report(true) })})
	var within atomic.Int64
	n.call = func() {
		if within.Add(1) < 4 { // Report calls the Clock
			b.Stats()
			b.Report(true)
		}
		within.Add(-1)
	}
	hammer(t, b, 32, 40, 32, endings(b))
	n.call = func() {}
	checkSlots(t, b)
}

// A Clock that panics loses no slot.
func TestConfig_Clock_panics(t *testing.T) {
	n := &nosy{clock.New(), func() {}}
	b := newBulkhead(t, bulkhead.Config{Clock: n, MaxQueue: bulkhead.NoQueue})
	for reading := range 6 {
		for range 30 { // more than there are slots
			calls := 0
			n.call = func() {
				if calls++; calls == reading+1 {
					panic("clock")
				}
			}
			testkit.Unwind(func() error { return resilience.Run(t.Context(), b, nothing) })
			n.call = func() {}
		}
		if s := b.Stats(); s.InFlight != 0 {
			t.Fatalf("after panics of reading %d: %+v", reading, s)
		}
	}
	checkSlots(t, b)
}
