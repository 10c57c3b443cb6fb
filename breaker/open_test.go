package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

// openTime returns how long the OPEN breaker stays open.
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
		{"at most 5 s", 500, time.Hour, 5 * time.Second},
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
	_ = r.run(nil)
	r.silence(7, time.Second)
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
	for _, tt := range []struct{ wait, want time.Duration }{
		{10 * time.Millisecond, time.Second},
		{20 * time.Second, 20 * time.Second},
		{time.Hour, time.Minute},
		{-time.Hour, time.Second},
		{math.MinInt64, time.Second},
		{math.MaxInt64, time.Minute},
	} {
		t.Run(fmt.Sprint(tt.wait), func(t *testing.T) {
			r := newRig(t, quick)
			_, _ = r.run(errDown), r.run(fmt.Errorf("wrapped: %w", later{tt.wait}))
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
