// Package window counts calls, and those among them that went badly, over the last
// of them or over a time. Nothing in it takes a lock.
package window

import (
	"math"
	"sync/atomic"
	"time"
)

// Last tells when so many of the last calls failed. It numbers the calls and
// remembers the newest failures, as many as it takes: if the oldest of these is
// among the last calls, all are. So a success costs one addition, and there is no
// window that could roll at the wrong moment.
//
// The calls that have not come yet count as successes: it does not wait for the
// first calls to be complete if their failures suffice.
type Last struct {
	size  uint64
	calls atomic.Uint64
	// newest holds the failures with the highest numbers, in no order, 0 where
	// there is none yet:
	//
	//	number of the call 44 | time 20, in units of 2^26 ns, modulo
	//
	// Its writers are the calls that fail. Each replaces the lowest one that it
	// finds; who loses the exchange looks again. A slot only ever grows, so the
	// lowest one at the look is still the lowest one if the exchange succeeds.
	newest []atomic.Uint64
}

const (
	timeBits = 20
	timeUnit = 26 // the time counts in units of 2^26 ns, 67 ms
	timeMask = 1<<timeBits - 1
)

// NewLast returns a Last that takes failures of the last size calls; both are at
// least 1.
func NewLast(size, failures int) *Last {
	return &Last{size: uint64(size), newest: make([]atomic.Uint64, failures)}
}

// Succeed counts a call that did not fail.
func (l *Last) Succeed() { l.calls.Add(1) }

// Fail counts a call that failed at the time now, in ns, and reports whether as
// many of the last calls failed as it takes; then calls and span are what Count
// would have returned with the newest of these failures.
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

func (l *Last) insert(failure uint64) {
	for {
		_, lowest, _, at := l.scan(0)
		if lowest >= failure || l.newest[at].CompareAndSwap(lowest, failure) {
			return
		}
	}
}

// scan returns how many failures are not below least, the lowest and the highest of
// them, and where the lowest is.
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

// Count returns how many of how many calls failed, no more than it takes, and the
// times from the first and from the last of these failures to now, which are known
// to a fifteenth of a second.
func (l *Last) Count(now int64) (failed, calls int, first, last time.Duration) {
	number := l.calls.Load()
	in := min(number, l.size)
	failed, lowest, highest, _ := l.scan((number - in + 1) << timeBits)
	if failed > 0 {
		first, last = since(lowest, now), since(highest, now)
	}
	return failed, int(in), first, last
}
