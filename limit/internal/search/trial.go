package search

import "math"

// A trial compares the throughput at another level with the throughput before it.
type trial struct {
	phase  phase
	up     bool
	again  bool // the trial before it raised the limit
	level  int
	waited int64   // how long requests waited for a processor, if that was most of their time
	base   float64 // throughput before the trial
	useful int     // useful completions that base is of
	before float64 // the time that these took
	flight float64 // requests in the handler before the trial
	took   float64 // their time in the handler
	began  int64
	until  int64 // end of the phase settling
}

type phase uint8

const (
	none     phase = iota
	moving         // to the level
	settling       // until the requests leave that entered before
	measuring
)

// budget is how long a trial may take: eight times what it should.
func (t *trial) budget() int64 {
	return max(idleTime, bounded(8*(t.flight+windowCalls)*max(1, t.flight/float64(t.level))/max(t.base, 1/t.before)))
}

// try begins a trial.
func (s *Search) try(now int64, level int, base float64, w *window) {
	level = max(min(Least, s.most), min(level, s.most))
	if s.state == bound && level == s.limit {
		s.higher = !s.higher
		s.pause(now, now-w.start)
		return
	}
	s.trial = trial{
		phase: moving, up: s.state == bound && level > s.limit, level: level,
		base: base, useful: w.useful, before: w.length(now), flight: w.inFlight(now), took: w.mean(), began: now,
	}
	if base > 0 {
		s.trial.before = float64(w.useful) / base
	}
	s.level = level
}

// advance goes on as a request leaves, with so many in the handler that count.
func (s *Search) advance(now int64, inFlight int) (ended Window) {
	t, w := &s.trial, &s.window
	switch t.phase {
	case moving:
		switch {
		case t.up && inFlight >= t.level, !t.up && inFlight-1 <= t.level:
			s.settle(now)
		case t.up && now-t.began > max(idleTime, bounded(2*s.service)):
			s.outgrown(now)
		}
		return ended
	case settling:
		if now >= t.until {
			t.phase = measuring
			s.useful = now // no stall: the requests that left before may all have been too late
			s.begin(now)
		}
		return ended
	case measuring:
		return s.measure(now)
	}
	if !w.full(now, max(windowTime, bounded(s.service))) {
		return ended
	}
	ended = Window{true, float64(w.useful)}
	if s.state == bound {
		s.check(now)
	} else {
		s.observe(now, inFlight-1)
	}
	s.begin(now)
	return ended
}

// settle ends the phase moving.
func (s *Search) settle(now int64) {
	t := &s.trial
	t.phase = settling
	t.until = now + bounded(t.took*min(1, float64(t.level)/t.flight))
}

// observe ends a window without a proven limit.
func (s *Search) observe(now int64, inFlight int) {
	w := &s.window
	x := w.throughput(now)
	before := s.uneven
	s.growing, s.uneven = w.grew(1), w.uneven()
	if w.binds() && s.level == s.most {
		s.prove(now, float64(s.most), x) // Config.Max is a proof
		return
	}
	if !s.growing || s.uncontended.windows == 0 {
		s.state, s.level = open, s.most
		if w.mean() <= slowed*s.verdict.service {
			s.verdict = verdict{}
		}
		if s.uncontended.windows == 0 {
			s.rest = now + idleTime // the requests that end first are the short ones
		}
		if !before && !s.uneven || s.uncontended.windows == 0 {
			s.uncontended.add(w, now) // its requests were not in a backlog
		}
		s.watch = max(min(watchFrom, s.most), min(s.most, 2*(inFlight+s.lasting.count)))
		return
	}
	if v := &s.verdict; v.service > 0 && w.mean() > slowed*v.service && v.differs(x, false) {
		// The trial was wrong: without a limit the throughput fell.
		s.rest, s.verdict = now, verdict{}
	}
	if !s.slow(w.mean()) || now < s.rest {
		s.state, s.level = open, s.most
		return
	}
	n := s.needed(x)
	switch {
	case s.shadow:
		s.prove(now, float64(n), x)
	case w.inFlight(now) < changed*float64(n) || !w.grew(2):
		if s.state == held { // the two throughputs would not differ enough
			s.level = min(s.most, max(s.level, 2*n))
		}
	default:
		s.try(now, n, x, w)
		if 2*float64(s.waited) > w.mean() {
			s.trial.waited = s.waited
		}
	}
}

// A verdict is the result of the trial that the state follows from.
type verdict struct {
	throughput float64 // with it
	service    float64 // if the trial showed no queue, the uncontended service time before it
	off        int     // windows in a row with another throughput
}

// differs reports whether the throughput was another for two windows.
func (v *verdict) differs(x float64, either bool) bool {
	if x >= v.throughput/changed && (!either || x <= v.throughput*changed) {
		v.off = 0
		return false
	}
	v.off++
	return v.off > 1
}

// check ends a window under a proven limit.
func (s *Search) check(now int64) {
	w := &s.window
	long := now - w.start
	s.growing = w.arrivals > w.useful
	if s.growing && (w.binds() || s.overload) { // in an overload, rejections keep the queue short
		// A time without a queue is no pressure.
		s.pressure = min(s.pressure+now-max(w.start, s.empty), 2*s.tolerated())
	} else {
		s.pressure = max(0, s.pressure-long)
	}
	s.overload = s.pressure >= s.tolerated() || s.overload && s.pressure > 0
	if !w.binds() || s.shadow {
		s.checked = window{}
		return
	}
	s.checked.add(w)
	if s.checked.completions < 2*windowCalls {
		return
	}
	all := s.checked
	s.checked = window{}
	x := all.throughput(now)
	v := &s.verdict
	if v.differs(x, true) {
		if s.limit >= s.most { // there is no higher limit to try
			v.throughput, v.off = x, 0
			return
		}
		s.pressure, s.overload = 0, false // nothing is proven now
		s.try(now, 2*s.limit, x, &all)
		return
	}
	if v.off > 0 {
		return
	}
	v.throughput += (x - v.throughput) * 2 * step
	switch {
	case now < s.rest:
	case s.higher:
		s.try(now, 2*s.limit, max(x, v.throughput), &all)
	default:
		s.try(now, s.limit/2, max(x, v.throughput), &all)
	}
}

// measure ends the window of a trial if it has shown enough.
func (s *Search) measure(now int64) (ended Window) {
	t, w := &s.trial, &s.window
	long := w.length(now)
	least := windowTime
	if s.state == bound {
		least = shortest // a shorter one costs less
	}
	if long < float64(least) || long < w.mean() || w.completions == 0 {
		return ended
	}
	if !w.binds() {
		if t.up && !w.grew(1) {
			s.outgrown(now)
		} else {
			s.abandon(now)
		}
		return ended
	}
	switch {
	case t.waited == 0:
	case 2*s.waited < t.waited: // with fewer in the handler they wait less, so they were the queue
		ended = s.ends(now, 0)
		s.judgeFirst(now, t.base, true)
		s.begin(now)
		return ended
	case w.completions < windowCalls: // the mean lags
		return ended
	case 4*s.waited < 3*t.waited: // the processor is busy with those that come to the queue
		t.waited = s.waited
		s.begin(now)
		return Window{true, t.base * long}
	}
	ratio := t.flight / float64(t.level) // of throughputs, if they are in proportion
	if t.up {
		ratio = float64(s.limit) / float64(t.level)
	}
	// The log likelihood ratio of two Poisson processes, with rates in that ratio and in one
	// that is closer to 1.
	other := max(1, ratio/apart)
	llr := float64(t.useful+w.useful)*math.Log((t.before+long/ratio)/(t.before+long/other)) + float64(w.useful)*math.Log(ratio/other)
	x := w.throughput(now)
	knee := t.up && x > t.base/equal || !t.up && x < equal*t.base // a result between the two
	enough := 2 * windowCalls
	if t.up {
		enough *= 2 // it costs no throughput
	}
	gone := w.completions >= 8*enough && (s.state == bound || w.useful > 0) // most callers leave
	fewer := func(n int) bool { return w.useful < n && !gone && t.base*long < float64(n) }
	if s.state != bound && math.Abs(llr) < sure && fewer(4*enough) {
		return ended // undecided
	}
	// A result that lasts must be precise: a knee, and what half of a proven limit shows.
	if fewer(enough) && (math.Abs(llr) < sure || llr > -sure && (knee || w.useful < windowCalls) || s.state == bound && !t.up) {
		return ended
	}
	if w.useful == 0 { // the callers leave, or the handler has stalled
		s.abandon(now)
		return ended
	}
	ended = s.ends(now, x)
	if s.state == bound {
		s.judge(now, x, llr > -sure)
	} else {
		s.judgeFirst(now, x, llr > 0)
	}
	s.begin(now)
	return ended
}

// judgeFirst ends the trial of a suspected overload.
func (s *Search) judgeFirst(now int64, x float64, same bool) {
	t := s.trial
	if !same { // no queue: the service time is what a request takes
		s.results.NotLowered++
		s.open()
		s.verdict = verdict{throughput: t.base, service: s.uncontended.service}
		s.uncontended.service = max(s.uncontended.service, min(t.took, s.window.mean()))
		s.pause(now, (now-t.began)/4)
		return
	}
	s.results.Lowered++
	s.rests = 0
	grew := s.window.grew(1)
	if x < equal*t.base {
		s.knee = float64(t.level) * t.base / x
		s.prove(now, head*s.knee+1, x)
		s.higher = false
	} else {
		s.knee = float64(t.level) / guide // by Little's law
		s.prove(now, float64(t.level), x)
		// The level is a guess, and may be too low. A higher one costs no throughput.
		s.rest = now + (s.rest-now)/4
	}
	if s.growing = grew; grew { // otherwise it was a burst
		s.pressure, s.overload = s.tolerated(), true
	}
}

// judge ends the trial of a proven limit.
func (s *Search) judge(now int64, x float64, same bool) {
	t, limit := s.trial, float64(s.limit)
	switch {
	case t.up && (!same || t.base == 0):
		if t.again {
			s.outgrown(now)
			return
		}
		s.results.Raised++
		s.limit = t.level
		s.try(now, 2*s.limit, x, &s.window)
		s.trial.again = true
	case t.up && x > t.base/equal:
		s.results.Raised++
		s.knee = limit * x / t.base
		s.prove(now, head*s.knee+1, x)
	case t.up:
		s.results.NotRaised++
		s.prove(now, limit, max(x, t.base))
	case !same:
		s.results.NotLowered++
		s.knee = limit
		s.prove(now, limit, t.base)
	case x < equal*t.base:
		s.results.NotLowered++
		s.knee = float64(t.level) * t.base / x
		s.prove(now, min(limit/equal, head*s.knee+1), t.base)
	default:
		s.results.Lowered++
		s.knee = float64(t.level)
		s.prove(now, min(limit, head*s.knee+1), x)
		if s.window.useful < s.window.completions*3/4 {
			s.rest, s.higher = now, false // callers leave, so it is still far too high
		}
	}
}

// prove sets a limit that a trial has proven.
func (s *Search) prove(now int64, limit, throughput float64) {
	t := s.trial
	if t.phase == measuring {
		s.service = min(s.service, max(1, s.window.mean())) // the median lags
	}
	s.state, s.trial, s.checked = bound, trial{}, window{}
	s.queued = now
	s.limit = max(min(Least, s.most), int(min(limit, float64(s.most))))
	s.level = s.limit
	s.verdict = verdict{throughput: throughput}
	s.higher = !t.up
	s.pause(now, now-max(t.began, s.window.start))
}

// outgrown ends a trial of a higher limit that the load does not reach, or that has made more
// throughput as the one before it has: there is no need for a limit.
func (s *Search) outgrown(now int64) {
	s.results.Raised++
	s.open()
	s.rests = 0
	s.begin(now)
}

// abandon ends a trial without a result.
func (s *Search) abandon(now int64) {
	s.results.Inconclusive++
	s.higher = !s.trial.up
	long := now - s.trial.began
	s.trial = trial{}
	if s.state == bound {
		s.level = s.limit
	} else {
		s.state, s.level = open, s.most
	}
	s.rest = now + long
	s.begin(now)
}
