package window

import (
	"sync/atomic"
	"time"
)

// MaxAge is how long a run of failures is evidence without being renewed. A breaker that gets
// one call a second opens within it if all calls fail.
const MaxAge = 10 * time.Second

// Age is the age of a run of failures. A run is too old after MaxAge in which it has not
// grown and no call was in flight. A call in flight keeps the run, because it may hang.
//
// Only calls that begin during the run enter and leave, so that a call of a healthy
// dependency costs nothing. A call that began before the run ends by renewing it.
//
// The zero value is the age of no run. Times are in ns. Age is safe for concurrent use.
type Age struct {
	// word has the number of calls in flight in its upper 20 bits. Its lower 44 bits are a
	// time in ms: of the last failure, or of the last call that began or ended.
	word atomic.Uint64
}

const (
	lastBits = 44
	lastMask = 1<<lastBits - 1
	oneCall  = 1 << lastBits
)

// Enter counts a call that begins during the run. If the run is too old, Enter returns true
// to one of the calls that begin at that time.
func (a *Age) Enter(now int64) (old bool) {
	for {
		w := a.word.Load()
		if a.word.CompareAndSwap(w, at(w+oneCall, now)) {
			return tooOld(w, now)
		}
	}
}

// Leave ends a call that has entered.
func (a *Age) Leave(now int64) {
	for {
		w := a.word.Load()
		if a.word.CompareAndSwap(w, at(w-oneCall, now)) {
			return
		}
	}
}

// Renew is called with each failure of the run.
func (a *Age) Renew(now int64) {
	for {
		w := a.word.Load()
		if next := at(w, now); next == w || a.word.CompareAndSwap(w, next) {
			return
		}
	}
}

// Old reports whether the run is too old.
func (a *Age) Old(now int64) bool { return tooOld(a.word.Load(), now) }

// at returns w with the time now.
func at(w uint64, now int64) uint64 {
	return w&^lastMask | uint64(now/int64(time.Millisecond))&lastMask
}

// tooOld reports whether a run with that word is too old at now. If the clock was set back,
// the run is not too old, and the next call begins its age again.
func tooOld(w uint64, now int64) bool {
	idle := now/int64(time.Millisecond) - int64(w&lastMask)
	return w < oneCall && idle >= MaxAge.Milliseconds()
}
