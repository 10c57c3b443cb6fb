package stack_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

// The policies do not export their defaults, but the stack must know them to say
// what does not fit. These tests measure what the defaults do, and then look for
// the border of what New accepts at the very places they imply.

// limitOf measures the default limit of a timeout.
func limitOf(t *testing.T) (limit time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_ = resilience.Run(t.Context(), resilience.Must(timeout.New(timeout.Config{})), func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		limit = time.Since(start)
	})
	return limit
}

// waitOf measures how long a bulkhead lets a caller wait by default.
func waitOf(t *testing.T) (wait time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.Must(bulkhead.New(bulkhead.Config{Limit: 1}))
		_ = resilience.Run(t.Context(), b, func(context.Context) error {
			start := time.Now()
			if err := resilience.Run(t.Context(), b, succeed); !errors.Is(err, bulkhead.ErrFull) {
				t.Error(err)
			}
			wait = time.Since(start)
			return nil
		})
	})
	return wait
}

// leaseOf measures after what time a breaker admits another probe by default.
func leaseOf(t *testing.T) (lease time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive(1)}, OpenFor: time.Second}))
		_ = resilience.Run(t.Context(), b, fail)
		time.Sleep(time.Second)
		_ = resilience.Run(t.Context(), b, func(context.Context) error {
			start := time.Now()
			for resilience.Run(t.Context(), b, succeed) != nil {
				time.Sleep(time.Millisecond)
			}
			lease = time.Since(start)
			return nil
		})
	})
	return lease
}

func TestTheStackKnowsTheDefaultsOfItsLayers(t *testing.T) {
	limit, wait, lease := limitOf(t), waitOf(t), leaseOf(t)
	t.Logf("limit %v, wait %v, lease %v", limit, wait, lease)
	for name, test := range map[string]struct {
		change func(c *stack.ClientConfig, d time.Duration)
		border time.Duration // the last that is refused
		step   time.Duration // from there to one that is accepted
	}{
		"limit of an attempt": {func(c *stack.ClientConfig, d time.Duration) {
			c.Bulkhead, c.Breaker.ProbeTimeout = nil, d
		}, limit, 1},
		"limit of an attempt, against a total": {func(c *stack.ClientConfig, d time.Duration) {
			c.Total = &timeout.Config{Limit: d}
		}, limit - 1, 1},
		"limit of the total": {func(c *stack.ClientConfig, d time.Duration) {
			c.Total, c.Attempt.Limit = &timeout.Config{}, d
		}, limit + 1, -1},
		"wait": {func(c *stack.ClientConfig, d time.Duration) {
			c.Attempt.Limit, c.Breaker.ProbeTimeout = time.Second, time.Second+d
		}, wait, 1},
		"lease": {func(c *stack.ClientConfig, d time.Duration) {
			c.Bulkhead, c.Attempt.Limit = nil, d
		}, lease.Truncate(10 * time.Millisecond), -1},
	} {
		t.Run(name, func(t *testing.T) {
			refused, accepted := stack.DefaultClient("users"), stack.DefaultClient("users")
			test.change(&refused, test.border)
			test.change(&accepted, test.border+test.step)
			if _, err := refused.New(); err == nil {
				t.Errorf("%v is accepted", test.border)
			}
			if _, err := accepted.New(); err != nil {
				t.Errorf("%v is refused: %v", test.border+test.step, err)
			}
		})
	}
}

func TestTheDefaultBreakerOpensOnSilenceForItsKeyOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := stack.Client("users")
		runs := 0
		down := call{"down", func(context.Context) error { runs++; return errBoom }}
		start := time.Now()
		var err error
		for !errors.Is(err, breaker.ErrOpen) {
			if time.Since(start) > 10*time.Second {
				t.Fatalf("still closed after %d runs and %v: %v", runs, time.Since(start), err)
			}
			time.Sleep(100 * time.Millisecond)
			if err = resilience.RunOperation(t.Context(), p, down); err == nil {
				t.Fatal("a failure is a success")
			}
		}
		if took := time.Since(start); runs < 7 || took < time.Second {
			t.Errorf("open after %d runs and %v, want 7 over a second at least", runs, took)
		}
		before := runs
		if err := resilience.RunOperation(t.Context(), p, down); !errors.Is(err, resilience.ErrRejected) || runs != before {
			t.Errorf("error %v; the operation ran %d times more", err, runs-before)
		}
		for _, key := range []string{"up", ""} {
			if err := resilience.RunOperation(t.Context(), p, call{key, succeed}); err != nil {
				t.Errorf("key %q: %v", key, err)
			}
		}
	})
}

func TestTheDefaultClientTriesThriceAndCutsOffEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := stack.Client("users")
		for range 1000 { // savings, since a retry after a timeout costs 20
			_ = resilience.Run(t.Context(), p, succeed)
			time.Sleep(time.Millisecond)
		}
		runs := 0
		start := time.Now()
		err := resilience.Run(t.Context(), p, func(ctx context.Context) error {
			runs++
			<-ctx.Done()
			return ctx.Err()
		})
		var e *retry.Error
		if !errors.Is(err, timeout.ErrExceeded) || !errors.As(err, &e) || e.Reason != retry.OutOfAttempts || runs != 3 {
			t.Errorf("error %v after %d runs", err, runs)
		}
		if took := time.Since(start); took < 30*time.Second || took > 33*time.Second {
			t.Errorf("took %v, want three times 10 s and two short waits", took)
		}
	})
}

func TestTheSlotIsFreeDuringTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stack.DefaultClient("users")
		c.Bulkhead.Limit, c.Bulkhead.MaxQueue = 1, -1
		c.Retry.Backoff = func(int) time.Duration { return time.Second }
		p := resilience.Must(c.New())
		done := make(chan error)
		go func() { done <- resilience.Run(t.Context(), p, fail) }()
		time.Sleep(500 * time.Millisecond)
		if err := resilience.Run(t.Context(), p, succeed); err != nil {
			t.Errorf("during the backoff: %v", err)
		}
		if err := <-done; errors.Is(err, resilience.ErrRejected) {
			t.Error(err)
		}
	})
}

func TestAFullBulkheadOpensNoBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stack.DefaultClient("users")
		c.Bulkhead.Limit, c.Bulkhead.MaxQueue = 1, -1
		p := resilience.Must(c.New())
		err := resilience.Run(t.Context(), p, func(context.Context) error {
			for range 100 {
				time.Sleep(50 * time.Millisecond)
				if err := resilience.Run(t.Context(), p, succeed); !errors.Is(err, bulkhead.ErrFull) {
					t.Fatalf("error %v", err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if err := resilience.Run(t.Context(), p, succeed); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestTheTotalLimitsAttemptsAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stack.DefaultClient("users")
		c.Total = &timeout.Config{Name: "total", Limit: 12 * time.Second}
		p := resilience.Must(c.New())
		start := time.Now()
		err := resilience.Run(t.Context(), p, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		var e *timeout.Error
		if took := time.Since(start); took != 12*time.Second || !errors.As(err, &e) || e.Name != "total" {
			t.Errorf("error %v after %v", err, took)
		}
	})
}

func TestTheWholeDefaultStackAllocatesOnlyForTheLimit(t *testing.T) {
	c := stack.DefaultClient("users")
	c.Attempt = nil
	p, ctx, op := resilience.Must(c.New()), context.Background(), resilience.Func(succeed)
	_ = resilience.RunOperation(ctx, p, op)
	// The pipeline of a key is put together with what lies inside of the group.
	if n := testing.AllocsPerRun(1000, func() { _ = resilience.RunOperation(ctx, p, op) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
