package window

import (
	"math"
	"sync/atomic"

	"github.com/resilience-go/resilience/internal/vclock"
)

// parts is how many parts a window of time has: it moves on by one of them.
const parts = 10

// Over counts the calls of the last so many nanoseconds, to a tenth of that, and
// the hits among them: calls that failed, or were slow.
//
// A clock that is set back by less than the window leaves the window where it is
// until the clock has caught up; set back further, the window starts anew.
type Over struct {
	clock *vclock.Clock
	part  uint64 // its length in ns
	ring  atomic.Pointer[ring]
}

// A ring holds the parts of one window. If no call came for as long as a window,
// or the clock was set back by as much, another ring takes its place, so that there
// is nothing old to be taken for new. Making latest dead comes first, so that
// nobody can move the old ring on meanwhile and count in it.
type ring struct {
	latest atomic.Uint64 // number of the newest part; it only grows, and ends as dead
	// slots are the parts, by their number modulo parts:
	//
	//	number 16, modulo | hits 24 | calls 24
	//
	// Their writers are the calls. The first call of a part replaces the one that
	// is a window older.
	slots [parts]atomic.Uint64
}

const dead = math.MaxUint64

const (
	countBits = 24
	countMask = 1<<countBits - 1
)

// NewOver returns an empty window of that many nanoseconds, at least parts. It is
// now by the clock, which NewOver does not read: that is code of the user.
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

// number returns the number of the part at a time in ns. The first one has a
// whole window before it.
func (o *Over) number(now int64) uint64 { return uint64(now)/o.part + parts }

// Add counts a call that ended at the time now. It returns the hits and the calls
// of the window that ends with it.
func (o *Over) Add(now int64, hit bool) (hits, calls int) {
	n := o.number(now)
	for {
		r := o.ring.Load()
		latest := r.latest.Load()
		if latest != dead && n+parts <= latest {
			// Either the clock was set back, or this goroutine has been asleep for a
			// window since it read the clock.
			n = o.number(o.clock.Nanos())
		}
		if latest == dead || n+parts <= latest || n >= latest+parts {
			if r.latest.CompareAndSwap(latest, dead) {
				o.ring.CompareAndSwap(r, newRing(n)) // or somebody else has
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

// advance makes n the newest part, or finds a newer one, and empties those on the
// way to it, so that no number is ever compared with one of a distant past. It
// reports whether the ring is still in use.
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

// add counts a call in part n. If that part was replaced just now by one a window
// younger, or the ring is dead by now, the call is no longer in the window, and is
// not counted.
func (r *ring) add(n uint64, hit bool) {
	slot := &r.slots[n%parts]
	for {
		w := slot.Load()
		if !same(w, n) {
			return
		}
		hits, calls := w>>countBits&countMask, w&countMask
		if calls == countMask { // keep the ratio
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
