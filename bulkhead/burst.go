package bulkhead

import (
	"time"
)

// A burst decides whether calls may exceed the slots that the bulkhead wants. It has no clock
// and no lock.
//
// Calls may exceed the slots unless there is evidence that the dependency hangs. Calls are judged in
// the order in which they were admitted, because a call that hangs ends long after those that were
// admitted with it. Of the calls admitted since a beginning, a quarter must have answered, and a third
// of the first 24. Otherwise they hang. That is evidence if three of them have timed out, or if the
// slots have been exceeded for twice the time that calls usually take, at least 25 ms. Before the
// first success that time is not known. The beginning is the last moment at which three quarters
// had answered, but at most two timeouts ago. It is at least one timeout ago then, so all calls in
// flight are among those that are judged.
//
// A pause is the time from when the slots were exceeded, before three calls timed out, to the next
// success, if that is longer than a burst may last and at most two seconds. For 30 s after a pause,
// calls may exceed the slots even with evidence: in a further silence for 5/4 of the pause and
// 25 ms, and after a pause for its length, while those that waited are answered. So the first pause
// costs calls, and the next ones of its length do not.
type burst struct {
	usual       float64 // how long calls that succeed take, in nanoseconds, 0 before the first one
	timeouts    int64   // calls that have timed out
	began       flow    // the beginning of the calls that are judged
	next        flow    // the beginning that follows
	nextAt      int64   // the time of that
	at          int64   // when the slots were exceeded
	silentSince int64   // when a silence began that may be a pause, 0 if there is none
	pause       int64   // how long the last pause took
	pauseEnded  int64   // when it ended
}

// A flow is how many calls have been admitted, how many of them have answered or ended other than
// by a timeout, and how many have timed out.
type flow struct{ admitted, answered, timeouts int64 }

// since returns the part of f that came after before.
func (f flow) since(before flow) flow {
	return flow{f.admitted - before.admitted, f.answered - before.answered, f.timeouts - before.timeouts}
}

const (
	// mostSlots is how many slots there can be without evidence. It protects memory.
	mostSlots = 10_000
	// leastJudged is how many calls must have been admitted to be evidence: as many as fit into the
	// fewest slots.
	leastJudged = minSlots
	// hung is how many calls are taken to have hung before those that are judged. So a third of
	// leastJudged must have answered, and a quarter of many calls. If a quarter of leastJudged were
	// enough, a dependency that hangs for 82 % of the calls would use up a pool of 50 in one of three
	// runs of the simulation. If a third of many calls were needed, the calls to a dependency that
	// hangs for 60 % would be rejected.
	hung = 8
	// leastTimeouts is how many timeouts are evidence. One or two may be chance.
	leastTimeouts = 3
	// leastBurst is how long the slots may be exceeded, at least: a process may be paused for
	// some milliseconds.
	leastBurst = int64(25 * time.Millisecond)
	// longestPause is how long a pause may take. A collection of garbage and a lock take less.
	longestPause = int64(2 * time.Second)
)

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

// move moves the beginning of the calls that are judged, which have come to f. timeout is how long
// a call takes that times out, 0 if that is not known.
func (b *burst) move(now int64, f flow, timeout int64) {
	span := halfLife
	if timeout > 0 {
		span = max(timeout, longestPause)
	}
	switch calls, age := f.since(b.began), now-b.nextAt; {
	case 4*calls.answered >= 3*calls.admitted || age > 2*span:
		b.began, b.next, b.nextAt = f, f, now
	case age > span:
		b.began, b.next, b.nextAt = b.next, f, now
	}
}

// hang reports whether the calls that are judged hang.
func (b *burst) hang(f flow) bool {
	calls := f.since(b.began)
	return calls.admitted >= leastJudged && calls.admitted+hung > 4*calls.answered
}

// timeOut reports whether so many of the calls that are judged have timed out that this is no
// chance.
func (b *burst) timeOut(f flow) bool { return f.since(b.began).timeouts >= leastTimeouts }

// waits reports whether calls wait for a pause to end, or leave the queue after one.
func (b *burst) waits(now int64) bool {
	silence, since := now-b.silentSince, now-b.pauseEnded
	if b.pause == 0 || since < 0 || since >= halfLife {
		return false
	}
	return since < b.pause || b.silentSince != 0 && silence >= 0 && silence < b.pause*5/4+leastBurst
}

// admits reports whether one more call may be in flight than there are slots.
func (b *burst) admits(now, slots, wanted int64, f flow, timeout int64) bool {
	b.move(now, f, timeout)
	if slots <= wanted {
		b.at = now
		if b.silentSince == 0 && !b.timeOut(f) {
			b.silentSince = now
		}
	}
	switch {
	case slots >= mostSlots:
		return false
	case b.waits(now) || !b.hang(f):
		return true
	}
	return !b.timeOut(f) && (b.usual == 0 || now-b.at <= b.patience())
}
