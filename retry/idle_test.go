package retry_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/retry"
)

// short returns a fork whose bucket lacks ten units after a failed call.
func short(t *testing.T, c *testkit.Clock) *retry.Retry {
	t.Helper()
	fork := must(t, quick(retry.Config{Clock: c})).Fork("").(*retry.Retry)
	op, _ := script(errBoom)
	wantReason(t, run(fork, op), retry.OutOfAttempts)
	return fork
}

// A fork with more units than a new fork is idle, even if its bucket is not full.
func TestRetry_Idle_aboveStart(t *testing.T) {
	c := testkit.NewClock()
	fork := must(t, quick(retry.Config{Clock: c})).Fork("").(*retry.Retry)
	succeed, _ := script(nil)
	for range 1000 {
		c.Move(time.Millisecond)
		_ = run(fork, succeed)
	}
	failing, _ := script(timedOut{})
	_ = run(fork, failing)
	if s := fork.Stats(); s.Level >= s.Capacity || !fork.Idle() {
		t.Errorf("not idle, or full: %+v", s)
	}
}

// A fork with a full bucket is idle.
func TestRetry_Idle_fullBucket(t *testing.T) {
	for name, errs := range map[string][]error{
		"never used": nil, "healthy": {nil}, "recovered": {errBoom, nil},
		"rejected by an inner policy": {errBoom, rejection()}, "not to retry": {retry.Permanent(errBoom)},
	} {
		t.Run(name, func(t *testing.T) {
			fork := must(t, quick(retry.Config{})).Fork("").(*retry.Retry)
			if errs != nil {
				op, _ := script(errs...)
				_ = run(fork, op)
			}
			if !fork.Idle() {
				t.Errorf("not idle: %+v", fork.Stats())
			}
		})
	}
}

// A fork is idle again once it has earned what it spent.
func TestRetry_Idle_earnedBack(t *testing.T) {
	fork := short(t, testkit.NewClock())
	succeed, _ := script(nil)
	for earned := range 10 {
		if fork.Idle() {
			t.Fatalf("idle, though 10 units were spent and %d earned since", earned)
		}
		_ = run(fork, succeed)
	}
	if !fork.Idle() {
		t.Errorf("not idle: %+v", fork.Stats())
	}
}

// A fork is idle ten seconds after a call last needed a retry.
func TestRetry_Idle_afterTenSeconds(t *testing.T) {
	c := testkit.NewClock()
	fork := short(t, c)
	op, _ := script(errBoom)
	for range 10 { // it continues to fail, without retries
		c.Move(5 * time.Second)
		wantReason(t, run(fork, op), retry.AllFailing)
	}
	c.Move(10*time.Second - 1)
	if fork.Idle() {
		t.Error("idle before ten seconds are over")
	}
	c.Move(1)
	if !fork.Idle() {
		t.Error("not idle after ten seconds")
	}
}

// A short fork is idle once 3000 others have become short after it.
func TestRetry_Idle_mostShort(t *testing.T) {
	root := must(t, quick(retry.Config{Clock: testkit.NewClock()}))
	failing, _ := script(errBoom)
	fork := func() *retry.Retry {
		f := root.Fork("").(*retry.Retry)
		_ = run(f, failing)
		_ = run(f, failing)
		return f
	}
	first := fork()
	for range 2999 {
		fork()
	}
	if first.Idle() {
		t.Error("idle before")
	}
	fork()
	if !first.Idle() {
		t.Error("not idle after")
	}
}

// A fork is idle if the clock was set back.
func TestRetry_Idle_clockSetBack(t *testing.T) {
	c := testkit.NewClock()
	root := must(t, quick(retry.Config{Clock: c}))
	c.Move(time.Hour)
	fork := root.Fork("").(*retry.Retry)
	op, _ := script(errBoom)
	_ = run(fork, op)
	c.Move(-time.Minute)
	if !fork.Idle() {
		t.Error("not idle: a key would be kept until the clock has caught up")
	}
}

// Without a budget a fork is always idle.
func TestRetry_Idle_noBudget(t *testing.T) {
	fork := must(t, quick(retry.Config{Budget: retry.NoBudget})).Fork("").(*retry.Retry)
	op, _ := script(errBoom)
	_ = run(fork, op)
	if !fork.Idle() {
		t.Error("not idle")
	}
}

// group returns a group that gives each key a fork of a retry without waits.
func group(t *testing.T, c *testkit.Clock, max int) *keyed.Group {
	t.Helper()
	return resilience.Must(keyed.New(must(t, quick(retry.Config{Clock: c})), keyed.Config{Max: max}))
}

// Failing keys in turn get no free retries when they come back.
func TestRetry_Idle_returningKeys(t *testing.T) {
	c := testkit.NewClock()
	g := group(t, c, 30)
	for round := range 5 {
		runs := 0
		for key := range 300 {
			c.Move(10 * time.Millisecond)
			_ = run(g.For(fmt.Sprint(key)), func(context.Context) error { runs++; return errBoom })
		}
		if want := map[bool]int{true: 900, false: 300}[round == 0]; runs != want {
			t.Errorf("round %d: %d attempts for 300 calls, want %d", round, runs, want)
		}
	}
}

// A keyed.Group drops keys that failed ten seconds later.
func TestRetry_Idle_groupForgets(t *testing.T) {
	c := testkit.NewClock()
	g := group(t, c, 30)
	failing, _ := script(errBoom)
	for key := range 300 {
		_ = run(g.For(fmt.Sprint(key)), failing)
	}
	if n := g.Stats().Keys; n != 300 {
		t.Errorf("%d of 300 keys are remembered", n)
	}
	c.Move(10 * time.Second)
	succeed, _ := script(nil)
	for key := range 30 {
		_ = run(g.For(fmt.Sprint("other ", key)), succeed)
	}
	if n := g.Stats().Keys; n > 30 {
		t.Errorf("%d keys are remembered, want at most 30", n)
	}
}

// 10 000 failing keys do not grow a keyed.Group beyond its bound.
func TestRetry_Idle_groupBounded(t *testing.T) {
	g := group(t, testkit.NewClock(), 1000)
	failing, _ := script(errBoom)
	for key := range 10_000 {
		_ = run(g.For(fmt.Sprint(key)), failing)
		if n := g.Stats().Keys; n > 1000+3000 {
			t.Fatalf("%d keys after %d", n, key+1)
		}
	}
}

// Calls are counted once while other goroutines call Idle.
func TestRetry_Idle_concurrency(t *testing.T) {
	g := group(t, testkit.NewClock(), 8)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for n := range 200 {
				key := fmt.Sprint((i + n) % 24)
				_ = run(g.For(key), func(ctx context.Context) error {
					if n%3 == 0 {
						return errBoom
					}
					return nil
				})
				for _, p := range g.All() {
					p.(*retry.Retry).Idle()
				}
			}
		})
	}
	all.Wait()
	s := template(g).Stats()
	if total(s) != 16*200 || s.Earned != int64(s.FirstTry) {
		t.Errorf("counted %+v", s)
	}
}

// template returns the retry whose forks the keys of g have.
func template(g *keyed.Group) *retry.Retry {
	for n := range g.Nodes() {
		return n.Policy.(*retry.Retry)
	}
	return nil
}
