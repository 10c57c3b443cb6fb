package retry_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
)

// A config error names the field, its value and what to change.
func TestNew_invalidConfig(t *testing.T) {
	for name, test := range map[string]struct {
		config retry.Config
		says   []string
	}{
		"MaxAttempts too large": {retry.Config{Name: "users", MaxAttempts: 1001}, []string{`"users"`, "Config.MaxAttempts", "1001", "must be 1 to 1000"}},
		"MaxDelay below BaseDelay": {
			retry.Config{BaseDelay: 2 * time.Second, MaxDelay: time.Second},
			[]string{"Config.MaxDelay", "1s", "at least BaseDelay", "2s"},
		},
		"BaseDelay without a unit": {
			retry.Config{Name: "users", BaseDelay: 50},
			[]string{`"users"`, "Config.BaseDelay", "50ns", "at least 1µs", "write a unit", "50*time.Millisecond"},
		},
		"MaxDelay without a unit": {retry.Config{MaxDelay: 999}, []string{"Config.MaxDelay", "999ns", "999*time.Millisecond"}},
		"Budget below a price":    {retry.Config{Budget: 4}, []string{"Config.Budget", "4", "at least 5"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := retry.New(test.config)
			if r != nil || err == nil {
				t.Fatalf("New returned %v, %v", r, err)
			}
			for _, s := range test.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

// Extreme values are either an error of New or harmless.
func TestNew_extremeValues(t *testing.T) {
	durations := []time.Duration{math.MinInt64, -1, 0, time.Microsecond, time.Second, math.MaxInt64}
	ints := []int{math.MinInt, -1, 0, 1, 5, 7, 1000, math.MaxInt}
	synctest.Test(t, func(t *testing.T) {
		tried := 0
		for _, base := range durations {
			for _, most := range durations {
				for _, attempts := range ints {
					for _, budget := range ints {
						c := retry.Config{BaseDelay: base, MaxDelay: most, MaxAttempts: attempts, Budget: budget}
						r, err := retry.New(c)
						if err != nil {
							continue
						}
						tried++
						tryOut(t, c, r)
					}
				}
			}
		}
		if tried < 500 {
			t.Fatalf("only %d configurations were accepted", tried)
		}
	})
}

// tryOut makes a few calls, which must not wait forever.
func tryOut(t *testing.T, c retry.Config, r *retry.Retry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for _, fails := range []int{0, 1, 2} {
		runs := 0
		err := resilience.Run(ctx, r, func(context.Context) error {
			if runs++; runs <= fails {
				return errBoom
			}
			return nil
		})
		if fails == 0 && err != nil {
			t.Fatalf("%+v: a success is %v", c, err)
		}
		if c.Budget > 0 && c.MaxAttempts > 1 && c.BaseDelay < 0 && runs == 1 && fails > 0 {
			t.Fatalf("%+v: no retry: %v", c, err)
		}
	}
	if s := r.Stats(); s.Level < 0 || s.Level > s.Capacity || total(s) != 3 {
		t.Fatalf("%+v: counted %+v", c, s)
	}
}

// With a Clock, durations below a microsecond are valid.
func TestNew_clockUnit(t *testing.T) {
	must(t, retry.Config{BaseDelay: 1, MaxDelay: 2, Clock: testkit.NewClock()})
}

// MaxAttempts 1 never retries.
func TestConfig_maxAttemptsOne(t *testing.T) {
	op, runs := script(errBoom)
	wantReason(t, run(must(t, quick(retry.Config{MaxAttempts: 1})), op), retry.OutOfAttempts)
	if runs() != 1 {
		t.Fatalf("%d runs", runs())
	}
}

// The default MaxDelay is at least BaseDelay.
func TestConfig_longBaseDelay(t *testing.T) {
	r := must(t, retry.Config{BaseDelay: time.Minute})
	synctest.Test(t, func(t *testing.T) {
		op, runs := script(retry.After(errBoom, time.Minute), nil)
		if err := run(r, op); err != nil || runs() != 2 {
			t.Fatalf("a wait of BaseDelay: %v after %d runs", err, runs())
		}
	})
}

// A MaxDelay below the default BaseDelay is valid and bounds every wait.
func TestConfig_shortMaxDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, d := range waits(t, retry.Config{MaxDelay: time.Millisecond, MaxAttempts: 20}) {
			if d > time.Millisecond {
				t.Fatalf("waited %v", d)
			}
		}
	})
}

// Changes of the Config after New have no effect.
func TestNew_copiesConfig(t *testing.T) {
	c := quick(retry.Config{Name: "before"})
	r := must(t, c)
	c.Name, c.MaxAttempts = "after", 1
	op, runs := script(errBoom)
	_ = run(r, op)
	if r.Name() != "before" || runs() != 3 {
		t.Fatalf("%q, %d runs", r.Name(), runs())
	}
}
