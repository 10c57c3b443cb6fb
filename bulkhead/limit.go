package bulkhead

import (
	"context"

	"github.com/resilience-go/resilience"
)

const (
	minLimit  = 24
	headroom  = 3    // limit per call usually in flight
	smoothing = 32   // the moving average takes one part in so many of each call
	decay     = 1024 // high loses one part in so many with each call

	fraction = 12 // binary digits behind the point of avg and high
)

// answered is a Bulkhead that hears when operations have answered, and sizes its
// limit by that.
type answered Bulkhead

// Settle adds a call to the load, a word that holds
//
//	average in flight 32 | high 32
//
// in fixed point. Its writers are the calls as they answer; who loses the
// exchange starts again from what the winner left. A load that stays as it is is
// not written, as with one caller that makes one call after another.
func (a *answered) Settle(_ uint64, err error) {
	b := (*Bulkhead)(a)
	var inFlight int64
	if resilience.OutcomeOf(context.Background(), err, nil) == resilience.Success {
		inFlight = b.inFlight()
	}
	for {
		w := b.load.Load()
		avg, high := int64(w>>32), int64(w&(1<<32-1))
		avg += (inFlight<<fraction - avg) / smoothing
		high = max(avg, high-high/decay)
		next := uint64(avg)<<32 | uint64(high)
		if next == w || b.load.CompareAndSwap(w, next) {
			if want := max(minLimit, headroom*high>>fraction); want != b.limit.Load() {
				b.resize(want)
			}
			return
		}
	}
}

// resize moves the limit towards want by giving out tokens of the semaphore that
// were held back, or holding back free ones. If another goroutine is at it, or
// too few are free, the next call that answers tries again.
func (b *Bulkhead) resize(want int64) {
	if !b.mu.TryLock() {
		return
	}
	defer b.mu.Unlock()
	switch d := want - b.limit.Load(); {
	case d > 0:
		b.limit.Store(want)
		b.sem.Release(d)
	case d < 0 && b.sem.TryAcquire(-d):
		b.limit.Store(want)
	}
}

// inFlight never counts a caller that waits; one that leaves meanwhile may still
// be in it.
func (b *Bulkhead) inFlight() int64 {
	departed, waiting := b.departed.Load(), b.waiting.Load()
	return max(0, min(b.arrived.Load()-departed-waiting, 1<<(31-fraction)))
}
