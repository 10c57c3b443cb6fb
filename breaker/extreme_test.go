package breaker_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/internal/testkit"
)

const days = 24 * time.Hour

// TestLease_farFuture: a lease holds after any uptime and with any ProbeTimeout.
func TestLease_farFuture(t *testing.T) {
	for _, timeout := range []time.Duration{0, -1, 300 * days, math.MaxInt64} {
		t.Run(timeout.String(), func(t *testing.T) {
			c := quick
			c.ProbeTimeout = timeout
			r := newRig(t, c)
			r.clock.add(2000 * days)
			r.trip()
			r.clock.add(time.Second)
			probe := r.start(context.Background())
			r.clock.add(10 * time.Second)
			for range 3 {
				if r.start(context.Background()) != nil {
					t.Fatal("a second probe")
				}
			}
			_ = probe.finish(nil)
			r.want(breaker.Closed)
		})
	}
}

// TestLease_earlierClock: a caller that read the clock before the probe does not end
// its lease.
//
// One caller reads the clock, another becomes the probe 2 ms later, and then the first
// caller continues.
func TestLease_earlierClock(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	r.clock.add(time.Second)
	ctx, cancel := context.WithCancel(context.Background())
	ignored := r.start(ctx)
	cancel()
	_ = ignored.finish(errDown) // HALF_OPEN, and its only slot is free
	var probe *held
	r.clock.afterRead = func() {
		r.clock.afterRead = nil
		r.clock.add(2 * time.Millisecond)
		probe = r.start(context.Background())
	}
	if r.start(context.Background()) != nil {
		t.Error("two probes at once")
	}
	if s := r.Stats(); s.InFlight != 1 || s.ProbesLate != 0 {
		t.Errorf("stats %+v", s)
	}
	_ = probe.finish(nil)
}

// TestClassify_unknownOutcome: an unknown outcome is ignored.
func TestClassify_unknownOutcome(t *testing.T) {
	c := quick
	c.Classify = func(error) resilience.Outcome { return 99 }
	r := newRig(t, c)
	_, _ = r.run(errDown), r.run(judged{77})
	if s := r.Stats(); s.Ignored != 2 || s.Rejected != 0 {
		t.Errorf("stats %+v", s)
	}
}

type panicIs struct{}

func (panicIs) Error() string { return "angry" }
func (panicIs) Is(error) bool { panic("is") }

// TestSettler_panicInError: a panic in an error's method is a failure and frees the
// slot.
func TestSettler_panicInError(t *testing.T) {
	c := quick
	c.Until = resilience.Ended
	r := newRig(t, c)
	r.trip()
	r.clock.add(time.Second)
	op := &stream{}
	_ = resilience.RunOperation(context.Background(), r.Breaker, op)
	func() {
		defer func() { _ = recover() }()
		op.End(op.run, panicIs{})
	}()
	if s := r.Stats(); s.InFlight != 0 || s.Failures != 3 {
		t.Errorf("stats %+v", s)
	}
}

// TestStats_openTimeOver: Stats after the open time has the state of the next call.
func TestStats_openTimeOver(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	r.clock.add(time.Second)
	if s := r.Stats(); s.State != breaker.HalfOpen || s.Credit != 1 || !s.RetryAt.IsZero() || !errors.Is(s.LastError, errDown) {
		t.Errorf("stats %+v", s)
	}
}

// TestBreaker_clockPanics: a clock that panics once does not keep a probe from closing.
func TestBreaker_clockPanics(t *testing.T) {
	for reading := 1; ; reading++ {
		r := newRig(t, breaker.Config{
			Trip: []breaker.Rule{breaker.Rate{Failures: 1, Of: 2, Over: time.Second}}, OpenFor: time.Second, CloseAfter: 1, ProbeTimeout: time.Minute,
		})
		_, _ = r.run(errDown), r.run(errDown)
		r.clock.add(time.Second)
		left := reading
		r.clock.afterRead = func() {
			if left--; left == 0 {
				panic("clock")
			}
		}
		r.clock.onNow = r.clock.afterRead
		probe := testkit.Unwind(func() error { return r.run(nil) })
		r.clock.afterRead, r.clock.onNow = nil, nil
		if probe.Panic == nil {
			return // the clock is read less often than that
		}
		r.clock.add(time.Minute) // the probe may still hold its slot
		_ = r.run(nil)
		if s := r.Stats(); s.State != breaker.Closed {
			t.Errorf("after a panic in reading %d: %+v", reading, s)
		}
	}
}

// TestBreaker_halfOpenReadsClockOnce: a rejection in HALF_OPEN reads the clock once.
func TestBreaker_halfOpenReadsClockOnce(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: quick.Trip, OpenFor: time.Second})
	r.trip()
	r.clock.add(time.Second)
	for range 20 {
		_ = r.run(nil)
	}
	for r.Stats().InFlight < r.Stats().Credit {
		_ = r.permit()
	}
	readings := 0
	r.clock.afterRead = func() { readings++ }
	if err := r.run(nil); !errors.Is(err, breaker.ErrOpen) {
		t.Fatal(err)
	}
	if readings != 1 {
		t.Errorf("%d readings with %d calls in flight", readings, r.Stats().InFlight)
	}
}

// TestEpisode_longestRun: failures in a row beyond the counter's maximum stay at it.
func TestEpisode_longestRun(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: []breaker.Rule{breaker.Silence{Failures: 2, Span: time.Hour}}})
	for range 70000 {
		_ = r.run(errDown)
	}
	for range 499 { // without a pause of 10 s, after which the run is too old
		r.clock.add(time.Hour / 500)
		_ = r.run(errDown)
	}
	r.clock.add(time.Hour / 500)
	if s := r.Stats(); s.FailuresInARow != 65535 {
		t.Errorf("%d in a row", s.FailuresInARow)
	}
	_ = r.run(errDown)
	r.want(breaker.Open)
}

// TestIdle_states: a breaker is idle when it can be dropped without losing evidence.
func TestIdle_states(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(r *rig)
		want bool
	}{
		{"new", func(*rig) {}, true},
		{"a failure", func(r *rig) { _ = r.run(errDown) }, true},
		{"half of the way to opening", func(r *rig) { r.silence(4, 0) }, false},
		{"long ago half of the way", func(r *rig) { r.silence(4, 0); r.clock.add(10 * time.Second) }, true},
		{"open", func(r *rig) { r.silence(7, time.Second) }, false},
		{"open time over", func(r *rig) { r.silence(7, time.Second); r.openTime() }, true},
		{"probe in flight", func(r *rig) { r.silence(7, time.Second); r.openTime(); r.start(context.Background()) }, false},
		{"half open at rest", func(r *rig) { r.silence(7, time.Second); r.openTime(); _ = r.run(nil) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, breaker.Config{})
			tt.do(r)
			if got := r.Idle(); got != tt.want {
				t.Errorf("idle is %v in %v", got, r.State())
			}
		})
	}
}

// TestFork_ownState: forks have states of their own and count together.
func TestFork_ownState(t *testing.T) {
	r := newRig(t, quick)
	a, b := r.Fork("").(*breaker.Breaker), r.Fork("").(*breaker.Breaker)
	down := func(context.Context) error { return errDown }
	for range 3 {
		_ = resilience.Run(context.Background(), a, down)
	}
	if a.State() != breaker.Open || b.State() != breaker.Closed || r.State() != breaker.Closed {
		t.Errorf("states %v, %v, %v", a.State(), b.State(), r.State())
	}
	if s := r.Stats(); s.Failures != 2 || s.Rejected != 1 || s.Opened != 1 {
		t.Errorf("the root counts %+v", s)
	}
}
