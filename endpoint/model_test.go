package endpoint_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/resilience-go/resilience/endpoint"
)

// The model is the Set as a sequential program that states its rules, without atomics, views
// or packing: an endpoint keeps the attempts that it owes an answer, and an ejection keeps
// its probe.

type modelEndpoint struct {
	address            string
	dropped            bool
	generation         int
	attempts, inFlight int
	owed               map[*modelPick]bool // of this generation
	answeredAt         int64
	silentSince        int64
	startedAt          int64
	latency, failures  modelAverage
	run                int
	failedAt           int64
	credit             int // 0: not in a slow start
	since              int64
	out                *modelEjection // nil while it is in
}

type modelEjection struct {
	began, failed      int64
	probe              *modelPick // the last one, nil if its lease was ended
	leased             int64
	soon, late         int64
	soonPick, latePick int
}

type modelPick struct {
	e               *modelEndpoint
	at              int64
	generation      int
	probe, measured bool
	answered, ended bool
}

type modelTrail struct{ used []*modelEndpoint }

func (t *modelTrail) has(e *modelEndpoint) bool { return t != nil && slices.Contains(t.used, e) }

func (t *modelTrail) add(e *modelEndpoint) {
	if t != nil && !t.has(e) && len(t.used) < 8 {
		t.used = append(t.used, e)
	}
}

type model struct {
	now    int64 // the time since the start; negative if the clock was set back beyond it
	random *rand.Rand
	all    []*modelEndpoint
	counts endpoint.Counters

	picks, probePick int
	unanswered       int // attempts, without probes, since an answer
	probeAt          int64
	events           []string
}

func (m *model) in() (in []*modelEndpoint) {
	for _, e := range m.all {
		if e.out == nil {
			in = append(in, e)
		}
	}
	return in
}

// ejected returns the ejected endpoints, those first whose last failure is the oldest.
func (m *model) ejected() (out []*modelEndpoint) {
	for _, e := range m.all {
		if e.out != nil {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b *modelEndpoint) int { return cmp.Compare(a.out.failed, b.out.failed) })
	return out
}

// wall returns the time at which now is n.
func (m *model) wall(n int64) time.Duration { return time.Duration(n) }

// move takes the time from the clock of the rig.
func (m *model) move(clock time.Duration) { m.now = int64(clock) }

// ahead reports whether t is to come, and not because the clock was set back.
func (m *model) ahead(t int64, most time.Duration) bool {
	return t > m.now && t-m.now <= int64(most+time.Second)
}

func (m *model) update(addresses []string) (dropped int) {
	old := m.all
	m.all = nil
	for _, a := range addresses {
		i := slices.IndexFunc(old, func(e *modelEndpoint) bool { return e.address == a })
		if i >= 0 {
			m.all = append(m.all, old[i])
			continue
		}
		e := &modelEndpoint{address: a, since: m.now, answeredAt: math.MinInt64, owed: map[*modelPick]bool{}}
		if len(old) > 0 {
			e.credit = 1
		}
		m.all = append(m.all, e)
	}
	if len(m.in()) == 0 {
		for _, e := range m.all {
			m.admit(e)
		}
	}
	if len(m.all) == 1 {
		e := m.all[0]
		e.forget()
		if e.credit > 0 {
			e.credit, e.since = 0, m.now
		}
	}
	for _, e := range old {
		if !slices.Contains(m.all, e) {
			e.dropped = true
			dropped++
		}
	}
	return dropped
}

func (e *modelEndpoint) renew() {
	e.generation++
	e.owed = map[*modelPick]bool{}
}

func (e *modelEndpoint) forget() {
	e.renew()
	e.latency, e.failures, e.run = modelAverage{}, modelAverage{}, 0
}

func (m *model) admit(e *modelEndpoint) {
	m.events = append(m.events, fmt.Sprint(e.address, " returned at ", m.wall(m.now), ", failed ", 0, " times"))
	e.out, e.since, e.credit = nil, m.now, 2
	e.forget()
}

// start starts an attempt at e. Without a measurement its result changes nothing.
func (m *model) start(e *modelEndpoint, measured, probe bool) *modelPick {
	e.attempts++
	e.inFlight++
	p := &modelPick{e: e, at: m.now, generation: e.generation, probe: probe, measured: measured}
	if probe {
		e.out.probe, e.out.leased = p, m.now
	}
	if measured {
		if len(e.owed) == 0 || e.silentSince <= e.answeredAt {
			e.silentSince = m.now
		}
		e.startedAt = m.now
		e.owed[p] = true
	}
	return p
}

func (m *model) pick(t *modelTrail) *modelPick {
	var p *modelPick
	switch {
	case len(m.all) == 0:
		return nil
	case len(m.all) == 1:
		m.counts.Picks++
		p = m.start(m.all[0], false, false)
	default:
		e, kind := m.choose(t)
		*kind++
		p = m.start(e, true, kind == &m.counts.Probes)
	}
	t.add(p.e)
	return p
}

func failing(endpoints []*modelEndpoint, run int) bool {
	for _, e := range endpoints {
		if e.run < run {
			return false
		}
	}
	return true
}

func (m *model) leasable(e *modelEndpoint, t *modelTrail) bool {
	return (e.out.probe == nil || !m.ahead(e.out.leased+15e9, 15*time.Second)) && !t.has(e)
}

func (m *model) choose(t *modelTrail) (*modelEndpoint, *uint64) {
	c := &m.counts
	if len(m.ejected()) > 0 {
		if failing(m.in(), 3) {
			return cmp.Or(m.better(m.all, t), m.better2(m.all, t)), &c.PicksOfFailing
		}
		m.picks++
		if m.picks >= m.probePick || !m.ahead(m.probeAt, 5*time.Second) {
			for _, e := range m.ejected() {
				o := e.out
				due := m.picks >= o.soonPick && !m.ahead(o.soon, time.Minute) || m.picks >= o.latePick && !m.ahead(o.late, time.Minute)
				if due && m.leasable(e, t) {
					m.probeAt, m.probePick = m.now+5e9, m.picks+100
					return e, &c.Probes
				}
			}
		}
	}
	if e := m.better(m.in(), t); e != nil {
		return e, &c.Picks
	}
	for _, e := range m.all { // in their order
		if e.out != nil && m.leasable(e, t) {
			return e, &c.Probes
		}
	}
	if failing(m.in(), 2) {
		var out []*modelEndpoint
		for _, e := range m.all {
			if e.out != nil {
				out = append(out, e)
			}
		}
		if e := m.better(out, t); e != nil {
			return e, &c.PicksOfFailing
		}
	}
	return m.better(m.in(), nil), &c.Picks
}

// better2 is better without a Trail, after better returned nil with one.
func (m *model) better2(endpoints []*modelEndpoint, t *modelTrail) *modelEndpoint {
	for _, e := range endpoints {
		if !t.has(e) {
			return nil
		}
	}
	return m.better(endpoints, nil)
}

func (m *model) better(endpoints []*modelEndpoint, t *modelTrail) *modelEndpoint {
	if len(endpoints) == 0 {
		return nil
	}
	random, n := m.random.Uint64(), uint64(len(endpoints))
	i := (random & math.MaxUint32) * n >> 32
	candidates := []*modelEndpoint{endpoints[i]}
	if n > 1 {
		j := (random >> 32) * (n - 1) >> 32
		if j >= i {
			j++
		}
		candidates = append(candidates, endpoints[j])
	}
	tried := func(e *modelEndpoint) bool { return t.has(e) }
	candidates = slices.DeleteFunc(candidates, tried)
	if len(candidates) == 0 {
		rest := append(slices.Clone(endpoints[i:]), endpoints[:i]...)
		candidates = slices.DeleteFunc(rest, tried)
	}
	var best *modelEndpoint
	for _, e := range candidates {
		if best == nil || m.worse(best, e) {
			best = e
		}
	}
	return best
}

func (e *modelEndpoint) full() bool { return e.credit > 0 && e.inFlight >= e.credit }

func (m *model) worse(a, b *modelEndpoint) bool {
	if a.full() != b.full() {
		return a.full()
	}
	latency := func(e, other *modelEndpoint) float64 {
		usual := e.latency.at(m.now)
		if usual == 0 {
			usual = other.latency.at(m.now)
		}
		silence := float64(m.now - e.silentSince)
		old := m.now-e.startedAt >= max(1e9, e.startedAt-e.silentSince)
		if len(e.owed) > 0 && e.silentSince > e.answeredAt && !old && usual > 0 && silence > 4*usual {
			return silence
		}
		return usual
	}
	ratio, la, lb := 1., latency(a, b), latency(b, a)
	if la > 0 && lb > 0 {
		ratio = la / lb
	}
	if fa, fb := a.failures.at(m.now), b.failures.at(m.now); fa != fb {
		r := (1.02 - fb) / (1.02 - fa)
		ratio *= r * r * r * r
	}
	if 1/1.5 < ratio && ratio < 1.5 {
		ratio = 1
	}
	return float64(a.inFlight+1)*ratio > float64(b.inFlight+1)
}

func (m *model) end(p *modelPick) {
	if !p.ended {
		p.ended = true
		p.e.inFlight--
	}
	m.answered(p, endpoint.Ignored)
}

func (m *model) answered(p *modelPick, r endpoint.Result) {
	e := p.e
	if p.answered {
		return
	}
	p.answered = true
	if !p.measured || p.generation != e.generation {
		return
	}
	delete(e.owed, p)
	took := max(0, m.now-p.at)
	answeredSince := e.answeredAt > p.at
	switch {
	case p.probe:
	case r <= endpoint.Failure:
		m.unanswered = 0
	case r < endpoint.Ignored:
		m.unanswered++
	}
	switch r {
	case endpoint.Success, endpoint.Busy, endpoint.Failure:
		e.answeredAt = m.now
	default:
		if r != endpoint.Unreachable {
			e.latency.raise(float64(took), m.now)
		}
	}
	switch r {
	case endpoint.Success:
		e.latency.add(float64(took), m.now, 1./16)
		e.failures.add(0, m.now, 1./8)
		e.run = 0
		m.worked(e, r)
	case endpoint.Busy:
		e.failures.add(1, m.now, 1./8)
		m.worked(e, r)
	case endpoint.Failure, endpoint.Timeout, endpoint.Unreachable:
		e.failures.add(1, m.now, 1./8)
		if p.at-e.failedAt > int64(time.Minute) {
			e.run = 0
		}
		e.run++
		e.failedAt = m.now
		m.failed(p, r, r != endpoint.Failure && !answeredSince, took)
	default:
		if e.out != nil && e.out.probe == p {
			e.out.probe = nil
		}
	}
}

func (m *model) worked(e *modelEndpoint, r endpoint.Result) {
	switch {
	case e.dropped:
	case e.out != nil:
		m.admit(e)
		m.probeNow()
	case e.credit > 0 && r == endpoint.Success:
		if e.credit = (e.credit + 1) % 65; e.credit == 0 {
			e.since = m.now
		}
	}
}

func (m *model) failed(p *modelPick, r endpoint.Result, unanswered bool, took int64) {
	e := p.e
	switch {
	case e.dropped:
	case e.out != nil:
		if e.out.probe == p {
			m.schedule(e)
		}
	case e.run >= m.enough(e, r, unanswered, took):
		m.probeNow()
		if len(m.in()) == 1 {
			return
		}
		e.out = &modelEjection{began: m.now}
		e.since = m.now
		m.schedule(e)
		e.renew()
		*map[endpoint.Result]*uint64{
			endpoint.Failure: &m.counts.Failures, endpoint.Timeout: &m.counts.Timeouts, endpoint.Unreachable: &m.counts.Unreachable,
		}[r]++
		m.events = append(m.events, fmt.Sprint(e.address, " ejected at ", m.wall(m.now), ", failed ", e.run, " times"))
	}
}
