package breaker_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

// TestForcedOpen_resumes: ForcedOpen admits no probe, and the state under it resumes.
func TestForcedOpen_resumes(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(*rig)
		want   breaker.State
	}{
		"CLOSED":         {func(*rig) {}, breaker.Closed},
		"OPEN":           {func(r *rig) { r.trip() }, breaker.Open},
		"open time over": {func(r *rig) { r.trip(); r.clock.add(time.Second) }, breaker.HalfOpen},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, quick)
			tt.before(r)
			r.SetMode(breaker.ForcedOpen)
			for range 10 {
				r.want(breaker.Open)
				if err := r.run(nil); !errors.Is(err, breaker.ErrOpen) {
					t.Fatalf("admitted: %v", err)
				}
				if name == "CLOSED" {
					r.clock.add(1000 * time.Hour)
				}
			}
			if s := r.Stats(); s.Mode != breaker.ForcedOpen || !s.RetryAt.IsZero() || s.Rejected < 10 {
				t.Errorf("%+v", s)
			}
			r.SetMode(breaker.Auto)
			r.want(tt.want)
			r.clock.add(time.Second)
			if err := r.run(nil); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			r.want(breaker.Closed)
			r.checkEvents()
		})
	}
}

// TestForcedOpen_rejection: a rejection has "forced open" in Detail.
func TestForcedOpen_rejection(t *testing.T) {
	r := newRig(t, quick)
	r.SetMode(breaker.ForcedOpen)
	var rejection *resilience.Rejection
	if err := r.run(nil); !errors.As(err, &rejection) || rejection.Detail != "forced open" || !rejection.RetryAt.IsZero() || rejection.Cause != nil {
		t.Errorf("rejected with %+v", rejection)
	}
	if e := r.seen[0]; e.Reason != breaker.CauseSetMode || e.Delay != 0 || e.Mode != "ForcedOpen" {
		t.Errorf("event %+v", e)
	}
}

// TestDisabled_admitsAll: Disabled admits every call and counts nothing for the rules.
func TestDisabled_admitsAll(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	r.SetMode(breaker.Disabled)
	for range 100 {
		if err := r.run(errDown); !errors.Is(err, errDown) {
			t.Fatalf("error %v", err)
		}
	}
	r.want(breaker.Closed)
	if s := r.Stats(); s.Failures != 102 || s.FailuresInARow != 0 {
		t.Errorf("%+v", s)
	}
	r.SetMode(breaker.Auto)
	r.want(breaker.Open)
	if got := r.events(); !slices.Equal(got, []string{"CLOSED>OPEN", "OPEN>CLOSED", "CLOSED>OPEN"}) {
		t.Errorf("events %v", got)
	}
}

// TestMetricsOnly_wouldReject: MetricsOnly decides as Auto does and counts the calls it
// would reject.
func TestMetricsOnly_wouldReject(t *testing.T) {
	auto, shadow := newRig(t, quick), newRig(t, quick)
	shadow.SetMode(breaker.MetricsOnly)
	ran := 0
	for i := range 1000 {
		err := errDown
		if i/100%2 == 0 || i%7 == 0 {
			err = nil
		}
		_ = auto.run(err)
		if got := shadow.runFunc(func() error { ran++; return err }); got != err {
			t.Fatalf("call %d: %v", i, got)
		}
		auto.clock.add(30 * time.Millisecond)
		shadow.clock.add(30 * time.Millisecond)
		if auto.State() != shadow.State() {
			t.Fatalf("call %d: %v, in MetricsOnly %v", i, auto.State(), shadow.State())
		}
	}
	a, s := auto.Stats(), shadow.Stats()
	if ran != 1000 || a.Rejected == 0 || s.WouldReject != a.Rejected || s.Rejected != 0 || s.Opened != a.Opened {
		t.Errorf("%d calls ran; Auto %+v, MetricsOnly %+v", ran, a, s)
	}
	if s.Successes+s.Failures != 1000 {
		t.Errorf("the outcomes are not the calls: %+v", s)
	}
	if !slices.Equal(auto.events(), shadow.events()) {
		t.Error("the events differ")
	}
}

// TestMetricsOnly_keepsState: a switch to MetricsOnly keeps the state.
func TestMetricsOnly_keepsState(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	at := r.Stats().RetryAt
	r.SetMode(breaker.MetricsOnly)
	r.want(breaker.Open)
	if err := r.run(nil); err != nil {
		t.Errorf("rejected: %v", err)
	}
	r.SetMode(breaker.Auto)
	if err := r.run(nil); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("admitted: %v", err)
	}
	if s := r.Stats(); s.RetryAt != at || s.WouldReject != 1 {
		t.Errorf("%+v, want to retry at %v", s, at)
	}
	if n := len(r.events()); n != 1 {
		t.Errorf("%d events, want one, of the trip", n)
	}
}

// TestSetMode_staleResults: results from before a change of mode change nothing.
func TestSetMode_staleResults(t *testing.T) {
	r := newRig(t, quick)
	a, b := r.start(t.Context()), r.start(t.Context())
	r.SetMode(breaker.ForcedOpen)
	r.SetMode(breaker.Auto)
	_, _ = a.finish(errDown), b.finish(errDown)
	r.want(breaker.Closed)
}

// TestSetMode_keepsCredit: HALF_OPEN resumes with its credit.
func TestSetMode_keepsCredit(t *testing.T) {
	c := quick
	c.CloseAfter = 3
	r := newRig(t, c)
	r.trip()
	r.clock.add(time.Second)
	_ = r.run(nil)
	r.SetMode(breaker.ForcedOpen)
	r.SetMode(breaker.Auto)
	r.want(breaker.HalfOpen)
	if s := r.Stats(); s.Credit != 2 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
	_, _ = r.run(nil), r.run(nil)
	r.want(breaker.Closed)
}

// TestReset_closes: Reset closes and keeps the counters and the mode.
func TestReset_closes(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	before := r.Stats()
	r.Reset()
	r.want(breaker.Closed)
	if after := r.Stats(); after.Failures != before.Failures || after.Opened != 1 || after.FailuresInARow != 0 {
		t.Errorf("%+v, before %+v", after, before)
	}
	if e := r.seen[1]; e.Reason != "Reset" || e.To != "CLOSED" {
		t.Errorf("event %+v", e)
	}

	r.trip()
	r.SetMode(breaker.ForcedOpen)
	r.Reset()
	r.want(breaker.Open)
	r.SetMode(breaker.Auto)
	r.want(breaker.Closed)
	r.checkEvents()
}

// TestReset_forgetsFailures: Reset forgets failures.
func TestReset_forgetsFailures(t *testing.T) {
	r := with(t, breaker.Consecutive{Failures: 2}, breaker.Rate{Failures: 2, Of: 4})
	_ = r.run(errDown)
	r.Reset()
	_ = r.run(errDown)
	r.want(breaker.Closed)
	if len(r.seen) != 0 {
		t.Errorf("a breaker that was always closed has the events %v", r.events())
	}
}

// TestSetMode_unknown: an unknown mode is Auto.
func TestSetMode_unknown(t *testing.T) {
	r := newRig(t, quick)
	r.SetMode(breaker.Disabled)
	r.SetMode(200)
	if m := r.Mode(); m != breaker.Auto {
		t.Errorf("mode %v", m)
	}
}

// TestFork_mode: forks start in the mode of their origin, and a fork in another mode is
// not idle.
func TestFork_mode(t *testing.T) {
	r := newRig(t, quick)
	r.SetMode(breaker.ForcedOpen)
	f := r.Fork("").(*breaker.Breaker)
	if f.Mode() != breaker.ForcedOpen || !f.Idle() {
		t.Errorf("mode %v, idle %v", f.Mode(), f.Idle())
	}
	f.SetMode(breaker.Auto)
	if f.Idle() {
		t.Error("a fork with a mode of its own would be dropped")
	}
	if err := resilience.Run(t.Context(), f, func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestReset_keepsNoMemory: millions of Resets keep no memory.
func TestReset_keepsNoMemory(t *testing.T) {
	r := newRig(t, quick)
	if n := testing.AllocsPerRun(1000, r.Reset); n > 2 {
		t.Errorf("%v allocations, want an episode and what goes with it", n)
	}
	r.trip()
	if n := len(r.events()); n != 1 {
		t.Errorf("%d events", n)
	}
}

// TestForcedOpen_clockSetBack: a clock set back in ForcedOpen does not lengthen the
// OPEN under it.
func TestForcedOpen_clockSetBack(t *testing.T) {
	for _, m := range []breaker.Mode{breaker.ForcedOpen, breaker.Disabled} {
		r := newRig(t, quick)
		r.clock.add(time.Hour)
		r.trip()
		r.SetMode(m)
		r.clock.add(-time.Hour)
		r.SetMode(breaker.Auto)
		r.want(breaker.HalfOpen)
	}
}

// TestSetMode_clockSetBack: a clock set back ends OPEN in every mode.
func TestSetMode_clockSetBack(t *testing.T) {
	r := newRig(t, quick)
	r.clock.add(time.Hour)
	r.trip()
	r.clock.add(-time.Hour)
	r.want(breaker.HalfOpen)
	r.SetMode(breaker.MetricsOnly)
	r.want(breaker.HalfOpen)
}

// TestSetMode_keepsNoMemory: changes of mode keep no memory.
func TestSetMode_keepsNoMemory(t *testing.T) {
	r := newRig(t, breaker.Config{Observer: observerFunc(func(context.Context, resilience.Event) {})})
	r.trip()
	r.SetMode(breaker.ForcedOpen)
	before := heap()
	for range 10000 {
		r.SetMode(breaker.Disabled)
		r.SetMode(breaker.ForcedOpen)
	}
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("%d bytes more after 20000 changes", grown)
	}
	runtime.KeepAlive(r)
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // a sync.Pool keeps for one more what it had
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestForcedOpen_openTimeAfter: the open time after ForcedOpen follows the silence
// under it.
func TestForcedOpen_openTimeAfter(t *testing.T) {
	for name, tt := range map[string]struct {
		failures int
		span     time.Duration
		later    time.Duration
		want     time.Duration
	}{
		"its length":                   {7, time.Second, 15 * time.Second, 500 * time.Millisecond},
		"the rate of its failures":     {100, time.Second, time.Hour, 320 * time.Millisecond},
		"the longest time that can be": {7, 10 * time.Second, time.Hour, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, breaker.Config{Trip: []breaker.Rule{breaker.Silence{Failures: tt.failures, Span: tt.span}}})
			r.clock.add(time.Hour)
			r.silence(tt.failures, tt.span)
			r.SetMode(breaker.ForcedOpen)
			r.clock.add(tt.later)
			r.SetMode(breaker.Auto)
			_ = r.run(errDown)
			within(t, "open time", r.openTime(), tt.want)
		})
	}
}

// TestSetMode_eventWithoutDelay: the event of an OPEN that is over has no delay.
func TestSetMode_eventWithoutDelay(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	r.SetMode(breaker.Disabled)
	r.clock.add(time.Hour)
	r.SetMode(breaker.Auto)
	if e := r.seen[2]; e.To != "OPEN" || e.Delay != 0 {
		t.Errorf("event %+v", e)
	}
}
