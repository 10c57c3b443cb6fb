package breaker

import (
	"sync/atomic"

	"github.com/resilience-go/resilience"
)

const (
	leaseBits = 12             // of a token: the number of the slot
	idBits    = 32 - leaseBits // of a token and of a lease: the id of the lease
	maxCredit = 1<<leaseBits - 1
)

// A credit is the word of a HALF_OPEN episode, unpacked.
type credit struct {
	left     int  // calls that may be in flight
	inFlight int  // calls that hold a lease
	won      bool // there was a success
	failures int  // failures in a row
}

func unpack(w uint64) credit {
	return credit{int(w & 0xffff), int(w >> 16 & 0xffff), w>>32&1 == 1, int(w >> 33 & 0xffff)}
}

func (c credit) pack() uint64 {
	w := uint64(c.left) | uint64(c.inFlight)<<16 | uint64(c.failures)<<33
	if c.won {
		w |= 1 << 32
	}
	return w
}

// final reports whether c ends the episode. The next one is then being installed.
func (e *episode) final(c credit) bool { return c.left == 0 || c.left > len(*e.leases) }

// closing reports whether CLOSED is being installed.
func (e *episode) closing() bool { return unpack(e.word.Load()).left > len(*e.leases) }

// A lease is a slot of HALF_OPEN. It has the id of the call that holds the slot in its
// upper 20 bits and the end of the lease, in ms, in its lower 44. 0 is a free slot.
//
// The goroutine that clears the lease, by compare-and-swap, is the one that counts the
// result. A goroutine that loses the swap is late and does nothing, so each lease is
// settled once.
type lease struct{ atomic.Uint64 }

// never is the end of a lease that does not end.
const never = 1<<(64-idBits) - 1

// leaseID is the last id of a lease. All breakers share it: a lease must differ only
// from the one that held its slot before.
var leaseID atomic.Uint64

// take takes a slot, if there is credit for one, and returns its token. end is the end
// of the lease, in ms.
func (e *episode) take(end int64) (token uint64, ok bool) {
	for {
		w := e.word.Load()
		c := unpack(w)
		if e.final(c) || c.inFlight >= c.left {
			return 0, false
		}
		c.inFlight++
		if e.word.CompareAndSwap(w, c.pack()) {
			return e.claim(end), true
		}
	}
}

// claim finds a free slot for a call that is counted as in flight. There is one,
// because a slot is freed before its call is taken off the count.
func (e *episode) claim(end int64) uint64 {
	id := leaseID.Add(1)%(1<<idBits-1) + 1 // never 0
	value := id<<(64-idBits) | uint64(end)
	for {
		for slot := range *e.leases {
			l := &(*e.leases)[slot]
			if l.Load() == 0 && l.CompareAndSwap(0, value) {
				return e.base | uint64(slot)<<idBits | id
			}
		}
	}
}

// free frees the slot of token. It returns when the lease ends, in ms, and whether the
// token still held the slot.
func (e *episode) free(token uint64) (ends int64, held bool) {
	slot, id := token>>idBits&maxCredit, token&(1<<idBits-1)
	if id == 0 {
		return 0, false
	}
	l := &(*e.leases)[slot]
	value := l.Load()
	return int64(value & never), value>>(64-idBits) == id && l.CompareAndSwap(value, 0)
}

// expired reports whether a lease has ended, so that expire would free a slot.
func (e *episode) expired(now, latest int64) bool {
	for slot := range *e.leases {
		if value := (*e.leases)[slot].Load(); value != 0 && leaseEnded(value, now, latest) {
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
	for slot := range *e.leases {
		l := &(*e.leases)[slot]
		value := l.Load()
		if value == 0 || !leaseEnded(value, now, latest) {
			continue
		}
		if now, latest = again(); !leaseEnded(value, now, latest) {
			continue
		}
		if l.CompareAndSwap(value, 0) {
			e.leave(resilience.Ignored)
			freed++
		}
	}
	return freed
}

// leave takes a call whose slot is free off the count and moves the credit by its
// outcome. It returns the credit and whether that ended the episode.
func (e *episode) leave(o resilience.Outcome) (end credit, ended bool) {
	for {
		w := e.word.Load()
		c := unpack(w)
		if e.final(c) {
			return c, false
		}
		c.inFlight--
		switch o {
		case resilience.Success:
			c.left++
			c.won, c.failures = true, 0
		case resilience.Failure:
			c.failures++
			c.left = max(0, c.left-c.failures)
		}
		if e.word.CompareAndSwap(w, c.pack()) {
			return c, e.final(c)
		}
	}
}
