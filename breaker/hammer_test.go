package breaker_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/internal/testkit"
)

// TestBreaker_concurrentFailures: failures of many goroutines are all counted.
func TestBreaker_concurrentFailures(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 65535}}})
	testkit.AtOnce(4, func(int) {
		for range 15000 {
			_ = r.run(errDown)
		}
	})
	if s := r.Stats(); s.FailuresInARow != 60000 {
		t.Errorf("%d in a row, want 60000", s.FailuresInARow)
	}
}

// halfOpenWith returns a breaker in HALF_OPEN with that credit.
func halfOpenWith(t *testing.T, credit int) *rig {
	t.Helper()
	r := newRig(t, breaker.Config{Trip: quick.Trip, OpenFor: time.Second})
	r.trip()
	r.clock.add(time.Second)
	for r.Stats().Credit < credit {
		_ = r.run(nil)
	}
	return r
}

// TestBreaker_creditBoundsInFlight: in HALF_OPEN there are never more calls in flight
// than credit.
func TestBreaker_creditBoundsInFlight(t *testing.T) {
	r := halfOpenWith(t, 6)
	for round := range 500 {
		var in atomic.Int64
		var permits [12]*breaker.Permit
		testkit.AtOnce(len(permits), func(i int) {
			if p, err := r.Acquire(t.Context()); err == nil {
				in.Add(1)
				permits[i] = p
			}
		})
		if in.Load() != 6 || r.Stats().InFlight != 6 {
			t.Fatalf("round %d: %d calls have a credit of 6, %d are counted", round, in.Load(), r.Stats().InFlight)
		}
		testkit.AtOnce(len(permits), func(i int) {
			if p := permits[i]; p != nil {
				p.Done(&resilience.Rejection{Policy: "inner"})
			}
		})
		if s := r.Stats(); s.InFlight != 0 || s.Credit != 6 {
			t.Fatalf("round %d: %d in flight, credit %d", round, s.InFlight, s.Credit)
		}
	}
}

// TestLease_endsWhileSettling: a lease that ends while it is settled is freed once.
func TestLease_endsWhileSettling(t *testing.T) {
	r := halfOpenWith(t, 2)
	for round := range 2000 {
		p := r.permit()
		_ = r.permit()
		r.clock.add(15 * time.Second)
		var late *breaker.Permit
		testkit.AtOnce(2, func(i int) {
			if i == 0 {
				p.Done(&resilience.Rejection{Policy: "inner"})
			} else {
				late, _ = r.Acquire(t.Context())
			}
		})
		if late == nil {
			t.Fatalf("round %d: the slot of a lease that ended is not free", round)
		}
		late.Done(&resilience.Rejection{Policy: "inner"})
		r.clock.add(15 * time.Second)
		for _, p := range []*breaker.Permit{r.permit(), r.permit()} { // the second may still hold its slot
			p.Done(&resilience.Rejection{Policy: "inner"})
		}
		if s := r.Stats(); s.InFlight != 0 {
			t.Fatalf("round %d: %d in flight", round, s.InFlight)
		}
	}
}
