package limit

import (
	"math"
	"time"
)

// An experiment compares the throughput under the limit with that under another one.
//
//	watching --reached, no fewer come than go--> moving --in flight is there--> settling
//	    ^                                                                          | R
//	    +------------------------- judged <------------------- measuring <---------+
type experiment struct {
	phase  phase
	window window
	bound  bool // the limit was reached for nearly all of the last window of the check

	up     bool    // the limit under test is the higher one
	base   float64 // throughput under the limit
	begin  int64   // of the test
	until  int64   // when the phase of moving is given up, or that of settling is over
	lost   bool    // somebody who came left, or was refused, without having been in the handler
	cycle  int64   // when the first of these tests began
	tests  int     // of this cycle
	cycles int     // since all began anew
	rested float64 // throughput of a rest, 0 if not known yet
	rest   int64   // when the next test may be
	refine refine
	after  int64 // from when on the throughput is that of a new limit
	raises int   // in this cycle
}

type phase uint8

const (
	watching phase = iota
	moving
	settling
	measuring
)

// refine is a result that the first long window at the new limit makes more precise.
type refine struct {
	level      int
	throughput float64
}

const (
	// completions in a window: of the first tests, of the later ones, of a rest
	firstCalls, laterCalls, restCalls = 32, 64, 128
	windowTime                        = int64(50 * time.Millisecond) // at least
	moveTime                          = int64(100 * time.Millisecond)
	testTime                          = int64(time.Second)

	head     = 1.5 // the limit is so many times the knee
	raised   = 1.4 // of the throughput shows that twice the limit is none
	helped   = 1.15
	changed  = 1.5                // throughput of a rest: something else is different
	restMin  = 16                 // times as long as the tests is the rest after them
	restMore = 4                  // times it doubles
	upEvery  = 4                  // cycles
	hasty    = int64(time.Second) // is too long to hold requests up for a window to end
	located  = 0.85               // a lower share of the throughput says where the knee is
	binding  = 0.85               // a knee at so much of the limit may be above it
	sure     = 0.5                // one at so much is below it, whatever the error of one test
)

func (m *machine) testing() bool { return m.phase != watching }

// calls is how many completions a window must have.
func (m *machine) calls(now int64) int {
	switch {
	case m.cycles == 0:
		return firstCalls
	case !m.testing() && now < m.rest:
		return restCalls
	default:
		return laterCalls
	}
}

// watch begins a window under the limit.
func (m *machine) watch(now int64) {
	m.phase, m.level = watching, m.limit
	m.window = window{start: now}
}

// full reports whether the window is long enough to tell something: so many completions,
// and as long as a request stays. The latter is not needed to see that requests take much
// longer than they did, or that their callers leave, as at first where the limit is far
// too high.
func (m *machine) full(now int64) bool {
	long := now - m.window.start
	if m.window.completions < m.calls(now) || long < windowTime {
		return false
	}
	return float64(long) >= m.stay() || !m.testing() && (m.window.leaving() || m.cycles == 0 && m.slow())
}

// slower reports whether a request stays more than twice as long as those have that found
// room, as far as is known.
func (m *machine) slower() bool {
	return m.pace.known() && m.calm.weight >= calmKnown && m.pace.stay(m.limit) > 2*m.calm.stay
}

// slow reports whether that is certain. The first requests that are over are the short
// ones, so it takes some times as long as a request stays now.
func (m *machine) slow() bool {
	return m.slower() && float64(m.calm.until-m.calm.since) >= 8*m.pace.stay(m.limit)
}

// come goes on with a test as requests arrive.
func (m *machine) come(now int64, flight int) {
	switch {
	case !m.testing():
		m.hurry(now, flight)
	case now-m.begin > m.longest():
		m.abandon(now)
	case m.phase == moving && m.up && flight+1 >= m.level:
		m.settle(now)
	case m.phase == moving && m.up && now > m.until:
		m.unreached(now)
	}
}

// hurry raises the limit if it holds requests up for long and it will take longer still
// to find out whether it should: some take seconds or minutes. Nothing says then that
// the handler could not do more.
func (m *machine) hurry(now int64, flight int) {
	if m.proven || m.slower() || flight < m.limit || now-m.window.start < hasty || m.window.leaving() || m.paused(now) || now < m.drain {
		return
	}
	m.results.Raised++
	m.setLimit(2*float64(m.limit), 0, float64(m.highest))
	m.watch(now)
}

// advance goes on with what the machine does as requests leave.
func (m *machine) advance(now int64, flight int) {
	switch m.phase {
	case watching:
		if m.full(now) {
			m.watched(now)
		}
	case moving:
		switch {
		case !m.up && flight-1 <= m.level:
			m.settle(now)
		case m.up && now > m.until:
			m.unreached(now)
		}
	case settling:
		if now >= m.until {
			m.phase = measuring
			m.window = window{start: now}
		}
	case measuring:
		m.measured(now)
	}
	if m.testing() && now-m.begin > m.longest() {
		m.abandon(now)
	}
}

// longest is how long a test may take: eight times what it should.
func (m *machine) longest() int64 {
	smaller := min(m.limit, m.level)
	n := float64(m.calls(m.begin)) * float64(m.limit) / float64(max(1, smaller))
	return max(testTime, int64(min(8*(n+2*float64(m.limit))*m.pace.gap, math.MaxInt64/2)))
}

// watched ends a window under the limit.
func (m *machine) watched(now int64) {
	w := m.window
	x := w.throughput(now)
	m.window = window{start: now}
	if m.lowest == m.highest {
		m.proven = true // as far as it may be
		return
	}
	if !w.binds() || m.paused(now) || now < m.drain || w.arrivals < w.completions && !w.leaving() {
		return
	}
	if w.leaving() && m.limit > m.lowest && !m.upOnly { // most of the queue may be in the handler
		m.open(now)
		m.test(now, false, x)
		return
	}
	if now >= m.rest {
		m.start(now, x)
		return
	}
	if w.start < m.after {
		return // some of what went had come under another limit
	}
	if m.refine.level > 0 {
		m.refined(now, x)
		m.rested = 0
		return
	}
	switch ratio := x / m.rested; {
	case m.rested == 0:
		m.rested = x
	case ratio > changed || ratio < 1/changed:
		m.cycles, m.rested = 0, 0
		m.start(now, x)
	}
}

// refined sets the limit once more, by a better estimate of the throughput under it. If
// that is as much higher as the limit is, the knee is not below the limit.
func (m *machine) refined(now int64, x float64) {
	old := float64(m.limit)
	knee := float64(m.refine.level) * x / m.refine.throughput
	if knee >= binding*old && m.limit < m.highest {
		m.proven, m.refine = false, refine{}
		m.open(now)
		m.knee = knee
		m.test(now, true, x)
		return
	}
	m.knee = max(m.knee, knee)
	m.setLimit(head*knee+1, old, 2*old)
	if float64(m.limit) < 1.1*old {
		m.refine = refine{}
	}
	m.after = now + int64(m.stay())
	m.watch(now)
}

// start begins the first test of a cycle, after a window with a throughput of x.
func (m *machine) start(now int64, x float64) {
	m.open(now)
	up := !m.slow() && (m.cycles == 0 || m.cycles%upEvery == 0)
	m.test(now, up || m.upOnly, x)
}

// open begins a cycle.
func (m *machine) open(now int64) { m.cycle, m.tests, m.raises = now, 0, 0 }

// anew forgets what experiments have shown, since things are different.
func (m *machine) anew() {
	m.proven, m.cycles, m.rest, m.rested, m.refine = false, 0, 0, 0, refine{}
}

// test puts another limit in force.
func (m *machine) test(now int64, up bool, x float64) {
	level := m.limit / 4
	switch {
	case up && m.raises > 1: // so it may well be far too low
		level = min(4*m.limit, m.highest)
	case up:
		level = min(2*m.limit, m.highest)
	case m.cycles > 0:
		level = m.limit / 2
	case m.tests == 0 && m.slow():
		// If the handler had not become slower, the knee would be as many as are in it
		// at the throughput that there is, each for as long as if it found room. Else
		// the test is under the knee, and so tells where that is.
		level = min(level, max(m.limit/16, int(2*m.calm.stay/m.pace.gap)))
	}
	level = max(1, level)
	if level == m.limit { // there is no more to try
		m.proven = m.proven || up
		m.finish(now)
		return
	}
	m.tests++
	m.phase, m.up, m.level, m.base = moving, up, level, x
	m.begin, m.lost = now, false
	m.until = now + max(moveTime, int64(4*m.pace.stay(m.limit)))
	m.window = window{start: now}
}

// settle waits until what left the handler had come to it under the limit of the test.
func (m *machine) settle(now int64) {
	m.phase = settling
	m.until = now + int64(m.pace.stay(min(m.level, m.limit)))
	m.window = window{start: now}
}

// unreached ends a test of a higher limit that there was not enough load for.
func (m *machine) unreached(now int64) {
	if m.lost {
		m.abandon(now)
		return
	}
	m.results.Raised++
	m.setLimit(float64(m.level), 0, float64(m.level))
	m.proven = false
	m.finish(now)
}

// measured ends the window of a test if it has told enough.
func (m *machine) measured(now int64) {
	w := &m.window
	x := w.throughput(now)
	if !m.full(now) {
		return
	}
	if !w.binds() {
		m.abandon(now)
		return
	}
	if !m.up && m.cycles == 0 && x < located*m.base && w.completions < 2*m.calls(now) {
		return // it says where the knee is, so it should be precise
	}
	if m.up {
		m.higher(now, x)
	} else {
		m.lower(now, x)
	}
}

// higher judges a test of a higher limit.
func (m *machine) higher(now int64, x float64) {
	if x == 0 || m.base == 0 {
		m.abandon(now)
		return
	}
	gain := x / m.base
	switch {
	case gain >= raised*float64(m.level)/float64(2*m.limit):
		m.results.Raised++
		m.raises++
		m.proven = false
		m.setLimit(float64(m.level), 0, float64(m.level))
		m.test(now, true, x)
		return
	case gain >= helped:
		m.results.Raised++
		m.knee = gain * float64(m.limit)
		m.setLimit(head*m.knee, 0, float64(m.highest))
	default:
		m.results.NotRaised++
		m.proven = true
		switch {
		case m.knee >= binding*float64(m.limit): // as the test before this one has shown
			m.knee = max(m.knee, gain*float64(m.limit))
			m.setLimit(head*m.knee+1, float64(m.limit), 2*float64(m.limit))
		case m.tests == 1 && m.cycles == 0 && !m.upOnly: // but by how much is the limit too high?
			m.test(now, false, m.base)
			return
		}
	}
	m.finish(now)
}

// lower judges a test of a lower limit. By Little's law the throughput rises with
// the limit up to the knee, so the two tell where that is.
func (m *machine) lower(now int64, x float64) {
	if x == 0 {
		m.abandon(now)
		return
	}
	old := float64(m.limit)
	m.base = max(m.base, x)                          // it has become quicker meanwhile
	share := max(x/m.base, float64(m.level)/(2*old)) // it cannot lose more than it is lower by
	m.knee = float64(m.level) / share
	m.setLimit(head*m.knee+1, min(old/2, 2*float64(m.level)), 1.25*old)
	m.refine = refine{m.level, x}
	switch {
	case share > located && float64(m.limit) < 0.8*old:
		m.results.Lowered++
		m.proven = true
		m.test(now, false, m.base)
		return
	case m.knee >= binding*old:
		m.results.NotLowered++
		m.limit = int(old)
		m.test(now, true, m.base)
		return
	case float64(m.limit) < old:
		m.results.Lowered++
	default:
		m.results.NotLowered++
	}
	if m.knee >= sure*old && !m.proven {
		m.test(now, true, m.base)
		return
	}
	m.proven = true
	m.finish(now)
}

// setLimit sets the limit to the nearest to l from lo to hi that is allowed.
func (m *machine) setLimit(l, lo, hi float64) {
	l = max(lo, min(l, hi))
	m.limit = max(m.lowest, min(int(l), m.highest))
}

// finish ends a cycle and begins a rest.
func (m *machine) finish(now int64) {
	m.rest = now + restMin<<min(m.cycles, restMore)*m.took(now)
	m.cycles++
	m.rested = 0
	m.watch(now)
	m.after = now + int64(m.stay())
}

// took is how long this cycle has taken, of which a night without load is no part.
func (m *machine) took(now int64) int64 {
	return max(windowTime, int64(m.stay()), min(now-m.cycle, int64(max(1, m.tests))*m.longest()))
}

// abandon ends a test without a result.
func (m *machine) abandon(now int64) {
	m.results.Inconclusive++
	m.rest = now + m.took(now)
	m.rested = 0
	m.watch(now)
}
