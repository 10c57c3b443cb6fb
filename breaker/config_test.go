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

// TestConfig_longestOpenFor: the longest OpenFor never ends.
func TestConfig_longestOpenFor(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: quick.Trip, OpenFor: math.MaxInt64})
	r.clock.add(time.Hour)
	_, _ = r.run(errDown), r.run(errDown)
	r.clock.add(10000 * days)
	r.want(breaker.Open)
}

// TestConfig_doublingDoesNotOverflow: doubling OpenFor does not overflow.
func TestConfig_doublingDoesNotOverflow(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: quick.Trip, OpenFor: math.MaxInt64/2 - 1, MaxOpenFor: math.MaxInt64})
	_, _ = r.run(errDown), r.run(errDown)
	r.clock.add(math.MaxInt64/2 - 1)
	_ = r.run(errDown)
	r.want(breaker.Open)
}

// TestConfig_shortOpenFor: an OpenFor under 50 ms needs no MaxOpenFor.
func TestConfig_shortOpenFor(t *testing.T) {
	if _, err := breaker.New(breaker.Config{OpenFor: 10 * time.Millisecond, MaxOpenFor: 20 * time.Millisecond}); err != nil {
		t.Error(err)
	}
}

// TestConfig_unboundedProbe: with ProbeTimeout Unbounded a lease never ends.
func TestConfig_unboundedProbe(t *testing.T) {
	c := quick
	c.ProbeTimeout = -1
	r := newRig(t, c)
	r.trip()
	r.clock.add(time.Second)
	probe := r.start(context.Background())
	r.clock.add(1000 * time.Hour)
	if r.start(context.Background()) != nil {
		t.Fatal("a second probe")
	}
	_ = probe.finish(nil)
	r.want(breaker.Closed)
}

// TestConfig_until: Until decides when a success counts.
func TestConfig_until(t *testing.T) {
	for _, tt := range []struct {
		judge    resilience.Moment
		end      error
		answered bool
		want     breaker.State
	}{
		{0, nil, true, breaker.Closed},
		{resilience.Answered, errDown, true, breaker.Closed},
		{resilience.Answered, errDown, false, breaker.Open},
		{resilience.Ended, nil, true, breaker.Closed},
		{resilience.Ended, errDown, true, breaker.Open},
		{resilience.Ended, fmt.Errorf("body: %w", context.Canceled), true, breaker.HalfOpen},
		{resilience.Ended, fmt.Errorf("body: %w", context.DeadlineExceeded), true, breaker.Open},
		{resilience.Ended, errors.Join(context.Canceled, context.DeadlineExceeded), true, breaker.Open},
	} {
		t.Run(fmt.Sprint(tt.judge, tt.answered, tt.end), func(t *testing.T) {
			c := quick
			c.Until = tt.judge
			r := newRig(t, c)
			r.trip()
			r.clock.add(time.Second)
			op := &stream{}
			if err := resilience.RunOperation(context.Background(), r.Breaker, op); err != nil {
				t.Fatal(err)
			}
			if s := r.Stats(); s.InFlight != 1 {
				t.Fatalf("the probe does not last: %+v", s)
			}
			if tt.answered {
				op.Answer(op.run)
			}
			op.End(op.run, tt.end)
			r.want(tt.want)
		})
	}
}
