package bulkhead

import (
	"math"
	"time"
)

// A burst decides whether calls may exceed the slots that the bulkhead wants. It has no clock
// and no lock.
//
// Calls may exceed the slots unless there is evidence that the dependency hangs. Evidence is that
// over one of five recent calls has timed out, for 30 s, or that calls do not answer: while the
// slots were exceeded for twice the time that calls usually take, less than three quarters as many
// calls have answered as were admitted. Before the first success that time is not known.
type burst struct {
	usual    float64 // how long calls that succeed take, in nanoseconds, 0 before the first one
	timedOut int64   // when a call last timed out
	began    flow    // when the slots were exceeded, or calls last answered as fast as they came
	at       int64   // the time of that
}

// A flow is how many calls have been admitted, and how many of them have answered or ended.
type flow struct{ admitted, answered int64 }

const (
	// mostSlots is how many slots there can be without evidence. It protects memory.
	mostSlots = 10_000
	// evidence is the share of timeouts from which on they are evidence.
	evidence = 0.2
	// leastBurst is how long the slots may be exceeded, at least: a process may be paused for
	// some milliseconds.
	leastBurst = int64(25 * time.Millisecond)
)

func newBurst() burst { return burst{timedOut: math.MinInt64 / 2} }

// succeeded records that a call has succeeded. took is 0 if it is not known.
func (b *burst) succeeded(took int64) {
	if took == 0 {
		return
	}
	if b.usual == 0 {
		b.usual = float64(took)
	}
	b.usual += (float64(took) - b.usual) / smoothing
}

// timeOut reports whether that share of timeouts is evidence now.
func (b *burst) timeOut(now int64, timeouts float64) bool {
	return timeouts > evidence && now-b.timedOut < halfLife
}

// admits reports whether one more call may be in flight than there are slots, with that share of
// timeouts.
func (b *burst) admits(now, slots, wanted int64, f flow, timeouts float64) bool {
	if slots <= wanted {
		b.began, b.at = f, now
	}
	if slots >= mostSlots || b.timeOut(now, timeouts) {
		return false
	}
	if b.usual == 0 || now-b.at <= max(leastBurst, int64(2*b.usual)) {
		return true
	}
	if admitted, answered := f.admitted-b.began.admitted, f.answered-b.began.answered; 4*answered < 3*admitted {
		return false
	}
	b.began, b.at = f, now
	return true
}
