package bulkhead

import "sync/atomic"

// counts are the calls of one bulkhead. No count of
// those who hold a slot is kept beside them, so that a call costs one addition
// when it comes and one when it ends.
type counts struct {
	// came are those who came, less those who left without a slot.
	came atomic.Int64
	// departed are those who had a slot, and have ended:
	//
	//	lasting operations that answered 20 | all 44
	//
	// The upper one wraps. Written by calls as they end.
	departed atomic.Uint64
	waiting  atomic.Int64 // in line
}

const (
	departedBits = 44
	lastingEnded = 1<<departedBits | 1 // one of each
)

// here are those who came and have not left.
func here(came int64, departed uint64) int64 {
	return int64((uint64(came)-departed)<<(64-departedBits)) >> (64 - departedBits)
}

func (c *counts) completed() uint64 { return c.departed.Load() & (1<<departedBits - 1) }

// inFlight never counts a caller that waits; one that is about to wait or to be
// refused may be in it for a moment.
func (c *counts) inFlight() int64 {
	waiting, departed := c.waiting.Load(), c.departed.Load()
	return max(0, here(c.came.Load(), departed)-waiting)
}

// come adds n to those who came, and returns them.
func (b *Bulkhead) come(n int64) int64 { return b.came.Add(n) }

// line adds n to the callers that are queued.
func (b *Bulkhead) line(n int64) { b.waiting.Add(n) }

// depart counts one who had a slot.
func (b *Bulkhead) depart(add uint64) {
	if b != b.root {
		b.forksCompleted.Add(1)
	}
	b.departed.Add(add)
}

// look returns how many calls have been admitted, how many of them are in flight,
// and how many of those have answered. Those who have just come and will wait or be
// refused are not told from the admitted, but there are never more in flight than
// the limit.
func (b *Bulkhead) look() (admitted, inFlight, goingOn int64) {
	waiting, departed := b.waiting.Load(), b.departed.Load()
	goingOn = int64((b.wentOn.Load()-departed>>departedBits)<<departedBits) >> departedBits
	admitted = b.came.Load() - waiting
	inFlight = here(admitted, departed)
	if undecided := inFlight - b.limit.Load(); undecided > 0 {
		admitted, inFlight = admitted-undecided, inFlight-undecided
	}
	return admitted, inFlight, max(0, goingOn)
}
