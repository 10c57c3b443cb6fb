package bulkhead

import (
	"math"
	"time"
)

// A congestion finds how many calls an overloaded dependency can answer in time. It has no
// clock and no lock.
//
// The dependency may have a queue if over 30 % of the calls time out, and if those that succeed
// take nearly as long as that and over four times as long as in the minutes before. From then on
// no more calls than the window are in flight, at first a quarter of those in flight now. The next
// eight calls check whether that helps. If all of them time out, half of the window is checked. If
// some of them time out, the next eight are checked: a queue that gets shorter lets later calls
// succeed. So if three time out that were admitted after another had succeeded with this window,
// the calls do not wait for each other: the congestion ends, and none begins for a minute or 120
// timeouts, whichever is longer, and twice as long each time, up to sixteenfold. If none times out,
// the window follows the rules of TCP (RFC 5681): it is halved and checked again when over 30 % time
// out, it shrinks to 0.7 once in a round trip while successes take over half of a timeout, and
// otherwise it grows by one call in a round trip, or for each success while successes are quick. If
// an eighth of the window has not made calls quicker, the congestion ends in the same way. It also
// ends when no call has found the window full for three seconds. A window that lasts for half of
// that time, which doubles too, grows by one call for each success, until over 30 % time out again.
//
// A healthy dependency is not taken for a congested one, because its calls do not time out. Neither
// is one of which a replica hangs, because the others answer quickly, nor one that pauses: calls
// that were admitted while successes were quick are no evidence. A timeout that the caller's own
// deadline has caused, or that was quicker than successes are, counts in the share of timeouts,
// but begins no congestion and fails no check.
type congestion struct {
	window   float64 // calls in flight, 0 if there is no congestion
	timeouts float64 // the recent share of timeouts among timeouts and successes
	inRow    int     // timeouts since the last success
	took     float64 // how long recent successes took, in nanoseconds
	usual    float64 // how long they took in the last minutes without a congestion
	samples  int     // calls that usual is of, up to recentUsual
	sampled  int64   // when the last of them ended
	timeout  float64 // how long the last timeout took, in nanoseconds, 0 if there was none
	last     int64   // the number of the last admitted call that is no evidence
	full     int64   // when a call last found the window full, or the window was cut
	since    int64   // when the congestion has begun, or the window was last let grow
	holds    int     // times that the window was let grow in vain

	steady float64 // how long successes took, of more of them
	peak   float64 // the largest window since the last check
	before float64 // steady at that time

	checking bool
	worked   int64 // how many had been admitted when a call first succeeded with the window, or never
	useless  int   // calls of checks that were admitted after that and have timed out
	began    int64 // when the present check began
	checked  int   // calls of it that have ended
	failed   int   // calls of it that have timed out
	rest     int64 // no congestion begins before this time
	rests    int   // rests in a row
}

const (
	// manyTimeouts is the share of timeouts from which on a dependency may be congested. Up
	// to it, retries hide them.
	manyTimeouts = 0.3
	// recentEnds is how many timeouts and successes the share covers, and recentSuccesses how
	// many successes the time covers: they must show an overload within one timeout.
	recentEnds, recentSuccesses = 10, 2
	// These are shares of a timeout. Up to quick, a success has found nearly no queue, and from
	// long on a queue that should be shorter. A dependency whose successes take less than slow
	// has no queue that makes calls time out. With enough calls in flight they take verySlow as
	// the first calls time out. With fewer, the recent successes are older than that.
	quick, slow, long      = 0.1, 0.4, 0.5
	verySlow, manyInFlight = 0.7, 6
	// slower is how much longer calls take than usual if there is a queue. recentUsual is how
	// many calls the usual time is a mean of at first, and usualTime its time constant then.
	slower      = 4
	recentUsual = 8
	usualTime   = 5 * time.Minute
	// leastCongested is the least number of calls in flight that a congestion is about: a
	// quarter of them is the smallest window.
	leastCongested = 4
	// checkCalls is how many calls a check lasts. If a third of all calls time out, one check
	// in 25 sees none that does.
	checkCalls = 8
	// uselessTimeouts is how many timeouts end the congestion, of calls that were admitted after
	// another had succeeded with the window. One may be chance.
	uselessTimeouts = 3
	// never is the value of worked before such a success.
	never = math.MaxInt64
	// A window that is smaller by a factor of much helps if successes take less than equal of
	// the time.
	much, equal = 8, 0.8
	// calmFor is how long no call must find the window full for the congestion to end.
	calmFor = int64(3 * time.Second)
	// A window is trusted for trustTime or trustTimeouts timeouts, whichever is longer, because a
	// check takes some timeouts. After a window that did not help, no congestion begins for twice as
	// long. Both times double up to doublings times.
	trustTime     = int64(30 * time.Second)
	trustTimeouts = 60
	doublings     = 4
)

// timedOut records that the n-th admitted call has timed out. So many have been admitted, and
// so many were in flight. took is 0 if it is not known. own reports whether the caller's deadline
// was the timeout.
func (c *congestion) timedOut(now, took, n, admitted, inFlight int64, own bool) {
	c.timeouts += (1 - c.timeouts) / recentEnds
	c.inRow++
	c.expire(now)
	if own || float64(took) <= c.took {
		c.endedOtherwise(now, n, admitted)
		return
	}
	c.timeout = float64(took)
	switch {
	case c.checking:
		c.check(now, n, admitted, true)
	case c.window == 0 && c.hasNoQueue():
		c.last = admitted
	case c.timeouts <= manyTimeouts || n <= c.last:
	case c.isOld(now):
		c.since, c.holds = now, min(c.holds+1, doublings)
		c.cut(now, min(c.window, float64(inFlight))/leastCongested, admitted)
	case c.window > 0:
		c.cut(now, min(c.window, float64(inFlight))/2, admitted)
	case inFlight >= manyInFlight && c.took < verySlow*c.timeout: // that is how long calls take
	case now >= c.rest && inFlight >= leastCongested:
		c.since, c.holds = now, 0
		c.cut(now, float64(inFlight)/leastCongested, admitted)
	}
}

// succeeded records that the n-th admitted call has succeeded. took is 0 if it is not known.
func (c *congestion) succeeded(now, took, n, admitted int64) {
	c.timeouts -= c.timeouts / recentEnds
	c.inRow = 0
	c.expire(now)
	if took > 0 {
		c.took += (float64(took) - c.took) / recentSuccesses
		c.steady += (float64(took) - c.steady) / checkCalls
		if c.window == 0 {
			c.learn(now, float64(took))
		}
	}
	switch {
	case c.window == 0:
		if c.hasNoQueue() {
			c.last = admitted
		}
	case c.checking:
		if n > c.last {
			c.worked = min(c.worked, admitted)
		}
		c.check(now, n, admitted, false)
	case c.isOld(now):
		c.window++
	case c.took > long*c.timeout:
		if n > c.last {
			c.window, c.last = max(1, 0.7*c.window), admitted
			if c.window <= c.peak/much && c.steady > equal*c.before {
				c.giveUp(now)
			}
		}
	case c.took < quick*c.timeout:
		c.window++
	default:
		c.window += 1 / c.window
	}
	if c.window > c.peak {
		c.peak, c.before = c.window, c.steady
	}
}

// hasNoQueue reports whether successes are so quick that the calls did not wait in a queue.
func (c *congestion) hasNoQueue() bool {
	return c.took < slow*c.timeout || c.took < slower*c.usual
}

// learn moves the usual time.
func (c *congestion) learn(now int64, took float64) {
	share := -math.Expm1(-float64(now-c.sampled) / float64(usualTime))
	if c.samples < recentUsual {
		c.samples++
		share = max(share, 1/float64(c.samples))
	}
	c.usual += (took - c.usual) * max(0, share)
	c.sampled = now
}

// endedOtherwise records that the n-th admitted call has ended without evidence. A check does
// not wait for it.
func (c *congestion) endedOtherwise(now, n, admitted int64) {
	if c.checking {
		c.check(now, n, admitted, false)
	}
}

// isOld reports whether the congestion has lasted for so long that the window grows until over
// 30 % time out again.
func (c *congestion) isOld(now int64) bool {
	return c.window > 0 && now-c.since > c.trusted()<<c.holds
}

// trusted returns how long a window is trusted at first.
func (c *congestion) trusted() int64 { return max(trustTime, int64(trustTimeouts*c.timeout)) }

// expire ends a congestion that has not been full for calmFor.
func (c *congestion) expire(now int64) {
	if c.window > 0 && now-c.full > calmFor {
		c.end(now)
	}
}

// end ends the congestion. The time that it has lasted does not count for the usual time.
func (c *congestion) end(now int64) { c.window, c.checking, c.sampled = 0, false, now }

// cut sets a smaller window and begins to check it.
func (c *congestion) cut(now int64, window float64, admitted int64) {
	c.window, c.full = max(1, window), now
	c.checking, c.worked, c.useless = true, never, 0
	c.begin(now, admitted)
}

// begin begins a check.
func (c *congestion) begin(now, admitted int64) {
	c.last, c.began, c.checked, c.failed = admitted, now, 0, 0
}

// check records how the n-th admitted call has ended, and ends the check with its last call. A
// check with a call that does not end begins again.
func (c *congestion) check(now, n, admitted int64, timedOut bool) {
	if float64(now-c.began) > 2*checkCalls*c.timeout {
		c.begin(now, admitted)
	}
	if n <= c.last || n > c.last+checkCalls {
		return
	}
	c.checked++
	if timedOut {
		c.failed++
		if n > c.worked {
			c.useless++
		}
	}
	switch {
	case c.useless == uselessTimeouts:
		c.giveUp(now)
	case c.checked < checkCalls:
	case c.failed == checkCalls:
		c.cut(now, c.window/2, admitted)
	case c.failed == 0:
		c.checking, c.last, c.rests = false, admitted, 0
		c.peak, c.before = c.window, c.steady
	default:
		c.begin(now, admitted)
	}
}

// giveUp ends a congestion whose window does not help, and lets none begin for a while.
func (c *congestion) giveUp(now int64) {
	c.end(now)
	c.rest = now + 2*c.trusted()<<c.rests
	c.rests = min(c.rests+1, doublings)
}

// isFull records that a call has found no slot, and reports whether that is because of the
// window.
func (c *congestion) isFull(now int64) bool {
	c.expire(now)
	if c.window > 0 {
		c.full = now
	}
	return c.window > 0
}

// mostTimeOut reports whether most calls time out: two of three recent ones, or the last three.
func (c *congestion) mostTimeOut() bool { return c.timeouts >= 2./3 || c.inRow >= 3 }

// recent reports whether there were timeouts lately, so that each call must be recorded.
func (c *congestion) recent() bool { return c.window > 0 || c.timeouts > 1./64 }
