package retry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/retry"
)

// bounds returns the least and the most that Exponential may return, computed with big
// integers.
func bounds(base, bound time.Duration, jitter, attempt int) (least, most time.Duration) {
	b, l := big.NewInt(int64(max(0, base))), big.NewInt(int64(max(0, bound)))
	if attempt > 1 {
		b.Lsh(b, uint(min(attempt-1, 10_000)))
	}
	if b.Cmp(l) > 0 {
		b = l
	}
	whole := b.Int64()
	random := new(big.Int).Mul(b, big.NewInt(int64(min(max(jitter, 0), 100))))
	random.Quo(random, big.NewInt(100))
	return time.Duration(whole - random.Int64()), time.Duration(whole)
}

func checkExponential(t *testing.T, base, bound time.Duration, jitter, attempt int) {
	t.Helper()
	least, most := bounds(base, bound, jitter, attempt)
	backoff := retry.Exponential(base, bound, jitter)
	for range 20 {
		if d := backoff(attempt); d < least || d > most {
			t.Fatalf("Exponential(%d, %d, %d)(%d) is %d, want %d to %d", base, bound, jitter, attempt, d, least, most)
		}
	}
}

// Delays stay within their bounds at any attempt and jitter.
func TestExponential_bounds(t *testing.T) {
	for _, d := range []struct{ base, bound time.Duration }{
		{50 * time.Millisecond, time.Second},
		{1, math.MaxInt64},
		{math.MaxInt64, math.MaxInt64},
		{math.MaxInt64/2 + 1, math.MaxInt64},
		{math.MaxInt64/2 + 1, math.MaxInt64 - 1},
		{3, 7},
		{0, time.Second},
		{time.Second, 0},
		{-time.Second, time.Second},
		{time.Second, -time.Second},
		{math.MinInt64, math.MinInt64},
		{time.Hour, time.Second},
	} {
		for attempt := 0; attempt <= 128; attempt++ {
			for jitter := 0; jitter <= 100; jitter += 5 {
				checkExponential(t, d.base, d.bound, jitter, attempt)
			}
		}
	}
}

// A jitter out of range counts as the nearest valid value.
func TestExponential_jitterOutOfRange(t *testing.T) {
	for _, jitter := range []int{math.MinInt, -1, 101, math.MaxInt} {
		checkExponential(t, time.Second, time.Minute, jitter, 3)
	}
}

// Any attempt number gives a delay within the bounds.
func TestExponential_attemptOutOfRange(t *testing.T) {
	for _, attempt := range []int{math.MinInt, -1, 129, math.MaxInt} {
		checkExponential(t, 1, math.MaxInt64, 50, attempt)
		checkExponential(t, 0, math.MaxInt64, 50, attempt)
	}
}

func FuzzExponential(f *testing.F) {
	f.Add(int64(50*time.Millisecond), int64(time.Second), 100, 3)
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), 99, 128)
	f.Fuzz(func(t *testing.T, base, bound int64, jitter, attempt int) {
		checkExponential(t, time.Duration(base), time.Duration(bound), jitter, attempt)
	})
}

// waits returns the waits between the attempts of a failing call. Call it in a bubble.
func waits(t *testing.T, c retry.Config) (all []time.Duration) {
	t.Helper()
	c.Budget = retry.NoBudget
	r := must(t, c)
	last := time.Now()
	op, _ := script(errBoom)
	_ = run(r, func(ctx context.Context) error {
		all = append(all, time.Since(last))
		last = time.Now()
		return op(ctx)
	})
	return all[1:]
}

// The default backoff is exponential with full jitter.
func TestConfig_defaultBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bound := 50 * time.Millisecond
		var low, high [12]bool
		for range 200 {
			for i, d := range waits(t, retry.Config{MaxAttempts: 13}) {
				most := min(bound<<i, time.Second)
				if d < 0 || d > most {
					t.Fatalf("wait %d is %v, want at most %v", i+1, d, most)
				}
				low[i] = low[i] || d < most/5
				high[i] = high[i] || d > most*4/5
			}
		}
		for i := range low {
			if !low[i] || !high[i] {
				t.Errorf("wait %d does not use its whole range", i+1)
			}
		}
	})
}

// The result of Backoff is kept within 0 and MaxDelay.
func TestConfig_Backoff_clamped(t *testing.T) {
	for name, test := range map[string]struct {
		backoff, maxDelay, want time.Duration
	}{
		"negative":             {-time.Hour, 0, 0},
		"most negative":        {math.MinInt64, 0, 0},
		"above the cap":        {time.Hour, time.Minute, time.Minute},
		"above the default":    {time.Hour, 0, time.Second},
		"no cap":               {time.Hour, -1, time.Hour},
		"the longest duration": {math.MaxInt64, time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := waits(t, retry.Config{MaxAttempts: 2, Backoff: fixed(test.backoff), MaxDelay: test.maxDelay})
				if fmt.Sprint(got) != fmt.Sprint([]time.Duration{test.want}) {
					t.Fatalf("waits %v, want %v", got, test.want)
				}
			})
		})
	}
}

// Backoff is called with the number of the attempt that failed.
func TestConfig_Backoff_attempt(t *testing.T) {
	var asked []int
	c := retry.Config{MaxAttempts: 4, Budget: retry.NoBudget, Backoff: func(n int) time.Duration { asked = append(asked, n); return 0 }}
	op, _ := script(errBoom)
	_ = run(must(t, c), op)
	if fmt.Sprint(asked) != "[1 2 3]" {
		t.Fatalf("asked for %v", asked)
	}
}

// After sets the least wait; the backoff comes on top, up to MaxDelay.
func TestAfter_leastWait(t *testing.T) {
	for name, test := range map[string]struct {
		after, backoff, maxDelay, least, most time.Duration
	}{
		"it alone":                {time.Second, 0, time.Minute, time.Second, time.Second},
		"with the usual wait":     {time.Second, time.Second, time.Minute, time.Second, 2 * time.Second},
		"up to the cap":           {time.Second, time.Minute, 3 * time.Second, 3 * time.Second, 3 * time.Second},
		"exactly the cap":         {time.Minute, time.Minute, time.Minute, time.Minute, time.Minute},
		"nothing":                 {0, time.Second, time.Minute, time.Second, time.Second},
		"less than nothing":       {-time.Hour, time.Second, time.Minute, time.Second, time.Second},
		"most negative":           {math.MinInt64, time.Second, time.Minute, time.Second, time.Second},
		"no cap, two long values": {100 * 365 * 24 * time.Hour, math.MaxInt64, -1, 100 * 365 * 24 * time.Hour, math.MaxInt64},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				op, _ := script(retry.After(errBoom, test.after), nil)
				start := time.Now()
				err := run(must(t, retry.Config{Backoff: fixed(test.backoff), MaxDelay: test.maxDelay}), op)
				if took := time.Since(start); err != nil || took < test.least || took > test.most {
					t.Fatalf("took %v, error %v; want %v to %v", took, err, test.least, test.most)
				}
			})
		})
	}
}

// If After asks for more than MaxDelay, Retry gives up at once.
func TestAfter_beyondMaxDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		op, runs := script(retry.After(errBoom, time.Second+1))
		start := time.Now()
		err := run(must(t, retry.Config{}), op)
		e := wantReason(t, err, retry.WaitTooLong)
		if runs() != 1 || e.Attempts != 1 || !errors.Is(err, errBoom) || time.Since(start) != 0 {
			t.Fatalf("error %v after %d runs and %v", err, runs(), time.Since(start))
		}
	})
}

// If the wait of After would end after the deadline, Retry gives up at once.
func TestAfter_beyondDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		op, runs := script(retry.After(errBoom, 2*time.Second))
		err := resilience.Run(ctx, must(t, retry.Config{MaxDelay: time.Minute}), op)
		wantReason(t, err, retry.PastDeadline)
		if runs() != 1 {
			t.Fatalf("%d runs", runs())
		}
	})
}
