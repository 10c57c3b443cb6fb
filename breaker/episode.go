package breaker

import (
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
)

// State is what a breaker does with calls.
type State uint8

const (
	// Closed admits every call.
	Closed State = iota
	// Open rejects every call.
	Open
	// HalfOpen admits as many calls at a time as it has credit.
	HalfOpen
)

// String returns "CLOSED", "OPEN" or "HALF_OPEN".
func (s State) String() string {
	switch s {
	case Closed:
		return "CLOSED"
	case Open:
		return "OPEN"
	default:
		return "HALF_OPEN"
	}
}

// An episode is one stay in one state. The breaker points to the current one and
// a transition installs another with a single compare-and-swap, so a result that
// comes late writes into an episode that nobody reads any more.
//
// All fields but the atomic ones and note are set before it is installed and
// never change.
type episode struct {
	state State
	mode  Mode
	under *episode // ForcedOpen, Disabled: what Auto goes on with, never installed itself
	// base is the generation in its upper 28 bits, with which every token of this
	// episode begins:
	//
	//	generation 28 | slow 4, a flag for each SlowRate | lease 32, 0 for none
	//
	// Generations wrap after 268 million transitions.
	base      uint64
	since     int64                 // when it was installed, in ns
	until     int64                 // OPEN: when it is over, in ns
	outage    *outage               // OPEN, HALF_OPEN but not if a mode made them: why
	rejection *resilience.Rejection // OPEN, HALF_OPEN: what callers get
	past      *past                 // nil if there were no transitions

	// word holds the counts. Its writers are the calls of this episode as they
	// are admitted and judged, and in OPEN whoever leaves it or asks whether it is idle.
	//
	//	CLOSED      failures in a row 16 | time of the first of them 48, in µs
	//	HALF_OPEN   failures in a row 16 | won 1 | in flight 16 | credit 16
	//	OPEN        how much of its time is in rare.open 64, in ns; see charge
	//
	// In HALF_OPEN a credit of 0 or of more than CloseAfter is final: whoever
	// brought it there installs the next episode, and nobody writes any more.
	word   atomic.Uint64
	leases []lease // HALF_OPEN: one for each call that may be in flight
	book   *book   // CLOSED: what the rules have counted

	prev, next atomic.Pointer[episode] // see announce
	note       *note                   // what to announce of it, nil if nobody listens
}

// An outage is what is handed on from OPEN to HALF_OPEN, and changed from there to
// OPEN. It is never changed in place.
type outage struct {
	silence int64 // when the dependency fell silent, in ns
	limit   int64 // how long OPEN may last at the rate of the failures that opened it
	rounds  int   // how many times HALF_OPEN has failed without a success
}

const (
	slowFlag   = 1 << 32 // the first of them
	maxSlow    = 4
	generation = slowFlag << maxSlow // the lowest bit of it
	slowFlags  = generation - slowFlag

	runBits  = 16
	timeBits = 64 - runBits
	timeMask = 1<<timeBits - 1

	slotBits  = 12
	idBits    = 32 - slotBits
	maxCredit = 1<<slotBits - 1
)

// fail adds a failure at time now, in ns, to the run of a CLOSED episode, and
// returns its length and the time from the first failure to this one.
// A clock that was set back restarts the time, not the count.
func (e *episode) fail(now int64) (run int, span time.Duration) {
	us := uint64(now/1000) & timeMask
	for {
		w := e.word.Load()
		n, start := w>>timeBits, w&timeMask
		if n == 0 || us < start {
			start = us
		}
		n = min(n+1, maxRun)
		if e.word.CompareAndSwap(w, n<<timeBits|start) {
			return int(n), time.Duration(us-start) * time.Microsecond
		}
		// Lost to another result. A failure: count on from it. A success: start
		// anew.
	}
}

// succeed ends the run of a CLOSED episode. A failure that comes between the load
// and the store counts as having come before the success.
func (e *episode) succeed() {
	if e.word.Load() != 0 {
		e.word.Store(0)
	}
}

// admitted reports whether a call with that token was admitted by e.
func (e *episode) admitted(token uint64) bool { return token/generation == e.base/generation }

// run returns the failures in a row of a CLOSED episode and when they began, in µs.
func (e *episode) run() (n int, start int64) {
	w := e.word.Load()
	return int(w >> timeBits), int64(w & timeMask)
}

// credit is the word of a HALF_OPEN episode, unpacked.
type credit struct {
	left     int  // calls that may be in flight
	inFlight int  // calls that hold a lease
	won      bool // there was a success
	failures int  // in a row
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

// final reports whether the episode is over, the next one being on its way.
func (e *episode) final(c credit) bool { return c.left == 0 || c.left > len(e.leases) }

// closing reports whether CLOSED is on its way.
func (e *episode) closing() bool { return unpack(e.word.Load()).left > len(e.leases) }

// A lease is a call's place in HALF_OPEN: its id in the upper 20 bits, so that it
// is settled once, and when it ends, in ms, in the lower 44. 0 is a free place.
// The caller that takes it out of the table, by CAS, is the one that accounts
// for it: whoever loses that CAS was late, and does nothing.
type lease struct{ atomic.Uint64 }

// never is the end of a lease that does not end.
const never = 1<<(64-idBits) - 1

// take takes a place if there is credit for it and returns its token. end is when
// its lease ends, in ms.
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

// claim finds the free lease that the caller has counted: leases are freed
// before they are taken off the count, so there is one.
func (e *episode) claim(end int64) uint64 {
	id := leaseID.Add(1)%(1<<idBits-1) + 1 // never 0
	value := id<<(64-idBits) | uint64(end)
	for {
		for slot := range e.leases {
			l := &e.leases[slot]
			if l.Load() == 0 && l.CompareAndSwap(0, value) {
				return e.base | uint64(slot)<<idBits | id
			}
		}
	}
}

// leaseID is shared by all breakers: what matters is that a lease differs from
// the one that was in its place before.
var leaseID atomic.Uint64

// free gives the place of token back and returns when its lease ends, in ms, and
// whether it still held one.
func (e *episode) free(token uint64) (ends int64, held bool) {
	slot, id := token>>idBits&maxCredit, token&(1<<idBits-1)
	if id == 0 {
		return 0, false
	}
	l := &e.leases[slot]
	value := l.Load()
	return int64(value & never), value>>(64-idBits) == id && l.CompareAndSwap(value, 0)
}

// expire frees the places whose lease has ended, or ends later than one taken now
// would, because the clock was set back. Before it does, it reads the clock again:
// the lease may be newer than now.
func (e *episode) expire(now, latest int64, again func() (now, end int64)) (freed int) {
	for slot := range e.leases {
		l := &e.leases[slot]
		value := l.Load()
		if value == 0 {
			continue
		}
		ends := int64(value & never)
		if ends > now && ends <= latest {
			continue
		}
		if now, latest = again(); ends > now && ends <= latest {
			continue
		}
		if l.CompareAndSwap(value, 0) {
			e.leave(resilience.Ignored)
			freed++
		}
	}
	return freed
}

// leave takes a call whose place is free off the count, moves the credit as its
// outcome says, and returns the credit if that ended the episode.
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
