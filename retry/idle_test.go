package retry_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/retry"
)

// short returns a fork that a call which failed has left short of ten units.
func short(t *testing.T, c *handClock) *retry.Retry {
	t.Helper()
	fork := must(t, quick(retry.Config{Clock: c})).Fork("").(*retry.Retry)
	op, _ := script(errBoom)
	wantReason(t, run(fork, op), retry.OutOfAttempts)
	return fork
}

func TestABusyForkThatHoldsMoreThanANewOneIsIdle(t *testing.T) {
	c := newHandClock()
	fork := must(t, quick(retry.Config{Clock: c})).Fork("").(*retry.Retry)
	succeed, _ := script(nil)
	for range 1000 {
		c.move(time.Millisecond)
		_ = run(fork, succeed)
	}
	failing, _ := script(timedOut{})
	_ = run(fork, failing)
	if s := fork.Stats(); s.Level >= s.Capacity || !fork.Idle() {
		t.Errorf("not idle, or full: %+v", s)
	}
}

func TestAForkIsIdleWhileItsBucketIsFull(t *testing.T) {
	for name, errs := range map[string][]error{
		"never used": nil, "healthy": {nil}, "recovered": {errBoom, nil},
		"refused by a policy further in": {errBoom, refusal()}, "not to retry": {retry.Permanent(errBoom)},
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

func TestAForkIsIdleAgainOnceItHasEarnedBackWhatItSpent(t *testing.T) {
	fork := short(t, newHandClock())
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

func TestAForkIsIdleTenSecondsAfterItWasLastAskedForARetry(t *testing.T) {
	c := newHandClock()
	fork := short(t, c)
	op, _ := script(errBoom)
	for range 10 { // it goes on to fail, and is refused
		c.move(5 * time.Second)
		wantReason(t, run(fork, op), retry.AllFailing)
	}
	c.move(10*time.Second - 1)
	if fork.Idle() {
		t.Error("idle before ten seconds are over")
	}
	c.move(1)
	if !fork.Idle() {
		t.Error("not idle after ten seconds")
	}
}

func TestAForkIsIdleOnce3000OthersHaveBecomeShortAfterIt(t *testing.T) {
	root := must(t, quick(retry.Config{Clock: newHandClock()}))
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

func TestAForkIsIdleIfTheClockWasSetBack(t *testing.T) {
	c := newHandClock()
	root := must(t, quick(retry.Config{Clock: c}))
	c.move(time.Hour)
	fork := root.Fork("").(*retry.Retry)
	op, _ := script(errBoom)
	_ = run(fork, op)
	c.move(-time.Minute)
	if !fork.Idle() {
		t.Error("not idle: a key would be kept until the clock has caught up")
	}
}

func TestWithoutABudgetAForkIsAlwaysIdle(t *testing.T) {
	fork := must(t, quick(retry.Config{Budget: -1})).Fork("").(*retry.Retry)
	op, _ := script(errBoom)
	_ = run(fork, op)
	if !fork.Idle() {
		t.Error("not idle")
	}
}

// group gives each key a fork of a retry without waits.
func group(t *testing.T, c *handClock, max int) *keyed.Group {
	t.Helper()
	return resilience.Must(keyed.New(must(t, quick(retry.Config{Clock: c})), keyed.Config{Max: max}))
}

func TestFailingKeysInTurnGetNoFreeRetriesEachTimeTheyComeBack(t *testing.T) {
	c := newHandClock()
	g := group(t, c, 30)
	for round := range 5 {
		runs := 0
		for key := range 300 {
			c.move(10 * time.Millisecond)
			_ = run(g.For(fmt.Sprint(key)), func(context.Context) error { runs++; return errBoom })
		}
		if want := map[bool]int{true: 900, false: 300}[round == 0]; runs != want {
			t.Errorf("round %d: %d attempts for 300 calls, want %d", round, runs, want)
		}
	}
}

func TestKeysThatFailedAreForgottenTenSecondsLater(t *testing.T) {
	c := newHandClock()
	g := group(t, c, 30)
	failing, _ := script(errBoom)
	for key := range 300 {
		_ = run(g.For(fmt.Sprint(key)), failing)
	}
	if n := g.Stats().Keys; n != 300 {
		t.Errorf("%d of 300 keys are remembered", n)
	}
	c.move(10 * time.Second)
	succeed, _ := script(nil)
	for key := range 30 {
		_ = run(g.For(fmt.Sprint("other ", key)), succeed)
	}
	if n := g.Stats().Keys; n > 30 {
		t.Errorf("%d keys are remembered, want at most 30", n)
	}
}

func TestTenThousandFailingKeysDoNotGrowAGroup(t *testing.T) {
	g := group(t, newHandClock(), 1000)
	failing, _ := script(errBoom)
	for key := range 10_000 {
		_ = run(g.For(fmt.Sprint(key)), failing)
		if n := g.Stats().Keys; n > 1000+3000 {
			t.Fatalf("%d keys after %d", n, key+1)
		}
	}
}

func TestCallsAreCountedOnceWhileOthersAskForIdle(t *testing.T) {
	g := group(t, newHandClock(), 8)
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

// template returns the retry that the keys of g are forks of.
func template(g *keyed.Group) *retry.Retry {
	for n := range g.Nodes() {
		return n.Policy.(*retry.Retry)
	}
	return nil
}
