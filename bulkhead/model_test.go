package bulkhead_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/resilience-go/resilience/bulkhead"
)

var errWork = errors.New("work failed")

// model does slowly what a Bulkhead does, without concurrency. It keeps a list of all answers
// and computes from it what a Bulkhead keeps in a few numbers.
type model struct {
	slots, queue   int
	sizes          bool
	made           time.Time
	in, line, left []*caller // the callers in left must have the error in want
	woken          []*caller // in this step
	want           []error
	admitted       int
	stats          bulkhead.Stats

	past      []answer
	avg, high int           // in fixed point, with 12 bits after the point
	lowered   time.Duration // when high was last lowered
	exceeded  time.Duration // when calls began to exceed the slots
	timeouts  int           // calls that have timed out
	judged    struct {      // the calls that are judged
		began, next tally
		at          time.Duration // of next
	}
	waited    int                              // calls up to this number were admitted before the end of a pause
	quiet     time.Duration                    // when a silence began that may be a pause, or 0
	paused    struct{ at, long time.Duration } // when the last pause ended
	congested struct {
		window, begun int
		exact         float64       // the window, not rounded
		full, began   time.Duration // when it was last full or cut, and the present check began
		ended         time.Duration // when the last congestion ended
		since         time.Duration // when the congestion began, or its window was last let grow
		holds         int           // times that it was let grow in vain
		peak, before  float64       // the largest window since the last check, and steady then
		evidence      int           // calls up to this number are none
		checking      bool
		ends          []bool // of the present check: which calls timed out
		eased, late   int    // how many were admitted when a call first succeeded, -1 before; timeouts of later ones
		rests         int
		rest          time.Duration // until when there is none
	}
}

// tally is how many calls were admitted, how many of those have answered or ended other than by a
// timeout, and how many have timed out.
type tally struct{ admitted, answered, timeouts int }

// answer is how a call answered that did not fail otherwise.
type answer struct {
	at, took  time.Duration
	timedOut  bool
	evidence  bool          // of a timeout
	congested bool          // there was a congestion, so that the time of a success is not usual
	ended     time.Duration // when the last congestion ended
}

// times are what is known of how long calls take, in nanoseconds.
type times struct {
	took, steady float64 // of about two recent successes, and of about eight
	usual        float64 // of the last minutes without a congestion
	bursts       float64 // of about 32 successes, for bursts
	timeout      float64 // the last timeout that was evidence
}

func (m *model) now() time.Duration { return time.Since(m.made) }

// share returns the recent share of timeouts.
func (m *model) share() (s float64) {
	for _, a := range m.past {
		if a.timedOut {
			s += (1 - s) / 10
		} else {
			s -= s / 10
		}
	}
	return s
}

// mostTimeOut reports whether the share of timeouts is two thirds, or the last three answers are all
// timeouts.
func (m *model) mostTimeOut() bool {
	inRow := 0
	for _, a := range m.past {
		inRow++
		if !a.timedOut {
			inRow = 0
		}
	}
	return m.share() >= 2./3 || inRow >= 3
}

// times returns how long calls take.
func (m *model) times() (t times) {
	samples, sampled := 0, time.Duration(0)
	for _, a := range m.past {
		took := float64(max(1, a.took))
		switch {
		case a.timedOut && a.evidence:
			t.timeout = took
			continue
		case a.timedOut:
			continue
		case t.bursts == 0:
			t.bursts = took
		}
		t.took += (took - t.took) / 2
		t.steady += (took - t.steady) / 8
		t.bursts += (took - t.bursts) / 32
		if a.congested {
			continue
		}
		samples++
		share := 1 - math.Exp(-float64(a.at-max(sampled, a.ended))/float64(5*time.Minute))
		if samples <= 8 {
			share = max(share, 1/float64(samples))
		}
		t.usual += (took - t.usual) * share
		sampled = a.at
	}
	return t
}

// judge moves the beginning of the calls that are judged, and returns them.
func (m *model) judge() tally {
	j, now := &m.judged, tally{m.admitted, m.admitted - len(m.in) + m.goingOn() - m.timeouts, m.timeouts}
	span := 30 * time.Second
	if t := m.times().timeout; t > 0 {
		span = max(2*time.Second, time.Duration(t))
	}
	healthy := float64(now.answered-j.began.answered) >= 0.75*float64(now.admitted-j.began.admitted)
	switch age := m.now() - j.at; {
	case healthy || age > 2*span:
		j.began, j.next, j.at = now, now, m.now()
	case age > span:
		j.began, j.next, j.at = j.next, now, m.now()
	}
	return tally{now.admitted - j.began.admitted, now.answered - j.began.answered, now.timeouts - j.began.timeouts}
}

// evidence reports whether there is evidence that the dependency hangs.
func (m *model) evidence() bool {
	calls := m.judge()
	if m.slots <= m.wanted() {
		m.exceeded = m.now()
		if m.quiet == 0 && calls.timeouts < 3 {
			m.quiet = m.now()
		}
	}
	if since := m.now() - m.paused.at; m.paused.long > 0 && since < 30*time.Second &&
		(since < m.paused.long || m.quiet > 0 && m.now()-m.quiet < m.paused.long*5/4+25*time.Millisecond) {
		return false
	}
	hang := calls.admitted >= 24 && float64(calls.answered) < float64(calls.admitted+8)/4
	usual := m.times().bursts
	late := usual > 0 && m.now()-m.exceeded > max(25*time.Millisecond, time.Duration(2*usual))
	return hang && (calls.timeouts >= 3 || late)
}

func (m *model) goingOn() (n int) {
	for _, c := range m.in {
		if c.answered {
			n++
		}
	}
	return n
}

func (m *model) leave(c *caller, err error) {
	m.left, m.want = append(m.left, c), append(m.want, err)
}

func (m *model) arrive(c *caller) {
	may := false
	if len(m.in) >= m.slots && m.sizes {
		may = m.exceed()
	}
	bound := m.slots
	if m.sizes {
		bound = min(bound, m.wanted())
	}
	queue := m.queue
	if queue == 0 {
		queue = (bound + 1) / 2
	}
	switch bound = max(m.slots, bound+max(0, queue)); {
	case len(m.in) < m.slots:
		m.admit(c)
	case len(m.in)+len(m.line) >= bound && !may:
		m.leave(c, bulkhead.ErrFull)
		m.stats.QueueFull++
	default:
		m.line = append(m.line, c)
	}
}

// exceed adds slots for a call that finds none, and reports whether it may. Queued calls get them
// first.
func (m *model) exceed() (may bool) {
	c := &m.congested
	m.outlive()
	if c.exact > 0 {
		c.full = m.now()
	}
	m.setWindow()
	switch {
	case c.exact > 0:
	case m.wanted() > m.slots:
		m.slots, may = m.wanted(), true
	case !m.evidence() && m.slots < 10_000:
		m.slots, may = m.slots+1, true
	}
	m.fill()
	return may
}

func (m *model) admit(c *caller) {
	m.admitted++
	c.n, c.admitted = m.admitted, m.now()
	m.in = append(m.in, c)
}

func (m *model) fill() {
	for len(m.in) < m.slots && len(m.line) > 0 {
		c := m.line[0]
		m.line, m.woken = m.line[1:], append(m.woken, c)
		m.admit(c)
	}
}

// answer marks c as answered, unless it is, and admits queued callers to new slots.
func (m *model) answer(c *caller, err error) {
	ignored, timedOut := errors.Is(err, errIgnored), errors.Is(err, timeout{})
	if m.sizes && !c.answered && timedOut {
		m.timeouts++
	}
	if m.sizes && !c.answered && (!ignored || m.congested.window > 0) {
		if err == nil || timedOut {
			m.follow(c, timedOut)
		} else {
			m.check(c, false)
		}
		m.judge()
		m.setWindow()
		if passed := m.now() - m.lowered; passed >= 250*time.Millisecond {
			m.high = int(float64(m.high) * math.Exp2(-float64(passed)/float64(30*time.Second)))
			m.lowered = m.now()
		}
	}
	if m.sizes && !c.answered && !ignored && (c.n > m.waited || err != nil && !(timedOut && !m.mostTimeOut())) {
		ran, most := 0, 0
		if err == nil || timedOut && !m.mostTimeOut() {
			ran, most = m.admitted-c.n+1, len(m.in)
		}
		m.avg += (ran<<12 - m.avg) / 32
		m.high = max(min(m.avg+m.goingOn()<<12, most<<12), m.high)
		m.slots = max(m.slots, m.wanted())
	}
	c.answered = err == nil
	m.fill()
}

// setWindow takes away free slots above the window.
func (m *model) setWindow() {
	m.congested.window = int(m.congested.exact)
	if m.congested.window > 0 && len(m.line) == 0 {
		m.slots = min(m.slots, max(m.congested.window, len(m.in)))
	}
}

func (m *model) wanted() int {
	if m.congested.window > 0 {
		return m.congested.window
	}
	return max(24, 3*m.high>>12)
}

func (m *model) finish(i int, err error) {
	c := m.in[i]
	m.answer(c, err)
	m.leave(c, err)
	m.in = slices.Delete(m.in, i, i+1)
	if m.sizes && m.wanted() < m.slots {
		m.slots-- // the slot that becomes free is held back
	}
	m.stats.Completed++
	m.fill()
}

func (m *model) cancel(i int) {
	m.leave(m.line[i], context.Canceled)
	m.line = slices.Delete(m.line, i, i+1)
	m.stats.Canceled++
}

func (m *model) expire() {
	for len(m.line) > 0 && time.Since(m.line[0].arrived) >= 100*time.Millisecond {
		m.leave(m.line[0], bulkhead.ErrFull)
		m.line = m.line[1:]
		m.stats.WaitExpired++
	}
}

func (m *model) Stats() bulkhead.Stats {
	s := m.stats
	s.InFlight, s.Queued, s.Slots = len(m.in), len(m.line), m.slots
	s.Congested = m.congested.window > 0
	s.Average, s.High = float64(m.avg)/4096, float64(m.high)/4096
	return s
}
