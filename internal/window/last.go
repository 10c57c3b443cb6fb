// Package window counts calls, and how many of them failed or were slow, over the last calls
// or over a time. It takes no locks.
package window

import (
	"math"
	"sync/atomic"
	"time"
)

// Last reports when a number of the last calls failed, such as 5 of the last 10. It numbers
// the calls and remembers the newest failures, as many as the rule needs. If the oldest of
// these is among the last calls, all of them are. So a success costs one addition, and
// there is no window that could roll at the wrong moment.
//
// Before the first calls are complete, the missing calls count as successes. So the rule
// holds early if there are enough failures.
type Last struct {
	size  uint64
	calls atomic.Uint64
	// newest holds the failures with the highest numbers, in no order. An entry is 0 if
	// there is no failure yet, and otherwise:
	//
	//	number of the call 44 bits | time 20 bits, in units of 2^26 ns, modulo
	//
	// Calls that fail write it. Each replaces the lowest entry that it finds, and searches
	// again if it loses the exchange. Entries only grow, so the lowest entry of the search
	// is still the lowest if the exchange succeeds.
	newest []atomic.Uint64
}

const (
	// timeBits is the width of the time in an entry. The time wraps after 19 hours.
	timeBits = 20
	// timeUnit is the binary logarithm of the unit of that time: 2^26 ns are 67 ms, which
	// is exact enough for a text.
	timeUnit = 26
	// timeMask selects the time in an entry.
	timeMask = 1<<timeBits - 1
)

// NewLast returns a Last whose rule is failures of the last size calls. Both are at least 1.
func NewLast(size, failures int) *Last {
	return &Last{size: uint64(size), newest: make([]atomic.Uint64, failures)}
}

// Succeed counts a call that did not fail.
func (l *Last) Succeed() { l.calls.Add(1) }

// Fail counts a call that failed at the time now, in ns, and reports whether the rule holds.
// If so, calls and span are what Count would have returned right after the newest of these
// failures.
func (l *Last) Fail(now int64) (calls int, span time.Duration, holds bool) {
	l.insert(l.calls.Add(1)<<timeBits | uint64(now>>timeUnit)&timeMask)
	_, lowest, highest, _ := l.scan(0)
	number := highest >> timeBits
	holds = lowest>>timeBits > 0 && number-lowest>>timeBits < l.size
	return int(min(number, l.size)), since(lowest, now), holds
}

// since returns the time from a failure to now.
func since(failure uint64, now int64) time.Duration {
	return time.Duration((uint64(now>>timeUnit)-failure)&timeMask) << timeUnit
}

// insert replaces the lowest failure with a newer one.
func (l *Last) insert(failure uint64) {
	for {
		_, lowest, _, at := l.scan(0)
		if lowest >= failure || l.newest[at].CompareAndSwap(lowest, failure) {
			return
		}
	}
}

// scan returns how many failures are at least least, the lowest and the highest of them, and
// the index of the lowest.
func (l *Last) scan(least uint64) (n int, lowest, highest uint64, at int) {
	lowest = math.MaxUint64
	for i := range l.newest {
		f := l.newest[i].Load()
		if f < least {
			continue
		}
		n++
		if highest = max(highest, f); f < lowest {
			lowest, at = f, i
		}
	}
	return n, lowest, highest, at
}

// Count returns how many of the last calls failed, at most as many as the rule needs, and
// how many calls there were. first and last are the times from the first and the last of
// these failures to now, exact to a fifteenth of a second.
func (l *Last) Count(now int64) (failed, calls int, first, last time.Duration) {
	number := l.calls.Load()
	in := min(number, l.size)
	failed, lowest, highest, _ := l.scan((number - in + 1) << timeBits)
	if failed > 0 {
		first, last = since(lowest, now), since(highest, now)
	}
	return failed, int(in), first, last
}
