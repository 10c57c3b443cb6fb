package window

import (
	"math"
	"sync/atomic"

	"github.com/resilience-go/resilience/internal/vclock"
)

// parts is how many parts a window of time has. The window moves on by one part, so its
// length is exact to a tenth.
const parts = 10

// Over counts the calls in a window of time that ends now, exact to a tenth of the window.
// It also counts the hits among them: the calls that failed or were slow.
//
// If the clock is set back by less than the window, the window stays until the clock has
// caught up. If the clock is set back further, the window starts again.
type Over struct {
	clock *vclock.Clock
	part  uint64 // the length of a part in ns
	ring  atomic.Pointer[ring]
}

// A ring holds the parts of one window. If no call came during a whole window, or the clock
// was set back by that much, a new ring replaces it, so that old counts are not taken for
// new ones. Before that, latest is set to dead, so that no other goroutine can move the old
// ring on and count in it.
type ring struct {
	latest atomic.Uint64 // the number of the newest part; it only grows, up to dead
	// slots are the parts, by their number modulo parts:
	//
	//	number 16 bits, modulo | hits 24 bits | calls 24 bits
	//
	// Calls write them. The first call of a part replaces the part that is a window older.
	slots [parts]atomic.Uint64
}

// dead is the latest of a ring that is no longer in use. No part has this number.
const dead = math.MaxUint64

const (
	// countBits is the width of a count in a slot: 16 million calls per part.
	countBits = 24
	// countMask selects a count in a slot.
	countMask = 1<<countBits - 1
)

// NewOver returns an empty window of that many nanoseconds, at least parts. now is the time
// of the clock. NewOver does not read the clock, because that may be user code.
func NewOver(window, now int64, clock *vclock.Clock) *Over {
	o := &Over{clock: clock, part: uint64(window / parts)}
	o.ring.Store(newRing(o.number(now)))
	return o
}

func newRing(latest uint64) *ring {
	r := &ring{}
	r.latest.Store(latest)
	for n := latest; n+parts > latest; n-- {
		r.slots[n%parts].Store(pack(n, 0, 0))
	}
	return r
}

// number returns the number of the part at a time in ns. The first number is parts, so that
// a whole window precedes it.
func (o *Over) number(now int64) uint64 { return uint64(now)/o.part + parts }

// Add counts a call that ended at the time now. It returns the hits and the calls
// of the window that ends with it.
func (o *Over) Add(now int64, hit bool) (hits, calls int) {
	n := o.number(now)
	for {
		r := o.ring.Load()
		latest := r.latest.Load()
		if latest != dead && n+parts <= latest {
			// The clock was set back, or this goroutine did not run for a whole window after
			// it read the clock.
			n = o.number(o.clock.Nanos())
		}
		if latest == dead || n+parts <= latest || n >= latest+parts {
			if r.latest.CompareAndSwap(latest, dead) {
				o.ring.CompareAndSwap(r, newRing(n)) // unless another goroutine has
			}
			continue
		}
		if n > latest && !r.advance(latest, n) {
			continue
		}
		r.add(n, hit)
		return r.sum(max(n, latest))
	}
}

// advance makes n the newest part, unless there is a newer one. It empties the parts between
// latest and n, so that the 16 bits of a number are never compared with a number of long
// ago. It reports whether the ring is still in use.
func (r *ring) advance(latest, n uint64) bool {
	for i := latest + 1; i <= n; i++ {
		slot := &r.slots[i%parts]
		for w := slot.Load(); older(w, i) && !slot.CompareAndSwap(w, pack(i, 0, 0)); w = slot.Load() {
		}
	}
	for latest < n && !r.latest.CompareAndSwap(latest, n) {
		latest = r.latest.Load()
	}
	return latest != dead
}

// add counts a call in part n. If a part that is a window newer has just replaced part n, or
// the ring is dead, the call is no longer in the window and is not counted.
func (r *ring) add(n uint64, hit bool) {
	slot := &r.slots[n%parts]
	for {
		w := slot.Load()
		if !same(w, n) {
			return
		}
		hits, calls := w>>countBits&countMask, w&countMask
		if calls == countMask { // halve both to keep the ratio
			hits, calls = hits/2, calls/2
		}
		if hit {
			hits++
		}
		if slot.CompareAndSwap(w, pack(n, hits, calls+1)) {
			return
		}
	}
}

// sum returns the counts of the window that ends with part n.
func (r *ring) sum(n uint64) (hits, calls int) {
	for i := n; i+parts > n; i-- {
		if w := r.slots[i%parts].Load(); same(w, i) {
			hits += int(w >> countBits & countMask)
			calls += int(w & countMask)
		}
	}
	return hits, calls
}

// Count returns the hits and the calls of the window that ends now.
func (o *Over) Count(now int64) (hits, calls int) {
	r, n := o.ring.Load(), o.number(now)
	if latest := r.latest.Load(); n+parts <= latest || n >= latest+parts {
		return 0, 0
	} else if n < latest {
		n = latest
	}
	return r.sum(n)
}

func pack(n, hits, calls uint64) uint64 { return n<<(2*countBits) | hits<<countBits | calls }

func same(w, n uint64) bool { return w>>(2*countBits) == n&(1<<16-1) }

// older reports whether the part in w comes before n.
func older(w, n uint64) bool { return int16(uint16(w>>(2*countBits))-uint16(n)) < 0 }
