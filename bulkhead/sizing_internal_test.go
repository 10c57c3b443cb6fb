package bulkhead

import "testing"

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
