package endpoint

import (
	"slices"
	"sync/atomic"
	"time"
)

const (
	// noise is the ratio of latency and failures of two endpoints up to which the attempts
	// in flight decide. With 1, equal endpoints get unequal work; with 2, an endpoint that
	// is three times slower gets too much of a small load.
	noise = 1.5
	// silent is how many times its latency an endpoint must owe an answer before that time
	// counts as its latency.
	silent = 4
	// maxFailures is the share of failures at which the comparison would divide by 0. It is
	// more than 1, so that an endpoint that only fails is still compared by its latency.
	maxFailures = 1.02
	// failingRun is how many failures in a row show that an endpoint does not work at
	// present, when no endpoint is known to be better.
	failingRun = 3
	// noAnswerRun is how many attempts in a row that no endpoint has answered show that the
	// dependency is down, and not one endpoint. With 5, one call in 800 fails while half of
	// twenty endpoints are down. With 7, each client makes one more attempt in an outage.
	noAnswerRun = 6
)

// Pick is one attempt at an endpoint. Its holder calls Answered and End, each once; further
// calls do nothing, and End before Answered counts the attempt as Ignored. The methods of a
// Pick are safe for concurrent use. A Pick must not be copied.
type Pick struct {
	endpoint   *Endpoint
	at         int64  // when it started; probes of one endpoint start at different times
	generation uint32 // 0 if the endpoint is the only one: then nothing is measured
	progress   atomic.Uint32
	probe      bool
}

// The bits of Pick.progress.
const (
	pickAnswered = 1 << iota
	pickEnded
	pickUntimed
)

// Pick chooses the endpoint of an attempt and starts the attempt. It avoids the endpoints
// in t, which may be nil, and adds its choice to t. It returns false if the set has no
// endpoint.
func (s *Set) Pick(t *Trail) (Pick, bool) {
	v := s.view.Load()
	switch {
	case len(v.usable) == 0:
		return Pick{}, false
	case len(v.all) == 1:
		e := v.all[0]
		t.add(e)
		e.started.Add(1)
		s.counters.Add(picked)
		return Pick{endpoint: e}, true
	}
	now := s.now()
	e, kind := s.choose(v, t, now)
	t.add(e)
	s.counters.Add(kind)
	return Pick{endpoint: e, at: now, generation: e.start(now), probe: kind == probed}, true
}

// start counts an attempt and returns its generation.
func (e *Endpoint) start(now int64) (generation uint32) {
	e.started.Add(1)
	owed := e.owed.Add(1)
	if uint32(owed) == 1 || e.silentSince.Load() <= e.answeredAt.Load() {
		e.silentSince.Store(now)
	}
	e.startedAt.Store(now)
	return uint32(owed >> 32)
}

// choose returns the endpoint of an attempt and the counter of that kind of pick.
func (s *Set) choose(v *view, t *Trail, now int64) (e *Endpoint, kind int) {
	if len(v.ejected) > 0 {
		if allFailing(v.in, failingRun) {
			if e := s.better(v.usable, t, now); e != nil {
				return e, despiteFailures
			}
			return s.better(v.usable, nil, now), despiteFailures
		}
		if e := s.dueProbe(v, t, now); e != nil {
			return e, probed
		}
	}
	if e := s.better(v.in, t, now); e != nil {
		return e, picked
	}
	// The call has tried all endpoints that are in. One that is ejected may have recovered.
	if e := s.probeUntried(v, t, now); e != nil {
		return e, probed
	}
	// While those that are in still work, no further attempt goes to an ejected one.
	if allFailing(v.in, failingRun-1) {
		if e := s.better(v.ejected, t, now); e != nil {
			return e, despiteFailures
		}
	}
	return s.better(v.in, nil, now), picked
}

// allFailing reports whether each of endpoints has failed at least run times in a row.
func allFailing(endpoints []*Endpoint, run int64) bool {
	return !slices.ContainsFunc(endpoints, func(e *Endpoint) bool { return e.run.Load() < run })
}

// better returns the better of two random endpoints that are not in t. If both are, it
// returns the best one of the rest, nil if there is none.
func (s *Set) better(endpoints []*Endpoint, t *Trail, now int64) *Endpoint {
	n := uint64(len(endpoints))
	if n == 0 {
		return nil
	}
	random := s.rand()
	i := random & (1<<32 - 1) * n >> 32
	a := endpoints[i]
	if n == 1 {
		if t.has(a) {
			return nil
		}
		return a
	}
	j := random >> 32 * (n - 1) >> 32
	if j >= i {
		j++
	}
	b := endpoints[j]
	switch triedA, triedB := t.has(a), t.has(b); {
	case triedA && triedB:
		return best(endpoints, int(i), t, now)
	case triedA:
		return b
	case triedB || !worse(a, b, now):
		return a
	default:
		return b
	}
}

// best returns the best of endpoints that are not in t, nil if there is none. Of equal ones
// it returns the first from index start on.
func best(endpoints []*Endpoint, start int, t *Trail, now int64) (best *Endpoint) {
	for k := range endpoints {
		if e := endpoints[(start+k)%len(endpoints)]; !t.has(e) && (best == nil || worse(best, e, now)) {
			best = e
		}
	}
	return best
}

// worse reports whether an attempt at a is expected to take longer, or to fail more often,
// than one at b.
func worse(a, b *Endpoint, now int64) bool {
	if fullA, fullB := a.full(), b.full(); fullA != fullB {
		return fullA
	}
	ratio := 1.0
	latencyA, latencyB := a.latency.at(now), b.latency.at(now)
	latencyA, latencyB = a.expected(latencyA, latencyB, now), b.expected(latencyB, latencyA, now)
	if latencyA > 0 && latencyB > 0 {
		ratio = latencyA / latencyB
	}
	if failuresA, failuresB := a.failures.at(now), b.failures.at(now); failuresA != failuresB {
		r := (maxFailures - failuresB) / (maxFailures - failuresA)
		ratio *= r * r * r * r
	}
	if ratio < noise && ratio > 1/noise {
		ratio = 1
	}
	return float64(a.InFlight()+1)*ratio > float64(b.InFlight()+1)
}

// expected returns latency, or the time for which e has owed an answer if that is
// suspiciously long. Without a latency of its own, e is compared with other.
func (e *Endpoint) expected(latency, other float64, now int64) float64 {
	usual := latency
	if usual == 0 {
		usual = other
	}
	if silence := float64(e.silence(now)); usual > 0 && silence > silent*usual {
		return silence
	}
	return usual
}

// Untimed marks an attempt whose answer may come late although the endpoint works, such as a
// stream that waits for an event. The endpoint then owes no answer to it, and the time until
// Answered is not part of the endpoint's latency. Call it before Answered.
func (p *Pick) Untimed() {
	if p.endpoint != nil && p.progress.Or(pickUntimed)&(pickUntimed|pickAnswered) == 0 {
		p.endpoint.answer(p.generation)
	}
}

// Endpoint returns the endpoint of the attempt.
func (p *Pick) Endpoint() *Endpoint { return p.endpoint }

// Probe reports whether the endpoint was ejected, and the attempt checks whether it has
// recovered.
func (p *Pick) Probe() bool { return p.probe }

// Patience returns how long a probe should wait for an answer before the work is sent to
// another endpoint instead: eight times as long as the others take, and at least 50 ms. It
// is 0 if the attempt is no probe, or if nothing is known about the others.
func (p *Pick) Patience() time.Duration {
	if !p.probe {
		return 0
	}
	s := p.endpoint.set
	_, latency, _ := s.others(p.endpoint, s.now())
	if latency == 0 {
		return 0
	}
	return max(leastPatience, time.Duration(probePatience*latency))
}

const (
	// probePatience is how many times longer than the others a probe may take.
	probePatience = 8
	// leastPatience bounds the patience with a probe from below. A new connection takes
	// about so long in a slow network.
	leastPatience = 50 * time.Millisecond
)

// Working reports whether the set has an endpoint that is not in t, is not ejected, and did
// not fail last. Then an attempt that could not be connected may go on there at once. It
// returns false when no endpoint answers any more: otherwise each call would try several.
func (s *Set) Working(t *Trail) bool {
	return s.unanswered.Load() < noAnswerRun &&
		slices.ContainsFunc(s.view.Load().in, func(e *Endpoint) bool { return !t.has(e) && e.Working() })
}

// Working reports whether the endpoint is not ejected, and did not fail last.
func (e *Endpoint) Working() bool { return !e.ejected.Load() && e.run.Load() == 0 }
