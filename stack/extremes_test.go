package stack_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
)

var (
	extremeDurations = []time.Duration{math.MinInt64, -1, 0, 1, time.Microsecond, time.Millisecond, 1 << 62, math.MaxInt64 - 1, math.MaxInt64}
	extremeInts      = []int{math.MinInt, -1, 0, 1, 2, 63, 4095, 4096, 65535, 65536, 1 << 20, 1 << 30, math.MaxInt}
)

// use runs calls under p if New made it. No call may panic, or take as long as its caller's
// hour.
func use[P resilience.Policy](t *testing.T, p P, err error) {
	t.Helper()
	if err != nil {
		return // New says that the configuration is wrong
	}
	synctest.Test(t, func(t *testing.T) {
		for i := range 40 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			start := time.Now()
			_ = resilience.Run(ctx, p, func(context.Context) error {
				time.Sleep(time.Millisecond)
				if i%3 == 0 {
					return nil
				}
				return errors.New("down")
			})
			if d := time.Since(start); d >= time.Hour {
				t.Errorf("%v: a call took %v", p, d)
			}
			cancel()
		}
		_ = fmt.Sprint(p)
	})
}

// A configuration at its extremes is rejected by New, or it works.
func TestConfigs_extremes(t *testing.T) {
	for _, d := range extremeDurations {
		for _, e := range extremeDurations {
			r, err := retry.New(retry.Config{BaseDelay: d, MaxDelay: e, Budget: retry.NoBudget})
			use(t, r, err)
			for _, n := range []int{1, 64, 4095} {
				b, err := breaker.New(breaker.Config{OpenFor: d, MaxOpenFor: e, ProbeTimeout: d, CloseAfter: n})
				use(t, b, err)
				for _, rule := range []breaker.Rule{
					breaker.Silence{Failures: n, Span: d}, breaker.Rate{Failures: 1, Of: n}, breaker.Rate{Failures: n, Of: n},
					breaker.Rate{Failures: 1, Of: 2, Over: d, AtLeast: n}, breaker.Slow{LongerThan: d, Calls: 1, Of: n, Over: e},
				} {
					b, err := breaker.New(breaker.Config{Trip: []breaker.Rule{rule}, OpenFor: e})
					use(t, b, err)
				}
			}
		}
		p, err := timeout.New(timeout.Config{Timeout: d})
		use(t, p, err)
		p, err = timeout.New(timeout.Config{Timeout: d, Until: resilience.Answered})
		use(t, p, err)
		for _, n := range extremeInts {
			b, err := bulkhead.New(bulkhead.Config{Slots: n, MaxQueue: n, MaxWait: d})
			use(t, b, err)
		}
	}
	for _, n := range extremeInts {
		for _, q := range extremeInts {
			l, err := limit.New(limit.Config{Max: n, MaxQueue: q})
			use(t, l, err)
		}
		r, err := retry.New(retry.Config{MaxAttempts: n, Budget: n})
		use(t, r, err)
	}
}

// A delay is never negative and never above its bound, whatever the arguments.
func TestExponential_extremes(t *testing.T) {
	for _, base := range extremeDurations {
		for _, most := range extremeDurations {
			for _, jitter := range []int{math.MinInt, -1, 0, 50, 100, 101, math.MaxInt} {
				delay := retry.Exponential(base, most, jitter)
				for _, n := range []int{math.MinInt, -1, 0, 1, 2, 62, 63, 64, 128, math.MaxInt} {
					if d := delay(n); d < 0 || most >= 0 && d > most {
						t.Errorf("Exponential(%v, %v, %d)(%d) is %v", base, most, jitter, n, d)
					}
				}
			}
		}
	}
}
