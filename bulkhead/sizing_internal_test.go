package bulkhead

import (
	"testing"

	"github.com/resilience-go/resilience"
)

// Calls that have just arrived, and may yet be queued or rejected, do not count as admitted
// or in flight beyond the slots that there are.
func TestBulkhead_arrivingIsNotAdmitted(t *testing.T) {
	b, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	b.arrived.Store(minSlots + 5)
	if admitted, inFlight, _ := b.look(); admitted != minSlots || inFlight != minSlots {
		t.Errorf("%d admitted, %d in flight, want %d of each", admitted, inFlight, minSlots)
	}
	b.queued.Store(3) // three of them are queued by now
	if admitted, inFlight, _ := b.look(); admitted != minSlots || inFlight != minSlots {
		t.Errorf("%d admitted, %d in flight, want %d of each", admitted, inFlight, minSlots)
	}
	b.arrived.Store(10)
	b.queued.Store(0)
	if admitted, inFlight, _ := b.look(); admitted != 10 || inFlight != 10 {
		t.Errorf("%d admitted, %d in flight, want 10 of each", admitted, inFlight)
	}
}

// A call whose number is above the calls that are admitted when it answers, because a call
// that arrived before it is queued or rejected, sees no call admitted but itself.
func TestBulkhead_numberAboveAdmitted(t *testing.T) {
	b := sizing(t, Config{})
	b.arrived.Store(10)
	b.answer(b.ticket(11), resilience.Success, nil, false)
	if s := b.Stats(); s.Average > 1 {
		t.Errorf("an average of %v after one call", s.Average)
	}
}
