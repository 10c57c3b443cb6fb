package window

import (
	"testing"

	"github.com/resilience-go/resilience/internal/vclock"
)

// A part whose counter is full is halved and keeps its ratio.
func TestOver_fullPart(t *testing.T) {
	c := vclock.New(nil)
	o := NewOver(1<<62, 0, &c)
	r := o.ring.Load()
	n := r.latest.Load()
	r.slots[n%parts].Store(pack(n, countMask/4, countMask))
	if hits, calls := o.Add(0, true); hits != countMask/8+1 || calls != countMask/2+1 {
		t.Errorf("%d of %d, want one of each more than half of %d of %d", hits, calls, countMask/4, countMask)
	}
}

// A late call neither moves the window back nor empties it.
func TestRing_advance_late(t *testing.T) {
	r := newRing(20)
	r.add(13, true)
	if !r.advance(12, 15) || r.latest.Load() != 20 {
		t.Errorf("the newest part is %d, want 20", r.latest.Load())
	}
	if hits, _ := r.sum(20); hits != 1 {
		t.Errorf("%d hits, want 1", hits)
	}
}

// A call that loses the exchange to an older part still moves the window on.
func TestRing_advance_lostExchange(t *testing.T) {
	r := newRing(13)
	if !r.advance(12, 15) || r.latest.Load() != 15 {
		t.Errorf("the newest part is %d, want 15", r.latest.Load())
	}
}

// A dead ring stays dead.
func TestRing_advance_dead(t *testing.T) {
	r := newRing(12)
	r.latest.Store(dead)
	if r.advance(12, 15) || r.latest.Load() != dead {
		t.Errorf("the newest part is %d, want dead", r.latest.Load())
	}
}

// A call in a part that was replaced is not counted.
func TestRing_add_replacedPart(t *testing.T) {
	r := newRing(20)
	r.add(15, false)
	r.add(5, true) // the part that part 15 replaced
	if hits, calls := r.sum(20); hits != 0 || calls != 1 {
		t.Errorf("%d of %d, want 0 of 1", hits, calls)
	}
}
