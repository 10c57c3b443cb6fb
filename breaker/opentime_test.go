package breaker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/keyed"
)

// wantOpen checks the time in OPEN, before the present state and in it.
func wantOpen(t *testing.T, b *breaker.Breaker, before, now time.Duration) {
	t.Helper()
	if s, p := b.Stats(), b.PresentOpen(); s.OpenTime != before+now || p != now {
		t.Fatalf("open for %v, the present OPEN for %v, want %v and %v", s.OpenTime, p, before+now, now)
	}
}

// TestOpenTime_exact: OpenTime is exact, up to now.
func TestOpenTime_exact(t *testing.T) {
	const ms = time.Millisecond
	r := newRig(t, quick)
	r.clock.add(time.Hour)
	wantOpen(t, r.Breaker, 0, 0)
	r.trip()
	wantOpen(t, r.Breaker, 0, 0)
	r.clock.add(400 * ms)
	wantOpen(t, r.Breaker, 0, 400*ms)
	r.clock.add(time.Hour) // over after a second, and no call is made
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

// TestOpenTime_forcedOpen: ForcedOpen is time in OPEN, however long.
func TestOpenTime_forcedOpen(t *testing.T) {
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

// TestOpenTime_disabled: an OPEN under Disabled is not time in OPEN.
func TestOpenTime_disabled(t *testing.T) {
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

// TestOpenTime_clockSetBack: a clock that is set back subtracts no time in OPEN.
func TestOpenTime_clockSetBack(t *testing.T) {
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

// TestRetire_movesOpenTime: Retire moves the time in OPEN and adds none; Idle writes
// nothing.
func TestRetire_movesOpenTime(t *testing.T) {
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
				r.Retire()
				wantOpen(t, r.Breaker, time.Second, 0)
			}
			r.clock.add(time.Second)
			all := time.Second
			if mode == breaker.ForcedOpen { // it lasts
				wantOpen(t, r.Breaker, time.Second, time.Second)
				r.Retire()
				wantOpen(t, r.Breaker, 2*time.Second, 0)
				all += time.Second
			}
			r.Reset()
			r.SetMode(breaker.Auto)
			wantOpen(t, r.Breaker, all, 0)
		})
	}
}

// TestRetire_evictedKeys: evicted keys leave their time in OPEN to the template.
func TestRetire_evictedKeys(t *testing.T) {
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

// openOf returns the time in OPEN of a group with r as its template.
func (r *rig) openOf(g *keyed.Group) time.Duration {
	sum := r.Stats().OpenTime
	for _, p := range g.All() {
		sum += p.(*breaker.Breaker).PresentOpen()
	}
	return sum
}

// TestRetire_clockSetBack: time that Retire has moved is not subtracted when the clock
// is set back.
func TestRetire_clockSetBack(t *testing.T) {
	r := newRig(t, quick)
	r.SetMode(breaker.ForcedOpen)
	r.clock.add(time.Minute)
	r.Retire()
	r.clock.add(-time.Second)
	wantOpen(t, r.Breaker, time.Minute, 0)
	r.SetMode(breaker.Auto)
	wantOpen(t, r.Breaker, time.Minute, 0)
}

// TestRetire_concurrent: Retire by several goroutines at once moves the time once.
func TestRetire_concurrent(t *testing.T) {
	r := newRig(t, quick)
	r.SetMode(breaker.ForcedOpen)
	for round := range 20_000 {
		r.clock.add(time.Second)
		truth := time.Duration(round+1) * time.Second
		testkit.AtOnce(3, func(i int) {
			if i < 2 {
				r.Retire()
			} else if s := r.Stats(); s.OpenTime > truth {
				t.Errorf("round %d: open for %v, want %v at most", round, s.OpenTime, truth)
			}
		})
		if wantOpen(t, r.Breaker, truth, 0); t.Failed() {
			return
		}
	}
}

// TestCounters_firstOutageOfForks: forks that open for the first time at once are all
// counted.
func TestCounters_firstOutageOfForks(t *testing.T) {
	for round := range 2000 {
		r := newRig(t, quick)
		var forks [4]*breaker.Breaker
		for i := range forks {
			forks[i] = r.Fork("").(*breaker.Breaker)
		}
		testkit.AtOnce(len(forks), func(i int) { forks[i].SetMode(breaker.ForcedOpen) })
		if s := r.Stats(); s.Opened != uint64(len(forks)) {
			t.Fatalf("round %d: %d have opened, want %d", round, s.Opened, len(forks))
		}
	}
}

// TestOpenTime_neverCountedTwice: no time in OPEN is counted twice while it is moved.
//
// Eight goroutines retire and probe forks whose open time is over, while others read. The
// clock stands still, so that the true time is known. A reader never sees more. It may
// see less, except at rest. The shared time never falls.
func TestOpenTime_neverCountedTwice(t *testing.T) {
	r := newRig(t, quick)
	var forks []*breaker.Breaker
	for range 4 {
		forks = append(forks, r.Fork("").(*breaker.Breaker))
	}
	fail := func(b *breaker.Breaker) {
		_ = resilience.Run(t.Context(), b, func(context.Context) error { return errDown })
	}
	read := func() (before, all time.Duration) {
		before = r.Stats().OpenTime
		all = before
		for _, b := range forks {
			all += b.PresentOpen()
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
				b.Retire()
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

// TestOpenTime_agreesWithEvents: with many goroutines OpenTime agrees with the events.
func TestOpenTime_agreesWithEvents(t *testing.T) {
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
	if s := r.Stats(); s.OpenTime != want || s.Opened < 10 {
		t.Errorf("open for %v, want %v of %d times", s.OpenTime, want, s.Opened)
	}
}
