package breaker

import (
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
)

const (
	leaseBits = 12             // of a token: the number of the slot
	idBits    = 32 - leaseBits // of a token and of a lease: the id of the lease
	maxCredit = 1<<leaseBits - 1
)

// A half has what only a HALF_OPEN episode needs.
type half struct {
	leases []lease // one for each call that may be in flight
	// runStart is the time of the first of the failures in a row, in ns. The failure that
	// finds no others stores it before it counts itself.
	runStart atomic.Int64
}

// A credit is the word of a HALF_OPEN episode, unpacked.
type credit struct {
	left     int    // calls that may be in flight
	inFlight int    // calls that hold a lease
	failures int    // failures in a row
	newest   uint64 // the id of the newest lease of any breaker at the last success, 0 if there was none
}

// The bits of the fields of a credit in a word, from the lowest. The numbers of calls are at
// most maxCredit + 1.
const (
	callBits    = leaseBits + 1
	failureBits = 2 * callBits          // and above
	newestBits  = failureBits + runBits // and above
)

func unpack(w uint64) credit {
	const calls = 1<<callBits - 1
	return credit{
		left: int(w & calls), inFlight: int(w >> callBits & calls),
		failures: int(w >> failureBits & maxRun), newest: w >> newestBits,
	}
}

func (c credit) pack() uint64 {
	return uint64(c.left) | uint64(c.inFlight)<<callBits | uint64(c.failures)<<failureBits | c.newest<<newestBits
}

// final reports whether c ends the episode. The next one is then being installed.
func (e *episode) final(c credit) bool { return c.left == 0 || c.left > len(e.half.leases) }

// closing reports whether CLOSED is being installed.
func (e *episode) closing() bool { return unpack(e.word.Load()).left > len(e.half.leases) }

// A lease is a slot of HALF_OPEN. It has the id of the call that holds the slot in its
// upper 20 bits and the end of the lease, in ms, in its lower 44. 0 is a free slot.
//
// The goroutine that clears the lease, by compare-and-swap, is the one that counts the
// result. A goroutine that loses the swap is late and does nothing, so each lease is
// settled once.
type lease struct{ atomic.Uint64 }

// never is the end of a lease that does not end.
const never = 1<<(64-idBits) - 1

// lastLease counts the leases of all breakers. The id of a lease must differ from the id of the
// lease that held its slot before, and two ids must show which lease is newer.
var lastLease atomic.Uint64

// ids is how many ids there are, and the mask of an id in a token. They wrap, and 0 is none.
const ids = 1<<idBits - 1

// leaseID returns the id of the n-th lease.
func leaseID(n uint64) uint64 { return n%ids + 1 }

// won reports whether there was a success.
func (c credit) won() bool { return c.newest != 0 }

// admittedBefore reports whether the call with that id was admitted before the last success, if
// there was one. It is right while fewer than half of the ids lie between the two.
func (c credit) admittedBefore(id uint64) bool { return (c.newest+ids-id)%ids < ids/2 }

// take takes a slot at now, in ns, if there is credit for one, and returns its token. If
// the failures in a row are too old, the run ends. end is the end of the lease, in ms.
func (e *episode) take(now, end int64) (token uint64, ok bool) {
	for {
		w := e.word.Load()
		c := unpack(w)
		if e.final(c) || c.inFlight >= c.left {
			return 0, false
		}
		c.inFlight++
		if e.book != nil && e.age.Old(now) {
			c.failures = 0
		}
		if e.word.CompareAndSwap(w, c.pack()) {
			e.age.Enter(now)
			return e.claim(end), true
		}
	}
}

// claim finds a free slot for a call that is counted as in flight. There is one,
// because a slot is freed before its call is taken off the count.
func (e *episode) claim(end int64) uint64 {
	id := leaseID(lastLease.Add(1))
	value := id<<(64-idBits) | uint64(end)
	for {
		for slot := range e.half.leases {
			l := &e.half.leases[slot]
			if l.Load() == 0 && l.CompareAndSwap(0, value) {
				return e.base | uint64(slot)<<idBits | id
			}
		}
	}
}

// free frees the slot of token. It returns when the lease ends, in ms, and whether the
// token still held the slot.
func (e *episode) free(token uint64) (ends int64, held bool) {
	slot, id := token>>idBits&maxCredit, token&ids
	if id == 0 {
		return 0, false
	}
	l := &e.half.leases[slot]
	value := l.Load()
	return int64(value & never), value>>(64-idBits) == id && l.CompareAndSwap(value, 0)
}

// expired reports whether a lease has ended, so that expire would free a slot.
func (e *episode) expired(now, latest int64) bool {
	for slot := range e.half.leases {
		if value := e.half.leases[slot].Load(); value != 0 && leaseEnded(value, now, latest) {
			return true
		}
	}
	return false
}

// leaseEnded reports whether the lease with that value has ended at now. A lease that ends
// later than one taken now was taken before the clock was set back, and has ended too.
func leaseEnded(value uint64, now, latest int64) bool {
	ends := int64(value & never)
	return ends <= now || ends > latest
}

// expire frees the slots whose lease has ended. Before it frees a slot, it reads the clock
// again, because the lease may be newer than now.
func (e *episode) expire(now, latest int64, again func() (now, end int64)) (freed int) {
	for slot := range e.half.leases {
		l := &e.half.leases[slot]
		value := l.Load()
		if value == 0 || !leaseEnded(value, now, latest) {
			continue
		}
		if now, latest = again(); !leaseEnded(value, now, latest) {
			continue
		}
		if l.CompareAndSwap(value, 0) {
			e.leave(now*int64(time.Millisecond), 0, resilience.Ignored, false)
			freed++
		}
	}
	return freed
}

// leave takes a call whose slot is free off the count at now, in ns, and moves the credit
// by its outcome. It returns the credit, whether that ended the episode, and, if a rule of
// Trip ended it, the rule with its counts.
//
// A failure that a rule judges does not count if its call was admitted before the last success:
// it says nothing about the time after that. Otherwise calls that hang would use up the credit
// between the successes of the others, and then look like a run when they time out.
func (e *episode) leave(now int64, token uint64, o resilience.Outcome, timeout bool) (end credit, m match, ended bool) {
	if o == resilience.Failure {
		e.age.Renew(now)
	}
	for {
		w := e.word.Load()
		c := unpack(w)
		if e.final(c) {
			return c, match{}, false
		}
		c.inFlight--
		switch o {
		case resilience.Success:
			c.left++
			c.failures, c.newest = 0, leaseID(lastLease.Load())
		case resilience.Failure:
			if e.judges(c) && c.admittedBefore(token&ids) {
				break
			}
			start := e.half.runStart.Load()
			if c.failures == 0 || now < start { // now < start: the clock was set back
				start = now
				e.half.runStart.Store(start)
			}
			c.failures = min(c.failures+1, maxRun)
			c, m = e.charge(c, timeout, time.Duration(now-start))
		}
		if e.word.CompareAndSwap(w, c.pack()) {
			e.age.Leave(now)
			return c, m, e.final(c)
		}
	}
}

// charge returns c with the credit that its last failure leaves. span is the time from the
// first of the failures in a row to the last.
//
// The k-th failure in a row takes k. But if all rules of Trip count failures in a row, they judge
// the failures after the first success instead: a rule that holds takes all credit, and charge
// returns its counts. If the failures are at least as many as the calls that may be in flight, and
// the last of them is a timeout, the Span of a rule does not apply.
func (e *episode) charge(c credit, timeout bool, span time.Duration) (credit, match) {
	if !e.judges(c) {
		c.left = max(0, c.left-c.failures)
		return c, match{}
	}
	anySpan := timeout && c.failures >= c.left
	for i := range e.book.tallies {
		if m, holds := e.book.tallies[i].addRun(c.failures, span, anySpan); holds {
			c.left = 0
			return c, m
		}
	}
	return c, match{}
}

// judges reports whether the rules of Trip judge the failures of a HALF_OPEN episode with
// the credit c.
func (e *episode) judges(c credit) bool { return e.book != nil && c.won() }
