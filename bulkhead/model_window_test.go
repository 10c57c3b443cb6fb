package bulkhead_test

import "time"

// outlive ends a congestion that has not been full for three seconds.
func (m *model) outlive() {
	w := &m.congested
	if m.now()-w.full > 3*time.Second {
		m.endCongestion()
	}
}

// isOld reports whether the window grows until calls time out again.
func (m *model) isOld() bool {
	w := &m.congested
	return w.exact > 0 && m.now()-w.since > m.trusted()<<w.holds
}

// trusted returns how long a window is trusted at first.
func (m *model) trusted() time.Duration {
	return max(30*time.Second, time.Duration(60*m.times().timeout))
}

func (m *model) endCongestion() {
	if w := &m.congested; w.exact > 0 {
		w.exact, w.checking, w.ended = 0, false, m.now()
	}
}

// giveUp ends a congestion whose window does not help.
func (m *model) giveUp() {
	m.endCongestion()
	w := &m.congested
	w.rest = m.now() + 2*m.trusted()<<w.rests
	w.rests = min(w.rests+1, 4)
}

// follow makes the window follow an answer.
func (m *model) follow(c *caller, timedOut bool) {
	w := &m.congested
	m.outlive()
	a := answer{at: m.now(), took: m.now() - c.admitted, timedOut: timedOut, congested: w.exact > 0, ended: w.ended}
	a.evidence = timedOut && !c.deadlinePassed() && float64(max(1, a.took)) > m.times().took
	if !timedOut {
		silence := m.now() - m.quiet
		usual := m.times().bursts
		if m.quiet > 0 && usual > 0 && silence > max(25*time.Millisecond, time.Duration(2*usual)) && silence <= 2*time.Second {
			m.paused.at, m.paused.long, m.waited = m.now(), silence, m.admitted
		}
		m.quiet = 0
	}
	m.past = append(m.past, a)
	t := m.times()
	switch {
	case timedOut && !a.evidence:
		m.check(c, false)
	case w.checking:
		if !timedOut && c.n > w.evidence && w.eased < 0 {
			w.eased = m.admitted
		}
		m.check(c, timedOut)
	case w.exact == 0 && (t.took < 0.4*t.timeout || t.took < 4*t.usual):
		w.evidence = m.admitted
	case w.exact == 0:
		if timedOut {
			m.congest(c, t)
		}
	case timedOut:
		if c.n > w.evidence && m.share() > 0.3 {
			part := 2.0
			if m.isOld() {
				part, w.since, w.holds = 4, m.now(), min(w.holds+1, 4)
			}
			m.cut(min(w.exact, float64(len(m.in))) / part)
		}
	default:
		m.resize(c, t)
	}
	if w.exact > w.peak {
		w.peak, w.before = w.exact, t.steady
	}
}

// congest begins a congestion if c, which has timed out, shows one.
func (m *model) congest(c *caller, t times) {
	w, inFlight := &m.congested, len(m.in)
	switch {
	case c.n <= w.evidence || m.share() <= 0.3 || t.usual == 0 || inFlight < 4 || m.now() < w.rest:
	case inFlight >= 6 && t.took < 0.7*t.timeout:
	default:
		w.since, w.holds = m.now(), 0
		w.begun++
		m.cut(float64(inFlight) / 4)
	}
}

// resize makes the window follow the success of c.
func (m *model) resize(c *caller, t times) {
	w := &m.congested
	switch {
	case m.isOld():
		w.exact++
	case t.took > 0.5*t.timeout:
		if c.n <= w.evidence {
			return
		}
		w.exact, w.evidence = max(1, 0.7*w.exact), m.admitted
		if w.exact <= w.peak/8 && t.steady > 0.8*w.before {
			m.giveUp()
		}
	case t.took < 0.1*t.timeout:
		w.exact++
	default:
		w.exact += 1 / w.exact
	}
}

func (m *model) cut(window float64) {
	w := &m.congested
	w.exact, w.full, w.eased, w.late = max(1, window), m.now(), -1, 0
	w.checking, w.began, w.ends, w.evidence = true, m.now(), nil, m.admitted
}

// check adds the end of a call to the check, if there is one, unless it is none of the eight
// calls. A check that takes as long as sixteen timeouts begins again.
func (m *model) check(c *caller, timedOut bool) {
	w := &m.congested
	if !w.checking {
		return
	}
	if float64(m.now()-w.began) > 16*m.times().timeout {
		w.began, w.ends, w.evidence = m.now(), nil, m.admitted
	}
	if c.n > w.evidence && c.n <= w.evidence+8 {
		w.ends = append(w.ends, timedOut)
		if timedOut && w.eased >= 0 && c.n > w.eased {
			w.late++
		}
	}
	switch {
	case w.late == 3:
		m.giveUp()
	case len(w.ends) == 8:
		m.checked()
	}
}

// checked ends a check of eight calls.
func (m *model) checked() {
	w := &m.congested
	failed := 0
	for _, timedOut := range w.ends {
		if timedOut {
			failed++
		}
	}
	switch {
	case failed == 8:
		m.cut(w.exact / 2)
		return
	case failed == 0:
		w.checking, w.rests = false, 0
		w.peak, w.before = w.exact, m.times().steady
	}
	w.began, w.ends, w.evidence = m.now(), nil, m.admitted
}
