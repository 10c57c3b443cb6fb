package window

import (
	"sync/atomic"
	"time"
)

// MaxAge is how long a run of failures is evidence without being renewed. It is longer
// than a dependency that fails and gets a call a second needs to open a breaker.
const MaxAge = 10 * time.Second

// Age is the age of a run of failures: how long no call has been in flight since the last
// failure, in total. A run older than MaxAge is no evidence any more. The time of a call in
// flight does not count, because the call may fail by hanging. Calls that end without a
// failure, however many, do not make the run younger.
//
// Only calls that begin during the run enter and leave, so a call of a healthy dependency
// costs nothing.
//
// The zero value is the age of no run. Times are in ns. Age is safe for concurrent use.
type Age struct {
	// word has the calls in flight in its upper 20 bits. While there are none, the lower
	// 44 bits are the time at which the run had the age 0. Otherwise they are the age. Both
	// are in ms.
	word atomic.Uint64
}

const (
	ageBits = 44
	ageMask = 1<<ageBits - 1
	oneCall = 1 << ageBits
)

// Enter counts a call that begins during the run. A run that is Old must have ended before.
func (a *Age) Enter(now int64) {
	for {
		w := a.word.Load()
		if a.word.CompareAndSwap(w, w&^ageMask+oneCall|ageOf(w, now)) {
			return
		}
	}
}

// Leave ends a call that has entered.
func (a *Age) Leave(now int64) {
	for {
		w := a.word.Load()
		next := w - oneCall
		if next < oneCall { // the last call
			next = bornAt(w&ageMask, now)
		}
		if a.word.CompareAndSwap(w, next) {
			return
		}
	}
}

// Renew makes the age 0. It is called with each failure of the run.
func (a *Age) Renew(now int64) {
	for {
		w := a.word.Load()
		next := w &^ ageMask
		if w < oneCall {
			next = bornAt(0, now)
		}
		if next == w || a.word.CompareAndSwap(w, next) {
			return
		}
	}
}

// Old reports whether the run is too old.
func (a *Age) Old(now int64) bool {
	w := a.word.Load()
	return w < oneCall && ageOf(w, now) >= uint64(MaxAge.Milliseconds())
}

// ageOf returns the age in a word, in ms. If the clock was set back, it is 0.
func ageOf(w uint64, now int64) uint64 {
	if w >= oneCall {
		return w & ageMask
	}
	return uint64(max(0, now/int64(time.Millisecond)-int64(w))) & ageMask
}

// bornAt returns the time at which a run of that age had the age 0.
func bornAt(age uint64, now int64) uint64 {
	return uint64(max(0, now/int64(time.Millisecond)-int64(age))) & ageMask
}
