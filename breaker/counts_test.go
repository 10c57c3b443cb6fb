package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/keyed"
)

// wantOpen checks the time in OPEN, before the present state and in it.
func wantOpen(t *testing.T, b *breaker.Breaker, before, now time.Duration) {
	t.Helper()
	if s := b.Stats(); s.OpenTime != before || s.OpenNow != now {
		t.Fatalf("open for %v and now %v, want %v and %v", s.OpenTime, s.OpenNow, before, now)
	}
}

func TestTheTimeInOpenIsExact(t *testing.T) {
	const ms = time.Millisecond
	r := newRig(t, quick)
	r.clock.add(time.Hour)
	wantOpen(t, r.Breaker, 0, 0)
	r.trip()
	wantOpen(t, r.Breaker, 0, 0)
	r.clock.add(400 * ms)
	wantOpen(t, r.Breaker, 0, 400*ms)
	r.clock.add(time.Hour) // over after a second, and nobody calls
	wantOpen(t, r.Breaker, 0, time.Second)
	wantOpen(t, r.Breaker, 0, time.Second)
	p := r.permit()
	wantOpen(t, r.Breaker, time.Second, 0)
	r.clock.add(time.Second) // HALF_OPEN is not OPEN
	p.Done(errDown)
	wantOpen(t, r.Breaker, time.Second, 0)
	r.clock.add(300 * ms)
	r.SetMode(breaker.MetricsOnly) // and OPEN goes on
	wantOpen(t, r.Breaker, 1300*ms, 0)
	r.clock.add(200 * ms)
	wantOpen(t, r.Breaker, 1300*ms, 200*ms)
	r.Reset()
	wantOpen(t, r.Breaker, 1500*ms, 0)
	r.clock.add(time.Hour)
	r.SetMode(breaker.Disabled)
	wantOpen(t, r.Breaker, 1500*ms, 0)
}

func TestForcedOpenIsTimeInOpenHoweverLong(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	r.clock.add(500 * time.Millisecond)
	r.SetMode(breaker.ForcedOpen)
	wantOpen(t, r.Breaker, 500*time.Millisecond, 0)
	r.clock.add(1000 * time.Hour)
	wantOpen(t, r.Breaker, 500*time.Millisecond, 1000*time.Hour)
	r.Reset() // of what is underneath
	wantOpen(t, r.Breaker, 500*time.Millisecond+1000*time.Hour, 0)
	r.clock.add(time.Hour)
	r.SetMode(breaker.Auto)
	wantOpen(t, r.Breaker, 500*time.Millisecond+1001*time.Hour, 0)
}

func TestWhatWasUnderneathIsNotOpenMeanwhile(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	r.clock.add(100 * time.Millisecond)
	r.SetMode(breaker.Disabled)
	r.clock.add(200 * time.Millisecond)
	wantOpen(t, r.Breaker, 100*time.Millisecond, 0)
	r.SetMode(breaker.Auto)
	r.clock.add(time.Hour)
	wantOpen(t, r.Breaker, 100*time.Millisecond, 700*time.Millisecond)
}

func TestAClockSetBackTakesNoTimeInOpenBack(t *testing.T) {
	r := newRig(t, quick)
	r.clock.add(time.Hour)
	r.trip()
	r.clock.add(-time.Minute)
	wantOpen(t, r.Breaker, 0, 0)
	if !r.Idle() { // the time is over
		t.Error("not idle")
	}
	r.clock.add(time.Minute + 600*time.Millisecond) // and goes on
	wantOpen(t, r.Breaker, 0, 600*time.Millisecond)
	r.clock.add(-time.Minute)
	r.Reset()
	wantOpen(t, r.Breaker, 0, 0)
}

func TestIdleMovesTheTimeInOpenAndAddsNone(t *testing.T) {
	for name, mode := range map[string]breaker.Mode{"open time over": breaker.Auto, "forced open": breaker.ForcedOpen} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, quick)
			r.trip()
			if r.Idle() {
				t.Error("idle while it is open")
			}
			wantOpen(t, r.Breaker, 0, 0)
			r.SetMode(mode)
			r.clock.add(time.Second)
			wantOpen(t, r.Breaker, 0, time.Second)
			for range 2 {
				if !r.Idle() {
					t.Error("not idle")
				}
				wantOpen(t, r.Breaker, time.Second, 0)
			}
			r.clock.add(time.Second)
			all := time.Second
			if mode == breaker.ForcedOpen { // it lasts
				wantOpen(t, r.Breaker, time.Second, time.Second)
				all += time.Second
			}
			r.Reset()
			r.SetMode(breaker.Auto)
			wantOpen(t, r.Breaker, all, 0)
		})
	}
}

func TestEvictedKeysLeaveTheirTimeInOpenToTheTemplate(t *testing.T) {
	for name, mode := range map[string]breaker.Mode{"open time over": breaker.Auto, "forced open": breaker.ForcedOpen} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, quick)
			r.forked = true
			r.SetMode(mode)
			g := resilience.Must(keyed.New(r.Breaker, keyed.Config{Max: 8}))
			for i := range 100 {
				before := r.openOf(g)
				for range 2 {
					_ = resilience.Run(t.Context(), g.For(fmt.Sprint(i)), func(context.Context) error { return errDown })
				}
				if now := r.openOf(g); now != before {
					t.Fatalf("key %d: open for %v, at the same instant %v before", i, now, before)
				}
				r.clock.add(time.Second)
				more := time.Second // of the new key
				if mode == breaker.ForcedOpen {
					more *= time.Duration(g.Stats().Keys + 1) // of each, and of the template
				}
				if now := r.openOf(g); now != before+more {
					t.Fatalf("key %d: open for %v, want %v more than %v", i, now, more, before)
				}
			}
			if s := g.Stats(); s.Evicted < 50 {
				t.Fatalf("%+v", s)
			}
		})
	}
}

// openOf adds up the time in OPEN of a group with r as its template, as Stats says how.
func (r *rig) openOf(g *keyed.Group) time.Duration {
	s := r.Stats()
	sum := s.OpenTime + s.OpenNow
	for _, p := range g.All() {
		sum += p.(*breaker.Breaker).Stats().OpenNow
	}
	return sum
}

// Eight goroutines find at once that the time of some forks is over, while others read.
// The clock stands still meanwhile, so that the true time in OPEN is known: what is read
// is never more. It may be less, but not at rest; and OpenTime never falls.
func TestNoTimeInOpenIsCountedTwiceWhileItMoves(t *testing.T) {
	r := newRig(t, quick)
	forks := []*breaker.Breaker{r.Breaker}
	for range 3 {
		forks = append(forks, r.Fork().(*breaker.Breaker))
	}
	fail := func(b *breaker.Breaker) {
		_ = resilience.Run(t.Context(), b, func(context.Context) error { return errDown })
	}
	read := func() (before, all time.Duration) {
		before = r.Stats().OpenTime
		all = before
		for _, b := range forks {
			all += b.Stats().OpenNow
		}
		return before, all
	}
	for _, b := range forks {
		fail(b)
		fail(b)
	}
	for round := range 2000 {
		r.clock.add(time.Second)
		truth := time.Duration(round+1) * 4 * time.Second
		testkit.AtOnce(10, func(i int) {
			if i < 8 {
				b := forks[(i+round)%4]
				_ = b.Idle()
				fail(b) // is the probe, or rejected
				return
			}
			last := time.Duration(0)
			for range 20 {
				before, all := read()
				if before < last || all > truth {
					t.Errorf("round %d: open for %v after %v, %v with what lasts, want %v at most", round, before, last, all, truth)
				}
				last = before
			}
		})
		if before, all := read(); before != truth || all != truth {
			t.Fatalf("round %d: open for %v, %v with what lasts, want %v", round, before, all, truth)
		}
		if t.Failed() {
			return
		}
	}
}

func TestOfManyGoroutinesThatOpenItTheTimeIsThatOfTheEvents(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: quick.Trip, OpenFor: 10 * time.Microsecond, CloseAfter: 2})
	testkit.AtOnce(8, func(i int) {
		for n := range 2000 {
			var err error
			if (n/7+i)%3 == 0 {
				err = errDown
			}
			_ = r.run(err)
			r.clock.add(time.Microsecond)
		}
	})
	r.clock.add(time.Hour)
	var want time.Duration
	for i, e := range r.seen {
		if e.To != "OPEN" {
			continue
		}
		length := e.Delay
		if i+1 < len(r.seen) { // the probe may have read the clock before it was set on
			length = min(length, r.seen[i+1].Time.Sub(e.Time))
		}
		want += length
	}
	if s := r.Stats(); s.OpenTime+s.OpenNow != want || s.Opened < 10 {
		t.Errorf("open for %v and %v, want %v of %d times", s.OpenTime, s.OpenNow, want, s.Opened)
	}
}

func TestProbesAreCountedByWhatTheyMeant(t *testing.T) {
	full := resilience.Must(bulkhead.New(bulkhead.Config{Limit: 1, MaxQueue: -1}))
	type probes [4]uint64 // succeeded, failed, ignored, leaked
	for name, tt := range map[string]struct {
		probe func(*rig)
		want  probes
	}{
		"success":  {func(r *rig) { _ = r.run(nil) }, probes{1, 0, 0, 0}},
		"failure":  {func(r *rig) { _ = r.run(errDown) }, probes{0, 1, 0, 0}},
		"panic":    {func(r *rig) { _ = testkit.Unwind(func() error { return r.runFunc(func() error { panic(1) }) }) }, probes{0, 1, 0, 0}},
		"canceled": {func(r *rig) { r.cancelProbe() }, probes{0, 0, 1, 0}},
		"slow": {func(r *rig) {
			_ = r.runFunc(func() error { r.clock.add(2 * time.Second); return nil })
		}, probes{0, 1, 0, 0}},
		"rejected by a bulkhead inside": {func(r *rig) {
			_ = resilience.Run(r.t.Context(), full, func(ctx context.Context) error {
				err := resilience.Run(ctx, resilience.Compose(r.Breaker, full), func(context.Context) error { return nil })
				if !errors.Is(err, bulkhead.ErrFull) {
					r.t.Errorf("the bulkhead has room: %v", err)
				}
				return nil
			})
		}, probes{0, 0, 1, 0}},
		"late": {func(r *rig) {
			p := r.permit()
			r.clock.add(15 * time.Second)
			p.Done(nil)
		}, probes{0, 0, 0, 1}},
		"late, its place taken": {func(r *rig) {
			p := r.permit()
			r.clock.add(15 * time.Second)
			r.permit().Done(nil)
			p.Done(errDown)
		}, probes{1, 0, 0, 1}},
		"twice":                 {func(r *rig) { p := r.permit(); p.Done(nil); p.Done(errDown) }, probes{1, 0, 0, 0}},
		"after a reset":         {func(r *rig) { p := r.permit(); r.Reset(); p.Done(nil) }, probes{}},
		"after a change":        {func(r *rig) { p := r.permit(); r.SetMode(breaker.MetricsOnly); p.Done(nil) }, probes{}},
		"rejected here":         {func(r *rig) { p := r.permit(); _ = r.run(nil); p.Done(nil) }, probes{1, 0, 0, 0}},
		"MetricsOnly, no place": {func(r *rig) { r.SetMode(breaker.MetricsOnly); p := r.permit(); _ = r.run(errDown); p.Done(nil) }, probes{1, 0, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, breaker.Config{
				Trip: []breaker.Rule{breaker.Consecutive(2), breaker.SlowRate(100, time.Second, 100, time.Minute)}, OpenFor: time.Second,
			})
			r.trip()
			r.clock.add(time.Second)
			tt.probe(r)
			s := r.Stats()
			if got := (probes{s.ProbesSucceeded, s.ProbesFailed, s.ProbesIgnored, s.Leaked}); got != tt.want {
				t.Errorf("succeeded, failed, ignored, leaked: %v, want %v", got, tt.want)
			}
		})
	}
}

func (r *rig) cancelProbe() {
	ctx, cancel := context.WithCancel(r.t.Context())
	_ = resilience.Run(ctx, r.Breaker, func(context.Context) error { cancel(); return ctx.Err() })
}

func TestTheTransitionsThatThereCanBeAreThereFromTheStart(t *testing.T) {
	r := newRig(t, breaker.Config{
		Trip: []breaker.Rule{breaker.Consecutive(2), breaker.FailureRate(50, 100), breaker.Silence(2, 0), breaker.Consecutive(2)}, OpenFor: time.Second,
	})
	first := r.Transitions()
	rules := 0
	for _, c := range first {
		if c.Count != 0 {
			t.Errorf("at the start %+v", c)
		}
		if c.From == breaker.Closed && c.To == breaker.Open && c.Rule != "SetMode" {
			rules++
		}
		if c.From == c.To {
			t.Errorf("%+v is none", c)
		}
	}
	if rules != 2 {
		t.Errorf("%d rules open it, want 2: some are alike, in %+v", rules, first)
	}
	for range 3 {
		r.trip()
		r.Reset()
	}
	for i, c := range r.Transitions() {
		n := uint64(0)
		if c.Rule == "Consecutive(2)" || c.Rule == "Reset()" && c.From == breaker.Open {
			n = 3
		}
		if c.Count != n {
			t.Errorf("%+v, want %d", c, n)
		}
		if c.Count = 0; c != first[i] {
			t.Errorf("place %d is that of %+v, was that of %+v", i, c, first[i])
		}
	}
}

func TestEachTransitionThatThereCanBeIsCounted(t *testing.T) {
	r := newRig(t, quick)
	halfOpen := func() { r.trip(); r.clock.add(time.Second); _ = r.permit() }
	for _, m := range []breaker.Mode{breaker.ForcedOpen, breaker.Disabled} {
		for _, enter := range []func(){func() {}, func() { r.trip() }, halfOpen} {
			r.SetMode(breaker.Auto)
			r.Reset()
			enter()
			r.SetMode(m)
			r.SetMode(breaker.Auto)
		}
	}
	r.Reset()
	halfOpen()
	r.Reset()
	r.flap(errDown)
	r.trip()
	r.clock.add(time.Second)
	_ = r.run(errDown)
	for _, c := range r.Transitions() {
		if c.Count == 0 {
			t.Errorf("%+v was not counted", c)
		}
	}
}

// Transitions and Stats read what others count.
func TestCountsAreReadWhileTheyGrow(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: quick.Trip, OpenFor: time.Microsecond, CloseAfter: 1})
	done := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		last := r.Transitions()
		for {
			now := r.Transitions()
			if i := slices.IndexFunc(now, func(c breaker.TransitionCount) bool {
				return c.Count < last[slices.IndexFunc(last, func(l breaker.TransitionCount) bool {
					return l.From == c.From && l.To == c.To && l.Rule == c.Rule
				})].Count
			}); i >= 0 {
				t.Errorf("%+v has fallen", now[i])
			}
			if h := r.Explain().History; len(h) > 16 {
				t.Errorf("%d transitions are remembered", len(h))
			}
			last = now
			select {
			case <-done:
				return
			default:
			}
		}
	})
	testkit.AtOnce(8, func(i int) {
		for n := range 1000 {
			_ = r.run([]error{errDown, errDown, nil}[(n+i)%3])
			r.clock.add(time.Microsecond)
		}
	})
	close(done)
	reader.Wait()
}
