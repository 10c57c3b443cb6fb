package policykit_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/policykit"
)

// All rejected calls get the same error.
func TestReject_sameError(t *testing.T) {
	var made atomic.Pointer[resilience.Rejection]
	got := make([]error, 100)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() {
			got[i] = policykit.Reject(&made, resilience.Rejection{Name: "orders", Reason: bulkhead.Full})
		})
	}
	all.Wait()
	for _, err := range got {
		if r := made.Load(); err != error(r) || r.Name != "orders" || r.Reason != bulkhead.Full {
			t.Fatalf("got %v, and others %v", err, r)
		}
	}
}

// A rejection allocates nothing after the first.
func TestReject_allocs(t *testing.T) {
	var made atomic.Pointer[resilience.Rejection]
	r := resilience.Rejection{Name: "orders"}
	_ = policykit.Reject(&made, r)
	if got := testing.AllocsPerRun(100, func() { _ = policykit.Reject(&made, r) }); got > 0 {
		t.Errorf("%v allocations", got)
	}
}
