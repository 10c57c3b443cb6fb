// Package search decides how many requests may be in a handler. It has no clock, lock or
// goroutine: the same calls make the same decisions. Times are in nanoseconds.
//
// A Search is open at first: it limits nothing. It learns the uncontended service time, which
// is how long a request is in the handler while as many requests arrive as are useful. By
// Little's law, the handler needs as many requests as this time, multiplied by its throughput
// in useful completions per second. When requests take over twice as long, more arrive than are
// useful, and the handler has over three times the needed number, the search suspects an
// overload: from then on, the number does not grow. A window under this hold shows the
// throughput without any other limit. Then a trial admits only twice the needed number. If
// requests waited for a processor for most of their time, and wait half as long now, the queue
// was the processor's, so the limit is proven. Otherwise the throughput decides. If it stays
// the same, the other requests were queued inside the handler, so the limit is proven. If it
// falls in proportion, the handler is slow without a queue: the search opens, and takes the
// service time for uncontended. In between, the two throughputs give the knee, the least number
// of requests with full throughput, and the limit is one and a half times the knee, plus one. A
// proven limit is tried with half and with twice its value by turns, and with twice its value
// at once when the throughput has risen by half or fallen by a third. After each result a pause
// follows, which is twice as long as the one before, up to 16 times the first. When twice the
// limit makes more throughput, it is doubled, and when that happens twice in a row, the search
// opens. It also opens when the load does not reach twice the limit, when no request has been
// queued for a second, and when the limit helps nobody: requests are queued, and for the longer
// of a second and two service times nothing useful completes under a proven limit, or nothing
// leaves under another one. A pause follows in the last case. A proven limit may be that of an
// overload: that begins when more requests have arrived than were useful for a fifth of a second,
// and so many are queued that the handler needs longer than that for them. It ends when as many
// have been useful as have arrived, for as long. A stall of the handler makes a
// first trial measure again, and ends the measurement of another one without a result. A
// request counts against the limit for one to two laps of eight service times, or until no
// request has left for half a second while a lower trial waits. Then it is lasting: the limit
// is higher by one until it leaves.
package search

import (
	"math"
	"time"
)

const (
	// Least is the lowest limit in requests. With fewer, one slow request stops the others.
	Least = 4
	// watchFrom is the number of requests in the handler from which on a handler is watched
	// that has never had more.
	watchFrom = 32

	// windowCalls is the least number of completions in a window of less than a second: their
	// standard error is a sixth.
	windowCalls = 32
	// windowTime is the least length of a watched window, of a lap and of a stall, and the
	// least time that a pause is a multiple of. It is longer than the pauses of a Go process
	// and of its scheduler.
	windowTime = int64(50 * time.Millisecond)

	// guide is the level of the first trial as a multiple of what Little's law asks for. The
	// trial must not be below the knee although the estimate may be off by half.
	guide = 2.0
	// slowed is the service time, as a multiple of the uncontended one, that is suspicious.
	slowed = 2.0
	// head is the limit as a multiple of the knee. It keeps the handler busy while a
	// slot changes hands.
	head = 1.5
	// equal is the share of a throughput that counts as the same.
	equal = 0.85
	// changed is the factor by which a throughput must change to end a proof, and the least
	// number of requests in the handler at a first trial, as a multiple of its level.
	changed = 1.5
	// apart is the factor, at most, between the two throughputs that a trial decides between.
	// A handler that has over twice the throughput in proportion has a queue.
	apart = 4.0
	// sure is the log likelihood ratio that decides a trial early: one in a hundred is wrong.
	sure = 4.6

	// lap is how many service times a request counts against the limit, at least, and
	// twice that at most. In a mean, it counts for no more than that either. Of exponential
	// times, one in three thousand is longer than a lap.
	lap = 8
	// step is the share by which one request moves the service time, and half of that by
	// which two windows move a proof's throughput.
	step = 1.0 / 16
	// memory is the time constant with which uncontended times adapt to worse ones.
	memory = float64(10 * time.Second)

	// overloadTime is how long more requests must arrive than are answered to be an overload, and
	// how long the handler must need to answer those that are queued then. Callers wait longer.
	overloadTime = int64(200 * time.Millisecond)
	// idleTime is how long no request must be queued for the search to open, and how long
	// nothing useful must complete while requests are queued.
	idleTime = int64(time.Second)
	// longTime is the most that a stall or a trial counts when the time after it is set.
	longTime = int64(time.Minute)
	// shortest is the least time that a request may be queued in an overload, and that a trial
	// of a proven limit measures. A busy Go process accepts requests in batches of 10 ms.
	shortest = int64(12 * time.Millisecond)

	// rest is the pause after a trial, in durations of that trial. It doubles restDoublings
	// times.
	rest          = 16
	restDoublings = 4
)

// A Search finds the limit of one handler. Its methods are not safe for concurrent use.
type Search struct {
	most int // requests: the highest limit

	// These share a word.
	state    state
	shadow   bool // nothing is held up, so there are no trials
	growing  bool // in the last window more requests arrived than were useful
	uneven   bool // without a proven limit, the number in the handler changed in the last window
	overload bool // requests were queued for too long under a proven limit, and pressure is left
	higher   bool // the next trial of a proven limit is of a higher one
	rests    int8 // pauses since the first proof or since the search has opened: each doubles the next

	trial trial
	limit int // requests, in state bound
	level int // requests: the limit in force, except in state held without the lasting ones
	knee  float64

	// service is the running median of the time in the handler. Unlike a mean, a few
	// uploads of a minute do not move it.
	service     float64
	uncontended uncontended
	lasting     lasting

	window   window
	checked  window // consecutive windows under a proven limit
	pressure int64  // how long growing has lasted, less how long not
	useful   int64  // when the last useful completion came
	seen     int64  // when Tick was last called
	left     int64  // when a request last left
	queued   int64  // when a request was last queued
	empty    int64  // when none was last queued
	waited   int64  // how long requests that entered lately waited for a processor
	draining int64  // until when requests are served that a stall has left

	verdict verdict
	rest    int64 // when the next trial may begin
	watch   int   // requests in the handler from which on it is watched

	results Trials
	last    Result
}

type state uint8

const (
	open  state = iota // nothing is held up
	held               // an overload is suspected: no more requests enter than leave
	bound              // a trial has proven the limit
)

// New returns a Search for limits up to most. In shadow mode it holds nothing up.
func New(most int, shadow bool) Search {
	return Search{most: most, level: most, shadow: shadow, watch: min(watchFrom, most), rest: math.MinInt64 / 4}
}

// Level returns the number of requests that may be in the handler.
func (s *Search) Level() int {
	if s.state == held && s.trial.phase == none { // no more enter than leave, however long they last
		return s.level
	}
	return min(s.level+s.lasting.count, s.most)
}

// Limited reports whether a limit is in force.
func (s *Search) Limited() bool { return s.level < s.most || s.state == bound }

// WatchFrom returns the number of requests in the handler from which on it must be watched.
func (s *Search) WatchFrom() int { return s.watch }

// Rare reports whether requests are so rare that each of them is to be a sample, because it
// is not known yet how many there are or they are few.
func (s *Search) Rare() bool {
	return s.uncontended.windows == 0 || s.uncontended.throughput*float64(windowTime) < windowCalls
}

// Knee returns the least number of requests with the handler's full throughput, as last
// measured, or 0.
func (s *Search) Knee() float64 { return s.knee }

// Overload reports whether requests that are queued for longer than Patience are rejected.
func (s *Search) Overload() bool { return s.overload }

// Patience returns how long a request may be queued in an overload.
func (s *Search) Patience() int64 { return max(shortest, bounded(s.service)) }

// ServiceTime returns how long a request is in the handler.
func (s *Search) ServiceTime() int64 { return bounded(s.service) }

// NewestFirst reports whether the newest queued request goes first: more arrive than are
// useful, so the callers of the oldest would leave before they get an answer.
func (s *Search) NewestFirst() bool {
	return s.growing || s.trial.phase != none && !s.trial.up
}

// Stalled reports whether the handler has stalled, or is serving what a stall has left.
func (s *Search) Stalled(now int64) bool {
	return now < s.draining || now-s.useful > s.stall()
}

// bounded converts nanoseconds to at most 36 years, so that sums do not overflow.
func bounded(ns float64) int64 { return int64(min(ns, math.MaxInt64/8)) }

// tolerated is how much pressure is no overload, and how long the handler may need to answer the
// queued requests.
func (s *Search) tolerated() int64 { return max(overloadTime, bounded(2*s.service)) }

// backlogged reports whether the handler needs longer than that to answer so many requests.
func (s *Search) backlogged(queued int) bool {
	return float64(queued) > s.verdict.throughput*float64(s.tolerated())
}

// stall is how long no useful completion may come without being a stall.
func (s *Search) stall() int64 { return max(windowTime, bounded(2*s.service)) }

// lapTime is how long a lap takes.
func (s *Search) lapTime() int64 {
	if s.service == 0 {
		return idleTime
	}
	return max(windowTime, bounded(lap*s.service))
}

// learn moves the service time to a request's time in the handler.
func (s *Search) learn(took float64) {
	switch {
	case s.service == 0:
		s.service = max(1, took)
	case took > s.service:
		s.service *= 1 + step
	default:
		s.service /= 1 + step
	}
}

// counted is a request's time in the handler as it counts in a mean.
func (s *Search) counted(took float64) float64 {
	if s.service > 0 {
		return min(took, 2*lap*s.service)
	}
	return took
}

// slow reports whether a service time is suspicious.
func (s *Search) slow(took float64) bool {
	return s.uncontended.windows > 0 && took > slowed*s.uncontended.service
}

// Sample records a request that has left a handler that is not watched. It stands for weight
// requests. Sample reports whether the handler must be watched now.
//
// A caller that left after more than the service time counts: the request takes at least as
// long.
func (s *Search) Sample(now, took int64, useful bool, weight, inFlight int) (watch bool) {
	x := float64(took)
	if useful || x > s.service {
		s.learn(x)
	}
	if s.slow(s.service) && inFlight >= Least {
		return true
	}
	if w := &s.window; useful {
		w.completions++
		w.useful += weight
		w.took += s.counted(x)
		if w.enough(now) {
			s.uncontended.add(w, now)
			s.begin(now)
		}
	}
	if s.watch > watchFrom && 4*inFlight < s.watch {
		s.watch -= s.watch / windowCalls
	}
	return false
}

// Watch begins to watch the handler, with so many requests in it.
func (s *Search) Watch(now int64, inFlight int) {
	s.lasting = lasting{older: inFlight, laps: [2]int64{now, math.MinInt64}}
	s.useful, s.left, s.queued, s.seen = now, now, now, now
	s.verdict = verdict{} // it was about another load
	s.begin(now)
}

// WindowStart returns when the present window began.
func (s *Search) WindowStart() int64 { return s.window.start }

// Restart forgets all times and an unfinished trial, because the clock was set.
func (s *Search) Restart(now int64, inFlight int) {
	if s.trial.phase != none {
		s.abandon(now)
	}
	s.rest, s.rests, s.draining, s.empty = now, 0, now, now
	s.last = Result{}
	s.Watch(now, inFlight)
}

// begin begins a window.
func (s *Search) begin(now int64) { s.window = window{start: now} }

// Arrive records a request that arrives at a watched handler with so many others in flight
// and in the queue.
func (s *Search) Arrive(now int64, inFlight, queued int) {
	s.window.arrivals++
	if inFlight == 0 { // an idle handler has not stalled
		s.useful, s.left = now, now
	}
	s.Tick(now, inFlight, queued)
}

// Leave records that a request leaves a watched handler, one of so many in flight. It returns
// the window that ends, if one does.
func (s *Search) Leave(now, entered int64, useful bool, inFlight, queued int) (ended Window) {
	took := float64(max(1, now-entered))
	if useful {
		if now-s.useful > s.stall() {
			s.stalled(now)
		}
		s.useful = now
		s.learn(took)
	}
	s.left = now
	w := &s.window
	w.completions++
	w.took += s.counted(took)
	if useful {
		w.useful++
	}
	if queued > 0 && inFlight >= s.Level() {
		w.bound++
	}
	if queued == 0 {
		s.growing = false
	}
	s.lasting.leave(now, entered)
	s.suspects(now, inFlight-1-s.lasting.count)
	overload := s.overload
	ended = s.advance(now, inFlight-s.lasting.count)
	s.overload = s.overload && (overload || s.backlogged(queued)) // it begins with a long queue
	s.Tick(now, inFlight-1, queued)
	return ended
}

// Waited records how long requests that have entered the handler wait for a processor.
func (s *Search) Waited(long int64) { s.waited = long }

// Forget records that a request leaves a watched handler that is no evidence about it.
func (s *Search) Forget(now, entered int64, inFlight, queued int) {
	s.left = now
	s.lasting.leave(now, entered)
	s.Tick(now, inFlight-1, queued)
}

// stalled starts again what a stall has spoilt. The requests that it has left are no sign of
// an overload.
func (s *Search) stalled(now int64) {
	s.draining = now + 2*min(longTime, now-s.useful)
	if s.trial.phase == measuring && s.state == bound {
		s.abandon(now)
	}
	s.begin(now) // a first trial measures again
}

// Tick does what follows from time alone. It must be called at least once a second while
// requests are queued.
func (s *Search) Tick(now int64, inFlight, queued int) {
	if queued > 0 && now-s.seen > 3*idleTime { // the clock was set forward
		s.Restart(now, inFlight)
	}
	s.seen = now
	s.lasting.tick(now, s.lapTime(), inFlight)
	quiet, last := max(idleTime, bounded(2*s.service)), s.left
	if s.state == bound {
		last = s.useful
	}
	if queued > 0 {
		s.queued = now
	} else {
		s.empty = now
	}
	t := &s.trial
	if t.phase == moving && !t.up && 2*(now-s.left) > quiet {
		s.lasting.all(now, inFlight) // since nothing enters, only slow requests are left
		s.settle(now)
	}
	switch {
	case queued > 0 && s.Limited() && now-last > quiet && !s.shadow: // the limit helps nobody
		if t.phase != none {
			s.results.Inconclusive++
		}
		s.open()
		s.pause(now, quiet/4)
		s.useful, s.left = now, now
		s.begin(now)
	case t.phase != none && now-t.began > t.budget():
		s.abandon(now)
	case s.state == bound && t.phase == none && now-s.queued > max(idleTime, bounded(s.service)):
		s.open()
		s.rests = 0
	}
}

// suspects keeps the number of requests in the handler from growing once requests are slow
// and more arrive than are useful. The window that begins then shows the throughput without
// any other limit.
func (s *Search) suspects(now int64, inFlight int) {
	w := &s.window
	if s.state != open || s.trial.phase != none || s.shadow || now < s.rest || !s.slow(s.service) || w.completions*w.completions < windowCalls {
		return
	}
	if !w.grew(2) || float64(inFlight) < changed*float64(s.needed(w.throughput(now))) {
		return
	}
	s.state, s.level, s.growing, s.uneven = held, min(s.most, inFlight+s.lasting.count), true, true
	s.last = Result{} // it was about another load
	s.begin(now)
}

// needed is the number of requests that is certainly enough: guide times what Little's law asks
// for at the higher of the given and the uncontended throughput.
func (s *Search) needed(throughput float64) int {
	n := guide * s.uncontended.service * max(throughput, s.uncontended.throughput)
	return max(Least, int(math.Ceil(min(n, float64(s.most)))))
}

// open ends the limit.
func (s *Search) open() {
	s.state, s.trial, s.level, s.verdict = open, trial{}, s.most, verdict{}
	s.pressure, s.overload, s.growing, s.rest = 0, false, false, math.MinInt64/4
}

// pause lets no trial begin for some multiple of the given time.
func (s *Search) pause(now, long int64) {
	s.rest = now + rest<<s.rests*max(windowTime, min(long, longTime))
	s.rests = min(s.rests+1, restDoublings)
}

// Configure changes what New was called with.
func (s *Search) Configure(most int, shadow bool) {
	if shadow != s.shadow {
		s.open()
	}
	s.shadow = shadow
	if s.level == s.most || s.level > most {
		s.level = most
	}
	s.most = most
	s.limit = min(s.limit, most)
	s.watch = min(max(s.watch, watchFrom), most)
}

// Quiet reports whether the handler need not be watched.
func (s *Search) Quiet(inFlight int) bool {
	return s.state == open && s.trial.phase == none && inFlight < s.watch && !s.slow(s.service)
}
