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
// slots were exceeded for twice the time that calls usually take, at least 25 ms, less than three
// quarters as many calls have answered as were admitted. Before the first success that time is not
// known.
//
// A pause is the time from when the slots were exceeded, without evidence of timeouts, to the next
// success, if that is longer than a burst may last and at most two seconds. For 30 s after a pause,
// calls may exceed the slots even with evidence: in a further silence for 5/4 of the pause and
// 25 ms, and after a pause for its length, while those that waited are answered. So the first pause
// costs calls, and the next ones of its length do not.
type burst struct {
	usual       float64 // how long calls that succeed take, in nanoseconds, 0 before the first one
	timedOut    int64   // when a call last timed out
	began       flow    // when the slots were exceeded, or calls last answered as fast as they came
	at          int64   // the time of that
	silentSince int64   // when a silence began that may be a pause, 0 if there is none
	pause       int64   // how long the last pause took
	pauseEnded  int64   // when it ended
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
	// longestPause is how long a pause may take. A collection of garbage and a lock take less.
	longestPause = int64(2 * time.Second)
)

func newBurst() burst { return burst{timedOut: math.MinInt64 / 2} }

// succeeded records that a call has succeeded, and reports whether that ended a pause. took is 0 if
// it is not known.
func (b *burst) succeeded(now, took int64) (endsPause bool) {
	if silence := now - b.silentSince; b.silentSince != 0 && b.usual > 0 && silence > b.patience() && silence <= longestPause {
		b.pause, b.pauseEnded, endsPause = silence, now, true
	}
	b.silentSince = 0
	if b.usual == 0 {
		b.usual = float64(took)
	}
	if took > 0 {
		b.usual += (float64(took) - b.usual) / smoothing
	}
	return endsPause
}

// patience returns how long the slots may be exceeded while calls do not answer.
func (b *burst) patience() int64 { return max(leastBurst, int64(2*b.usual)) }

// timeoutsAreEvidence reports whether that share of timeouts is evidence now.
func (b *burst) timeoutsAreEvidence(now int64, timeouts float64) bool {
	return timeouts > evidence && now-b.timedOut < halfLife
}

// waits reports whether calls wait for a pause to end, or leave the queue after one.
func (b *burst) waits(now int64) bool {
	silence, since := now-b.silentSince, now-b.pauseEnded
	if b.pause == 0 || since < 0 || since >= halfLife {
		return false
	}
	return since < b.pause || b.silentSince != 0 && silence >= 0 && silence < b.pause*5/4+leastBurst
}

// admits reports whether one more call may be in flight than there are slots, with that share of
// timeouts.
func (b *burst) admits(now, slots, wanted int64, f flow, timeouts float64) bool {
	if slots <= wanted {
		b.began, b.at = f, now
		if b.silentSince == 0 && !b.timeoutsAreEvidence(now, timeouts) {
			b.silentSince = now
		}
	}
	if slots >= mostSlots {
		return false
	}
	if b.waits(now) {
		return true
	}
	if b.timeoutsAreEvidence(now, timeouts) {
		return false
	}
	if b.usual == 0 || now-b.at <= b.patience() {
		return true
	}
	if admitted, answered := f.admitted-b.began.admitted, f.answered-b.began.answered; 4*answered < 3*admitted {
		return false
	}
	b.began, b.at = f, now
	return true
}
