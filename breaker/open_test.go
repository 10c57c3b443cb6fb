package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

// openTime returns how long the breaker, which is OPEN, stays so.
func (r *rig) openTime() time.Duration {
	r.t.Helper()
	var rej *resilience.Rejection
	if err := r.run(nil); !errors.As(err, &rej) {
		r.t.Fatalf("not rejected: %v", err)
	}
	d := rej.RetryAt.Sub(r.clock.Now())
	r.clock.add(d - 1)
	r.want(breaker.Open)
	r.clock.add(1)
	r.want(breaker.HalfOpen)
	return d
}

func within(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if math.Abs(float64(got-want)) > 0.2*float64(want)+1000 {
		t.Errorf("%s is %v, want %v +-20 %%", what, got, want)
	}
}

// silence fails n calls, the last of them span after the first.
func (r *rig) silence(n int, span time.Duration) {
	for i := range n {
		_ = r.run(errDown)
		if i < n-1 {
			step := span / time.Duration(n-1-i)
			r.clock.add(step)
			span -= step
		}
	}
}

// TestOpenFor_followsSilence: the open time is 1/32 of the silence, 50 ms to 5 s.
func TestOpenFor_followsSilence(t *testing.T) {
	for _, tt := range []struct {
		name string
		n    int
		span time.Duration
		want time.Duration
	}{
		{"at least 50 ms", 7, time.Second, 50 * time.Millisecond},
		{"one thirty-second", 7, 8 * time.Second, 250 * time.Millisecond},
		{"at most 5 s", 7, time.Hour, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, breaker.Config{})
			r.silence(tt.n, tt.span)
			r.want(breaker.Open)
			within(t, "open time", r.openTime(), tt.want)
		})
	}
}

// TestOpenFor_boundedByRate: the open time is bounded by the rate of the failures.
func TestOpenFor_boundedByRate(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: []breaker.Rule{breaker.Silence{Failures: 1000, Span: 10 * time.Second}}})
	r.silence(1001, 10*time.Second) // 100 a second, so at most 32/100 s
	within(t, "open time", r.openTime(), 312500*time.Microsecond)
	r.clock.add(time.Hour) // the silence grows, the bound stays
	_ = r.run(errDown)
	within(t, "open time after a probe", r.openTime(), 320*time.Millisecond)
}

// TestOpenFor_jitter: open times have jitter, so that clients do not probe at the same
// time.
func TestOpenFor_jitter(t *testing.T) {
	seen := map[time.Duration]bool{}
	shortest, longest := time.Hour, time.Duration(0)
	for range 200 {
		r := newRig(t, breaker.Config{})
		r.silence(7, 8*time.Second)
		d := r.openTime()
		seen[d] = true
		shortest, longest = min(shortest, d), max(longest, d)
	}
	if len(seen) < 100 || shortest > 215*time.Millisecond || longest < 285*time.Millisecond {
		t.Errorf("%d different times of 200, from %v to %v", len(seen), shortest, longest)
	}
}

// TestOpenFor_wholeSilence: the open time after a failed probe counts the whole
// silence.
func TestOpenFor_wholeSilence(t *testing.T) {
	r := newRig(t, breaker.Config{})
	r.silence(7, time.Second)
	r.clock.add(15 * time.Second)
	_ = r.run(errDown)
	within(t, "open time", r.openTime(), 500*time.Millisecond)
}

// TestOpenFor_afterSuccess: after a success in HALF_OPEN the silence starts again.
func TestOpenFor_afterSuccess(t *testing.T) {
	r := newRig(t, breaker.Config{})
	r.silence(7, time.Second)
	r.clock.add(time.Minute)
	_ = r.run(nil) // credit 2
	_ = r.run(errDown)
	r.want(breaker.HalfOpen)
	_ = r.run(errDown)
	within(t, "open time", r.openTime(), 50*time.Millisecond)
}

// TestOpenFor_doubles: OpenFor is used as given and doubles up to MaxOpenFor.
func TestOpenFor_doubles(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: quick.Trip, OpenFor: time.Second, MaxOpenFor: 5 * time.Second})
	r.trip()
	for _, want := range []time.Duration{1, 2, 4, 5, 5} {
		if got := r.openTime(); got != want*time.Second {
			t.Fatalf("open time %v, want %v", got, want*time.Second)
		}
		_ = r.run(errDown)
	}
	r.openTime()
	_, _, _ = r.run(nil), r.run(errDown), r.run(errDown) // a success between
	if got := r.openTime(); got != time.Second {
		t.Errorf("open time after a success %v, want 1s", got)
	}
}

// TestOpenFor_fixed: OpenFor without MaxOpenFor does not grow.
func TestOpenFor_fixed(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	for range 3 {
		if got := r.openTime(); got != time.Second {
			t.Fatalf("open time %v", got)
		}
		_ = r.run(errDown)
	}
}

type later struct{ d time.Duration }

func (l later) Error() string             { return "later" }
func (l later) RetryAfter() time.Duration { return l.d }

// TestOpenFor_retryAfter: RetryAfter of the last failure lengthens OPEN, to a minute at
// most.
func TestOpenFor_retryAfter(t *testing.T) {
	for _, tt := range []struct{ ask, want time.Duration }{
		{10 * time.Millisecond, time.Second},
		{20 * time.Second, 20 * time.Second},
		{time.Hour, time.Minute},
		{-time.Hour, time.Second},
		{math.MinInt64, time.Second},
		{math.MaxInt64, time.Minute},
	} {
		t.Run(fmt.Sprint(tt.ask), func(t *testing.T) {
			r := newRig(t, quick)
			_, _ = r.run(errDown), r.run(fmt.Errorf("wrapped: %w", later{tt.ask}))
			if got := r.openTime(); got != tt.want {
				t.Errorf("open time %v, want %v", got, tt.want)
			}
		})
	}
}

// TestOpenFor_clockSetBack: a clock that is set back does not lengthen OPEN or a
// silence.
func TestOpenFor_clockSetBack(t *testing.T) {
	t.Run("does not freeze a run", func(t *testing.T) {
		r := newRig(t, breaker.Config{})
		r.clock.add(time.Hour)
		r.silence(3, time.Second/2)
		r.clock.add(-30 * time.Minute)
		r.silence(4, time.Second)
		r.want(breaker.Open)
	})
	t.Run("does not prolong OPEN", func(t *testing.T) {
		r := newRig(t, quick)
		r.clock.add(time.Hour)
		r.trip()
		r.clock.add(-time.Minute)
		if err := r.run(nil); err != nil {
			t.Error(err)
		}
		r.want(breaker.Closed)
	})
	t.Run("to before the construction", func(t *testing.T) {
		r := newRig(t, quick)
		r.clock.add(-time.Hour)
		r.trip()
		r.clock.add(2 * time.Hour)
		_ = r.run(nil)
		r.want(breaker.Closed)
	})
}

// TestRejection_fields: a rejection has the name, RetryAt and the failure that opened
// the breaker.
func TestRejection_fields(t *testing.T) {
	c := quick
	c.Name = "users"
	r := newRig(t, c)
	r.trip()
	err := r.run(nil)
	var rej *resilience.Rejection
	if !errors.As(err, &rej) || !errors.Is(err, breaker.ErrOpen) || !errors.Is(err, resilience.ErrRejected) {
		t.Fatalf("got %v", err)
	}
	until := r.Stats().RetryAt
	if rej.Name != "users" || rej.Reason != resilience.Open || !rej.RetryAt.Equal(until) || rej.Cause != errDown {
		t.Errorf("got %+v", rej)
	}
	if errors.Is(err, errDown) {
		t.Error("the error of another call is not what this one failed with")
	}
	for _, part := range []string{"users", "open", "down"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

// TestRejection_allocs: a rejection allocates nothing.
func TestRejection_allocs(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	fn := resilience.Func(func(context.Context) error { return nil })
	if n := testing.AllocsPerRun(100, func() { _ = resilience.Run(context.Background(), r.Breaker, fn) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestState_openTimeOver: State is HALF_OPEN when the open time is over; the event
// comes with the probe.
func TestState_openTimeOver(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	r.clock.add(time.Second)
	r.want(breaker.HalfOpen)
	if got := r.events(); len(got) != 1 || r.Stats().HalfOpened != 0 {
		t.Fatalf("events before the probe: %v", got)
	}
	_ = r.run(nil)
	if got := fmt.Sprint(r.events()); got != "[CLOSED>OPEN OPEN>HALF_OPEN HALF_OPEN>CLOSED]" {
		t.Errorf("events %s", got)
	}
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

// TestConfig_errors: an invalid Config is an error with the field, the value, the bound
// and the remedy.
func TestConfig_errors(t *testing.T) {
	trip := func(rules ...breaker.Rule) breaker.Config { return breaker.Config{Trip: rules} }
	for _, tt := range []struct {
		c    breaker.Config
		want string
	}{
		{trip(nil), "Config.Trip[0] is a <nil>: must be a value of type breaker.Silence"},
		{trip(&breaker.Silence{}), "Config.Trip[0] is a *breaker.Silence: must be a value"},
		{trip(breaker.Consecutive{Failures: 1}, breaker.Consecutive{}), "Config.Trip[1] is Consecutive{}: Failures is 0: must be 1 to 65535"},
		{trip(breaker.Consecutive{Failures: -1}), "is Consecutive{Failures: -1}: Failures is -1: must be 1 to 65535"},
		{trip(breaker.Silence{Failures: 65536, Span: 1}), "Failures is 65536: must be 1 to 65535"},
		{trip(breaker.Silence{Failures: 1}), "Span is 0s: must be positive; for failures in a row however quickly, use Consecutive"},
		{trip(breaker.Silence{Failures: 1, Span: -1}), "Span is -1ns: must be positive"},
		{trip(breaker.Rate{Failures: 50}), "is Rate{Failures: 50}: Of is 0: must be 1 to 10000"},
		{trip(breaker.Rate{Failures: 1, Of: 10001}), "Of is 10001: must be 1 to 10000"},
		{trip(breaker.Rate{Failures: 100, Of: 50}), "Failures is 100: must be 1 to 50, which is Of"},
		{trip(breaker.Rate{Of: 50}), "Failures is 0: must be 1 to 50"},
		{trip(breaker.Rate{Failures: 5, Of: 10, AtLeast: 5}), "AtLeast is 5 without Over: set Over"},
		{trip(breaker.Rate{Failures: 5, Of: 10, Over: time.Millisecond}), "Over is 1ms: must be 10ms to 24 h"},
		{trip(breaker.Rate{Failures: 5, Of: 10, Over: time.Second, AtLeast: -1}), "AtLeast is -1: must be at least 1, or 0 for Of"},
		{trip(breaker.Slow{Calls: 5, Of: 10, Over: time.Second}), "LongerThan is 0s: must be positive"},
		{trip(breaker.Slow{LongerThan: time.Second, Calls: 5, Of: 10}), "Over is 0s: must be 10ms to 24 h"},
		{trip(breaker.Slow{LongerThan: time.Second, Calls: 10, Of: 5, Over: time.Second}), "Calls is 10: must be 1 to 5, which is Of"},
		{breaker.Config{Trip: slices.Repeat([]breaker.Rule{breaker.Slow{LongerThan: time.Second, Calls: 1, Of: 2, Over: time.Second}}, 5), OpenFor: time.Second}, "Config.Trip has 5 rules of type Slow: must be at most 4"},
		{trip(breaker.Consecutive{Failures: 5}, breaker.Rate{Failures: 5, Of: 10}), "Config.OpenFor is 0, and Config.Trip[1] is Rate{Failures: 5, Of: 10}, which measures no silence for OPEN to follow: set OpenFor"},
		{trip(breaker.Slow{LongerThan: time.Second, Calls: 1, Of: 2, Over: time.Second}), "Config.OpenFor is 0, and Config.Trip[0] is Slow{"},
		{breaker.Config{OpenFor: -1}, "Config.OpenFor is -1ns: must not be negative"},
		{breaker.Config{MaxOpenFor: -1}, "Config.MaxOpenFor is -1ns: must not be negative"},
		{breaker.Config{OpenFor: time.Second, MaxOpenFor: time.Millisecond}, "Config.MaxOpenFor is 1ms: must be at least OpenFor, which is 1s"},
		{breaker.Config{MaxOpenFor: time.Millisecond}, "Config.MaxOpenFor is 1ms: must be at least 50ms"},
		{breaker.Config{ProbeTimeout: -2}, "Config.ProbeTimeout is -2ns: must be positive, 0 for the default of 15s, or breaker.Unbounded"},
		{breaker.Config{CloseAfter: -1}, "Config.CloseAfter is -1: must be 1 to 4095"},
		{breaker.Config{CloseAfter: 4096}, "Config.CloseAfter is 4096: must be 1 to 4095"},
		{breaker.Config{Until: 3}, "Config.Until is 3: must be resilience.Answered or resilience.Ended"},
	} {
		t.Run(tt.want, func(t *testing.T) {
			tt.c.Name = "users"
			b, err := breaker.New(tt.c)
			if err == nil || b != nil {
				t.Fatalf("accepted %+v", tt.c)
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), `breaker "users": `) {
				t.Errorf("got %q, want %q in it", err, tt.want)
			}
		})
	}
}

// TestConfig_extremes: extreme valid values of Config work.
func TestConfig_extremes(t *testing.T) {
	for _, c := range []breaker.Config{
		{CloseAfter: 4095, Trip: []breaker.Rule{breaker.Consecutive{Failures: 65535}}},
		{OpenFor: math.MaxInt64, Trip: quick.Trip},
		{OpenFor: math.MaxInt64 / 2, MaxOpenFor: math.MaxInt64, ProbeTimeout: math.MaxInt64, Trip: quick.Trip},
		{OpenFor: 1, Trip: []breaker.Rule{breaker.Silence{Failures: 1, Span: math.MaxInt64}, breaker.Consecutive{Failures: 3}}},
	} {
		r := newRig(t, c)
		for range 70000 {
			_ = r.run(errDown)
		}
		if s := r.Stats(); s.Opened == 0 {
			t.Errorf("%+v never opened", c)
		}
		r.clock.add(time.Hour)
		_ = r.run(nil)
		_ = r.Stats()
	}
}

// TestConfig_isCopied: a change of Trip after New has no effect.
func TestConfig_isCopied(t *testing.T) {
	rules := []breaker.Rule{breaker.Consecutive{Failures: 2}}
	r := newRig(t, breaker.Config{Trip: rules})
	rules[0] = breaker.Consecutive{Failures: 1}
	_ = r.run(errDown)
	r.want(breaker.Closed)
}

// TestRule_String: a rule is written as a Go literal, so that it can be copied.
func TestRule_String(t *testing.T) {
	for want, r := range map[string]breaker.Rule{
		"Silence{Failures: 7, Span: time.Second}":                                      breaker.Silence{Failures: 7, Span: time.Second},
		"Silence{Failures: 7, Span: 1500*time.Millisecond}":                            breaker.Silence{Failures: 7, Span: 1500 * time.Millisecond},
		"Silence{Failures: 7, Span: 90*time.Second}":                                   breaker.Silence{Failures: 7, Span: 90 * time.Second},
		"Silence{Failures: 7, Span: 1500*time.Nanosecond}":                             breaker.Silence{Failures: 7, Span: 1500},
		"Consecutive{Failures: 5}":                                                     breaker.Consecutive{Failures: 5},
		"Rate{Failures: 2, Of: 3}":                                                     breaker.Rate{Failures: 2, Of: 3},
		"Rate{Failures: 2, Of: 3, Over: 10*time.Minute, AtLeast: 20}":                  breaker.Rate{Failures: 2, Of: 3, Over: 10 * time.Minute, AtLeast: 20},
		"Slow{LongerThan: 250*time.Microsecond, Calls: 1, Of: 2, Over: time.Hour}":     breaker.Slow{LongerThan: 250 * time.Microsecond, Calls: 1, Of: 2, Over: time.Hour},
		"Slow{LongerThan: time.Minute, Calls: 1, Of: 2, Over: time.Hour, AtLeast: 99}": breaker.Slow{LongerThan: time.Minute, Calls: 1, Of: 2, Over: time.Hour, AtLeast: 99},
		"Rate{}": breaker.Rate{},
	} {
		if got := r.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
