package bulkhead

// A ticket is what a bulkhead that sizes itself knows of an admitted call, in two fields of
// one word:
//
//	number among the admitted calls 32 bits | time of admission 32 bits
//
// The number and the time wrap. The time is 0 if the call is not timed.
type ticket uint64

const (
	// tick is the unit of a ticket's time as a power of two, in nanoseconds: 65 µs.
	tick = 16
	// timedShare is how many calls there are for each one that is timed, while there are many
	// of them: a reading of the clock takes as long as the rest of a call in the bulkhead.
	timedShare = 64
	// manyCalls is how many calls a second are many, and rateCalls how many calls that is
	// measured with.
	manyCalls = 4000
	rateCalls = 64
)

// ticket returns the ticket of the n-th admitted call.
func (b *Bulkhead) ticket(n int64) ticket {
	if b.cfg.Slots != 0 {
		return 0
	}
	t := ticket(uint32(n)) << 32
	if n&b.untimed.Load() == 0 {
		t |= ticket(max(1, uint32(b.clock.Nanos()>>tick)))
	}
	return t
}

// number returns the call's number when so many calls have been admitted.
func (t ticket) number(admitted int64) int64 {
	return admitted - int64(int32(uint32(admitted)-uint32(t>>32)))
}

func (t ticket) timed() bool { return uint32(t) != 0 }

// took returns how long the call took until now, in nanoseconds. It returns 0 if that is not
// known: the call is not timed, it took over 39 hours, or the clock was set back.
func (t ticket) took(now int64) int64 {
	d := int32(uint32(now>>tick) - uint32(t))
	if !t.timed() || d < 0 {
		return 0
	}
	return max(1, int64(d)<<tick)
}
