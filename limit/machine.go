package limit

import (
	"math"
	"time"
)

// A machine finds the limit. It is told what comes and what goes while the limit
// binds, and says how many may be in the handler and how those who wait are to be
// treated. It has no clock, no lock and nobody in it: the same calls make the same
// machine. Times are in nanoseconds.
type machine struct {
	lowest, highest int // bounds of the limit
	upOnly          bool

	limit    int     // what the experiments have come to
	level    int     // what is in force: limit, or another one under a test
	knee     float64 // as last measured, 0 before
	proven   bool    // a higher limit would not help
	overload bool    // who has waited too long is refused
	waited   int64   // when somebody last waited for a place
	growing  int     // windows of the check in a row in which more came than went
	dry      int64   // since when nobody is in the handler, 0 if somebody is
	newest   bool    // the newest waiter goes first

	pace    pace
	calm    calm
	leaving leaving
	check   window // of whether there is overload
	trend   window // of whether the line grows
	drain   int64  // until when what a pause has left is served
	experiment
	results Trials
}

func newMachine(lowest, highest int, upOnly bool) machine {
	first := max(lowest, min(initial, highest))
	return machine{lowest: lowest, highest: highest, upOnly: upOnly, limit: first, level: first}
}

// calm is how long requests take that find room: no more than half of the limit taken.
type calm struct {
	stay   float64 // moving mean of about 1000 of them, in nanoseconds
	weight int     // of what is in it
	since  int64   // when the first of them was over
	until  int64   // and when the last
}

const calmSpan, calmKnown = 1024, 32

// add notes one request that stands for so many.
func (c *calm) add(now, took int64, weight int) {
	if c.weight == 0 {
		c.since = now
	}
	c.until = now
	x := float64(took)
	if c.weight >= calmKnown {
		x = min(x, 8*c.stay) // a few very long ones say little about the others
	}
	c.weight = min(c.weight+weight, calmSpan)
	c.stay += (x - c.stay) * float64(weight) / float64(c.weight)
}

const (
	// checkCalls and checkTime are how long there must be more arrivals than
	// completions for an overload to begin, checkEnd for how long fewer for it to end.
	checkCalls = 32
	checkTime  = int64(100 * time.Millisecond)
	checkTimes = 2 // in a row: what comes at once is not what goes on coming
	checkEnd   = int64(time.Second)
	// shortest is how long a waiter may wait in an overload whatever the handler takes.
	shortest = int64(5 * time.Millisecond)
	// pauseMost is how long nothing useful may come out for it to be a pause.
	pauseMost = int64(time.Second)
)

// stay is how long a request is in the handler now, as far as is known.
func (m *machine) stay() float64 {
	if m.pace.known() {
		return m.pace.stay(m.level)
	}
	return m.calm.stay
}

// longestGap is how long no useful completion may come without that being a pause.
// Under a lower limit they come less often, which the mean of their gaps does not know
// yet.
func (m *machine) longestGap() float64 {
	gap := m.pace.longest(m.level, m.calm.stay)
	if m.testing() && !m.up {
		gap *= min(4, float64(m.limit)/float64(m.level))
	}
	return gap
}

// patience is how long a waiter may wait in an overload.
func (m *machine) patience() int64 {
	return max(shortest, min(int64(m.pace.stay(m.limit)), math.MaxInt64/2))
}

// bind starts to watch: the limit has been reached.
func (m *machine) bind(now int64) {
	m.waited, m.bound, m.dry = now, true, 0
	m.restart(now)
	m.watch(now)
}

// restart forgets what was before.
func (m *machine) restart(now int64) {
	m.pace.begin(now)
	m.newest = false
	m.windows(now)
}

// windows begins all windows.
func (m *machine) windows(now int64) {
	m.check, m.trend, m.window = window{start: now}, window{start: now}, window{start: now}
	m.growing = 0
}

// arrive notes that a request has come while flight others were in the handler. One
// that was empty for some time had caught up with all that came before, and made nobody
// wait for a completion.
func (m *machine) arrive(now int64, flight int) {
	if m.dry > 0 && now-m.dry > m.patience() {
		m.restart(now)
		m.overload = false
	}
	m.dry = 0
	m.check.arrivals++
	m.trend.arrivals++
	m.window.arrivals++
	m.come(now, flight)
}

// complete notes that a request has left the handler after so long, where flight were
// with it and waiting in front of it. It is useful if its caller was still there.
func (m *machine) complete(now, took int64, useful bool, flight, waiting int) {
	if flight == 1 && waiting == 0 {
		m.dry = now
	}
	for _, w := range []*window{&m.check, &m.trend, &m.window} {
		w.completions++
		switch {
		case useful:
			w.useful++
		case m.late(took):
			w.late++
		}
		if waiting > 0 && flight >= m.level {
			w.reached++
			m.waited = now
		}
	}
	if waiting == 0 {
		m.newest = false // the line that grew is no more
	}
	if last := m.pace.last; useful && m.pace.add(now, m.longestGap()) {
		m.stalled(now, now-last)
	}
	m.advance(now, flight)
	m.checked(now)
}

// checked ends the window of the check if it is long enough.
func (m *machine) checked(now int64) {
	draining := now < m.drain || m.paused(now)
	if w := &m.trend; draining {
		*w = window{start: now}
	} else if w.completions >= checkCalls && now-w.start >= windowTime {
		m.newest = w.fellBehind()
		*w = window{start: now}
	}
	w := &m.check
	if m.testing() && !m.up || draining && !m.overload { // what these hold up is no overload
		*w = window{start: now}
		return
	}
	long := max(checkTime, int64(m.stay()))
	if m.overload {
		long = max(checkEnd, long)
	}
	m.relax(now)
	if w.completions < checkCalls || now-w.start < long {
		return
	}
	m.bound = w.binds()
	if m.bound && w.arrivals >= w.completions {
		m.growing++
	} else {
		m.growing = 0
	}
	if m.overload {
		m.overload = m.growing > 0
	} else {
		m.overload = m.proven && m.growing >= checkTimes && w.grew()
	}
	*w = window{start: now}
}

// relax ends an overload if nobody has waited for long, however few requests there are
// to tell it by.
func (m *machine) relax(now int64) {
	if now-m.waited > max(checkEnd, int64(m.stay())) {
		m.overload, m.bound, m.growing = false, false, 0
	}
}

// stalled begins all windows anew that a pause of so long has spoilt. What has piled up
// in it proves nothing, and who came first can still be served first. A handler that makes
// nobody happy stalls again and again: it gets no more than two thirds of the time.
func (m *machine) stalled(now, long int64) {
	m.windows(now)
	if long < moveTime || now < m.drain+long {
		return
	}
	m.drain = now + 2*long
	m.newest = false
	if m.testing() {
		m.abandon(now)
	}
}

// paused reports whether the handler has made nobody happy for some time, but not for
// so long that it is more than a pause.
func (m *machine) paused(now int64) bool {
	since := now - m.pace.last
	return float64(since) > m.longestGap() && since < pauseMost
}

// idle reports whether there is nothing to watch: nobody waits, and the last window
// was not one of a limit that binds.
func (m *machine) idle() bool { return !m.bound && !m.overload && !m.testing() }
