package cascade_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/stack"
)

// Callers whose deadline ends while they wait for a slot do not open the breaker: their
// calls never reached the dependency. Streams hold all slots for 20 s.
func TestClient_waitForSlotOpensNoBreaker(t *testing.T) {
	const slots = 24
	c := stack.DefaultClient("dependency")
	c.Without = stack.Keyed
	c.Attempt.Timeout, c.Bulkhead.Slots = attempt, slots
	synctest.Test(t, func(t *testing.T) {
		policy := resilience.Must(c.New())
		streams := hold(t, policy, slots)
		alone.run(0, 20*time.Second, nil, func(int, *rand.Rand) {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			if err := resilience.Run(ctx, policy, func(context.Context) error { return nil }); err == nil {
				t.Error("a call had a slot")
			}
		})
		if n := opened([]resilience.Policy{policy}); n > 0 {
			t.Errorf("the breaker opened %d times", n)
		}
		for _, s := range streams {
			s.Release(nil)
		}
	})
}

// hold takes n slots of the bulkhead of policy.
func hold(t *testing.T, policy resilience.Policy, n int) (held []*bulkhead.Permit) {
	for node := range resilience.Walk(policy) {
		b, ok := node.Policy.(*bulkhead.Bulkhead)
		for ok && len(held) < n {
			p, err := b.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, p)
		}
	}
	return held
}
