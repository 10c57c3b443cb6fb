package endpoint

import (
	"math"
	"time"
)

const (
	// latencyWeight and failureWeight are the weights of one sample in the averages. A
	// change of the latency is known after some sixteen answers, of the failures after
	// eight.
	latencyWeight = 1. / 16
	failureWeight = 1. / 8
	// slowStart is how many attempts an endpoint has in flight when its slow start is over.
	slowStart = 64
	// chance is the probability that a run of failures ejects an endpoint as good as the
	// others. 1e-4 ejects fifteen times as many healthy endpoints where all fail alike. 1e-6
	// costs one more attempt at a replica that answers 503.
	chance = 1e-5
	// leastShare and mostShare bound the share of failures of the others for which chance
	// is computed: it takes 4 to 110 failures in a row. If hardly any attempt at the
	// others succeeds, no number of failures is evidence.
	leastShare = .03
	mostShare  = .9
	// unreachableShare and lateShare are the shares of failures of the others below which
	// an attempt that was not answered at all ejects by itself. In a brown-out all are
	// late, and slow is not dead.
	unreachableShare = .5
	lateShare        = .2
)

// Answered records that the attempt came to its result: for HTTP the headers are there. err
// is the error of a failed attempt, for events and reports; it may be nil.
func (p *Pick) Answered(r Result, err error) {
	if p.endpoint == nil {
		return
	}
	if before := p.progress.Or(pickAnswered); before&pickAnswered == 0 {
		p.record(r, err, before&pickUntimed == 0)
	}
}

// record is Answered, called once. timed is false after Untimed.
func (p *Pick) record(r Result, err error, timed bool) {
	e := p.endpoint
	// Another attempt, which started later, may have been answered.
	answeredSince := e.answeredAt.Load() > p.at
	if timed && !e.answer(p.generation) || !timed && p.generation != e.generation() {
		return
	}
	s := e.set
	now := s.now()
	took := max(0, now-p.at)
	if !p.probe {
		s.countUnanswered(r)
	}
	switch r {
	case Success:
		e.answeredAt.Store(now)
		if timed {
			e.latency.add(float64(took), now, latencyWeight)
		}
		e.failures.add(0, now, failureWeight)
		if e.run.Load() != 0 { // a load is cheaper than a store for other processors
			e.run.Store(0)
		}
		if e.ejected.Load() || e.credit.Load() > 0 {
			s.succeeded(p, now)
		}
	case Busy: // it is neither part of a run of failures nor its end
		e.answeredAt.Store(now)
		e.failures.add(1, now, failureWeight)
		if e.ejected.Load() {
			s.succeeded(p, now)
		}
	case Failure, Timeout, Unreachable:
		switch {
		case r == Failure:
			e.answeredAt.Store(now)
		case r == Timeout && timed:
			e.latency.raise(float64(took), now)
		}
		e.failures.add(1, now, failureWeight)
		run := e.countFailure(p.at, now)
		unanswered := !answeredSince && (r == Unreachable || r == Timeout && timed)
		if unanswered || p.probe || run >= failingRun {
			s.failed(p, failure{result: r, unanswered: unanswered, took: took, run: run, err: err}, now)
		}
	default:
		if timed {
			e.latency.raise(float64(took), now)
		}
		if p.probe {
			s.release(p)
		}
	}
}

// countUnanswered counts r in the run of attempts that no endpoint has answered. Probes do
// not count: it is no news that they fail.
func (s *Set) countUnanswered(r Result) {
	switch r {
	case Success, Busy, Failure:
		if s.unanswered.Load() != 0 {
			s.unanswered.Store(0)
		}
	case Timeout, Unreachable:
		s.unanswered.Add(1)
	}
}

// answer counts an answer to an attempt. It returns false if the attempt's generation is
// over.
func (e *Endpoint) answer(generation uint32) bool {
	for {
		owed := e.owed.Load()
		if uint32(owed>>32) != generation {
			return false
		}
		if e.owed.CompareAndSwap(owed, owed-1) {
			return true
		}
	}
}

// End records that nothing of the attempt is left: for HTTP the body was read or closed.
func (p *Pick) End() {
	if p.endpoint == nil {
		return
	}
	before := p.progress.Or(pickAnswered | pickEnded)
	if before&pickEnded == 0 {
		p.endpoint.ended.Add(1)
	}
	if before&pickAnswered == 0 {
		p.record(Ignored, nil, before&pickUntimed == 0) // last, because it calls user code
	}
}

// runAge is the time without attempts that ends a run of failures. If a client calls a set of
// 20 endpoints twice a second, each gets an attempt in 10 s.
const runAge = time.Minute

// countFailure adds the failure of an attempt to the run of failures and returns its length.
func (e *Endpoint) countFailure(started, now int64) int64 {
	if last := e.failedAt.Swap(now); started-last > int64(runAge) {
		e.run.Store(0)
	}
	return e.run.Add(1)
}

// others returns the mean share of failures and the mean latency in ns of the endpoints that
// are in, without e. Both are 0 if they are unknown. The latency does not fade: a pause does not
// make the others quicker. samples is how many samples latency rests on.
func (s *Set) others(e *Endpoint, now int64) (failures, latency, samples float64) {
	others, known := 0., 0.
	for _, o := range s.view.Load().in {
		if o == e {
			continue
		}
		others++
		failures += o.failures.at(now)
		if l := o.latency.last(); l > 0 {
			known++
			latency += l
			samples += o.latency.samples()
		}
	}
	return failures / max(1, others), latency / max(1, known), samples
}

// enough returns how many failures in a row eject e.
func (s *Set) enough(e *Endpoint, f failure, now int64) int64 {
	failures, latency, samples := s.others(e, now)
	switch {
	case f.unanswered && f.result == Unreachable && failures < unreachableShare:
		return 1
	case f.unanswered && failures < lateShare && latency > 0 && float64(f.took) > silent*latency*max(1, sure/samples):
		// If it took less, the timeout of the attempt may just have been short. A mean of
		// few samples may be far too short.
		return 1
	case failures > mostShare:
		return math.MaxInt64
	}
	return int64(math.Ceil(math.Log(chance) / math.Log(max(leastShare, failures))))
}
