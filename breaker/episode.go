package breaker

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/window"
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

// An episode is one stay in one state. The breaker points to the current episode. A
// transition replaces it with a single compare-and-swap, so a late result is written to
// an episode that is no longer read.
//
// All fields except the atomic ones and note are set before the episode is installed
// and never change.
type episode struct {
	state State
	mode  Mode
	under *episode // ForcedOpen, Disabled: the episode that Auto resumes; never installed itself
	// base has the generation in its upper 28 bits. Every token of the episode begins
	// with it:
	//
	//	generation 28 | slow 4, a flag for each Slow rule | lease 32, 0 for none
	//
	// Generations wrap after 268 million transitions. A call of CLOSED that began during a
	// run of failures has duringRun instead of a lease.
	base      uint64
	since     int64      // when it was installed, in ns
	until     int64      // OPEN: when it ends, in ns
	began     time.Time  // the wall time at since
	rejection *rejection // OPEN, HALF_OPEN
	past      *past      // nil before the first transition

	// word holds the counts. It is written by calls of this episode when they are
	// admitted and recorded and, in OPEN, when its time is moved to the counters.
	//
	//	CLOSED      failures in a row 16 | time of the first of them 48, in µs
	//	HALF_OPEN   newest lease at the last success 20 | failures in a row 16 | in flight 13 | credit 13
	//	OPEN        how much of its time the counters have 64, in ns; see uncounted
	//
	// In HALF_OPEN a credit of 0 or of more than CloseAfter is final: the call that
	// moved the credit there installs the next episode, and word is not written again.
	word atomic.Uint64
	age  window.Age // CLOSED, HALF_OPEN: of the failures in a row
	half *half      // HALF_OPEN; a pointer takes less memory in CLOSED
	book *book      // what the rules have counted; nil outside CLOSED if a rule counts successes too

	prev, next atomic.Pointer[episode] // see link
	note       *note                   // the event of the transition to it; nil if there is none
}

// A rejection is the error of the calls that an OPEN or HALF_OPEN episode rejects, with its
// outage. ForcedOpen has no outage.
type rejection struct {
	resilience.Rejection
	outage outage
}

// An outage is handed from OPEN to HALF_OPEN and, changed, from HALF_OPEN to OPEN. It
// is never changed in place.
type outage struct {
	silence int64 // time of the first failure of the silence, in ns
	limit   int64 // the longest OPEN that the rate of the failures justifies, in ns
	rounds  int   // how many times HALF_OPEN has failed without a success
}

const (
	slowFlag   = 1 << 32 // the flag of the first Slow rule
	maxSlow    = 4
	generation = slowFlag << maxSlow // the lowest bit of the generation
	slowFlags  = generation - slowFlag
	duringRun  = 1 // in a token of CLOSED: the call began during a run of failures

	runBits  = 16
	timeBits = 64 - runBits
	timeMask = 1<<timeBits - 1
)

// admitted reports whether e admitted the call with that token.
func (e *episode) admitted(token uint64) bool { return token/generation == e.base/generation }

// fail adds a failure at now, in ns, to the failures in a row of a CLOSED episode. It
// returns their number and the time from the first of them to this one. A clock that
// was set back restarts the time and not the number.
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
		// Another result was recorded first. The loop counts on from its word.
	}
}

// enter returns the token of a call of a CLOSED episode that begins at now, during a run
// of failures. If the run is too old, it ends.
func (e *episode) enter(now int64) (token uint64) {
	// The run ends before the call enters. Otherwise another call could enter and fail between
	// the two, and count as one more failure of the old run.
	if w := e.word.Load(); e.age.Old(now) {
		e.forget(w)
	}
	e.age.Enter(now)
	return e.base | duringRun
}

// forget subtracts the failures in old, an earlier value of word, from the failures in a row.
// Failures recorded after old stay. If a success was recorded after old, nothing changes.
func (e *episode) forget(old uint64) {
	for {
		w := e.word.Load()
		n, start := w>>timeBits, w&timeMask
		if n < old>>timeBits || start != old&timeMask {
			return
		}
		n -= old >> timeBits
		if n == 0 {
			start = 0
		}
		if e.word.CompareAndSwap(w, n<<timeBits|start) {
			return
		}
	}
}

// succeed ends the failures in a row of a CLOSED episode. A failure that is recorded
// between the load and the store counts as older than the success.
func (e *episode) succeed() {
	if e.word.Load() != 0 {
		e.word.Store(0)
	}
}

// run returns the failures in a row at now that w, the word of a CLOSED or HALF_OPEN
// episode, has. It returns 0 if they are too old. If no rule judges HALF_OPEN, they do not
// become too old in it.
func (e *episode) run(w uint64, now int64) int {
	switch {
	case e.book != nil && e.age.Old(now):
		return 0
	case e.state == HalfOpen:
		return unpack(w).failures
	default:
		return int(w >> timeBits)
	}
}

// over reports whether an OPEN episode has ended. It has also ended if the clock was
// set back to before its beginning.
func (e *episode) over(now int64) bool {
	return (now >= e.until || now < e.since) && e.mode != ForcedOpen
}

// ends returns when an OPEN episode ends, if the wall time does not jump during it.
func (e *episode) ends() time.Time { return e.began.Add(time.Duration(max(0, e.until-e.since))) }

// resumed returns the state that resumes when the mode above e ends. An OPEN episode
// that has ended admits the next call as a probe.
func (e *episode) resumed(now int64) State {
	if e.state == Open && (now >= e.until || now < e.since) {
		return HalfOpen
	}
	return e.state
}

// allCounted is the word of an OPEN episode that has been replaced.
const allCounted = math.MaxInt64

// lasted returns how long an OPEN episode has lasted at now. It is negative if the
// clock was set back.
func (e *episode) lasted(now int64) int64 { return min(now, e.until) - e.since }

// present returns how long an OPEN episode has lasted at now, less the time that the
// counters have already.
//
// To add it to counters, load the counters first. Then no time is counted twice, but
// time that is moved between the two loads is missing from the sum.
func (e *episode) present(now int64) time.Duration {
	return time.Duration(max(0, e.lasted(now)-int64(e.word.Load())))
}

// uncounted returns the time of an OPEN episode up to now that the counters do not
// have. The caller adds it to them.
func (e *episode) uncounted(now int64) int64 {
	for d := e.lasted(now); ; {
		counted := int64(e.word.Load())
		if d <= counted {
			return 0
		}
		if e.word.CompareAndSwap(uint64(counted), uint64(d)) {
			return d - counted
		}
	}
}

// rest is uncounted for the caller that has replaced e at now: nothing is uncounted
// after it.
func (e *episode) rest(now int64) int64 {
	return max(0, e.lasted(now)-int64(e.word.Swap(allCounted)))
}
