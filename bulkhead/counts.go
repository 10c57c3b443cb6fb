package bulkhead

import "sync/atomic"

// counts are the counters of the calls of one bulkhead. The calls in flight follow from
// them, so that a call costs one addition when it arrives and one when it ends.
type counts struct {
	// arrived counts the calls that arrived, without those that left without a slot.
	arrived atomic.Int64
	// departed counts the calls that had a slot and have ended, in two fields of one word:
	//
	//	lasting operations that had answered 20 bits | all calls 44 bits
	//
	// The upper field wraps. Calls write it when they end.
	departed atomic.Uint64
	queued   atomic.Int64
}

const (
	// departedBits is the width of the lower field of departed. 44 bits last for 55 years
	// at 10 000 calls a second.
	departedBits = 44
	// lastingEnded adds one to both fields of departed.
	lastingEnded = 1<<departedBits | 1
)

// departure returns what the end of a lasting operation adds to departed. A call that
// failed when it returned never went on, so it is not in the upper field.
func departure(err error) uint64 {
	if err != nil {
		return 1
	}
	return lastingEnded
}

// here returns how many calls have arrived and not left.
func here(arrived int64, departed uint64) int64 {
	return int64((uint64(arrived)-departed)<<(64-departedBits)) >> (64 - departedBits)
}

// completed returns how many calls had a slot and have ended.
func (c *counts) completed() uint64 { return c.departed.Load() & (1<<departedBits - 1) }

// inFlight returns how many calls hold a slot. It never counts a queued call. A call that
// is about to be queued or rejected may be counted for a moment.
func (c *counts) inFlight() int64 {
	queued, departed := c.queued.Load(), c.departed.Load()
	return max(0, here(c.arrived.Load(), departed)-queued)
}
