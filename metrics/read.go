package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/metrics/internal/series"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
)

var descs = func() map[*series.Metric]*prometheus.Desc {
	all := map[*series.Metric]*prometheus.Desc{}
	for _, m := range series.All {
		all[m] = prometheus.NewDesc(m.Name, m.Help, m.LabelNames(), nil)
	}
	return all
}()

// A sample is one series of a scrape.
type sample struct {
	metric *series.Metric
	labels []string // the name of the policy first
	value  float64
}

func (s *sample) send(ch chan<- prometheus.Metric) {
	typ := prometheus.GaugeValue
	if s.metric.Type == series.Counter {
		typ = prometheus.CounterValue
	}
	ch <- prometheus.MustNewConstMetric(descs[s.metric], typ, s.value, s.labels...)
}

// A tally adds up what policies that have the same name say.
type tally map[string]*sample

func (t tally) add(m *series.Metric, v float64, labels ...string) {
	key := m.Name + "\xff" + strings.Join(labels, "\xff") // which is not valid in a label
	if s := t[key]; s != nil {
		s.value += v
		return
	}
	t[key] = &sample{m, labels, v}
}

// each adds the values of all that a metric with one label counts, in the order of
// the table.
func (t tally) each(m *series.Metric, name string, values ...uint64) {
	for i, v := range values {
		t.add(m, float64(v), name, m.Labels[0].Values[i])
	}
}

// member adds what m has counted and, unless it is but the template of a group, how it
// stands.
func (t tally) member(m *member) {
	switch p := m.policy.(type) {
	case *breaker.Breaker:
		t.breaker(p, m.name)
	case *retry.Retry:
		t.retry(p, m.name)
	case *bulkhead.Bulkhead:
		t.bulkhead(p, m.name)
	case *limit.Limit:
		t.limit(p, m.name)
	case *timeout.Timeout:
		s := p.Stats()
		t.add(series.TimeoutCalls, float64(s.Calls), m.name)
		t.each(series.TimeoutExceeded, m.name, s.Exceeded, s.Late)
	case *fallback.Fallback:
		s := p.Stats()
		t.each(series.FallbackCalls, m.name, s.Unused, s.Passed, s.Used, s.Failed)
	case *keyed.Group:
		s := p.Stats()
		t.add(series.KeyedKeys, float64(s.Keys), m.name)
		t.add(series.KeyedEvicted, float64(s.Evicted), m.name)
	}
	var own standing
	if !m.template {
		own.add(m.policy, false)
	}
	t.standing(m.id, &own)
}

func (t tally) breaker(b *breaker.Breaker, name string) {
	s := b.Stats()
	t.each(series.BreakerCalls, name, s.Successes, s.Failures, s.Ignored, s.Rejected)
	t.add(series.BreakerWouldReject, float64(s.WouldReject), name)
	t.each(series.BreakerProbes, name, s.ProbesSucceeded, s.ProbesFailed, s.ProbesIgnored, s.ProbesLate)
	t.add(series.BreakerOpenSeconds, s.OpenTime.Seconds(), name)
	for _, c := range b.Transitions() {
		t.add(series.BreakerTransitions, float64(c.Count), name, stateLabel(c.From), stateLabel(c.To), c.Rule)
	}
}

func stateLabel(s breaker.State) string { return series.BreakerState.Labels[0].Values[s] }

func (t tally) retry(r *retry.Retry, name string) {
	s := r.Stats()
	for _, reason := range retry.Reasons() {
		t.add(series.RetrySuppressed, float64(s.Stopped[reason]), name, strings.ReplaceAll(reason, " ", "_"))
	}
	t.each(series.RetryCalls, name, s.FirstTry, s.Recovered, s.GaveUp(), s.Aborted)
	t.each(series.RetryAttempts, name, s.Calls(), s.Retries)
}

func (t tally) bulkhead(b *bulkhead.Bulkhead, name string) {
	s := b.Stats()
	t.each(series.BulkheadCalls, name, s.Completed, s.QueueFull+s.WaitExpired, s.Canceled)
	t.each(series.BulkheadRejected, name, s.QueueFull, s.WaitExpired)
	t.add(series.BulkheadInFlight, float64(s.InFlight), name)
	t.add(series.BulkheadWaiting, float64(s.Queued), name)
}

func (t tally) limit(l *limit.Limit, name string) {
	s := l.Stats()
	t.each(series.LimitCalls, name, s.Useful, s.Abandoned, s.Shed, s.QueueFull, s.Canceled)
	t.each(series.LimitTests, name, s.Trials.Raised, s.Trials.NotRaised, s.Trials.Lowered, s.Trials.NotLowered, s.Trials.Inconclusive)
	t.add(series.LimitOverloads, float64(s.Overloads), name)
	t.add(series.LimitInFlight, float64(s.InFlight), name)
	t.add(series.LimitWaiting, float64(s.Queued), name)
}

// standing is how policies stand that share what they count: those of the keys of a
// group, or one alone.
type standing struct {
	states          [3]uint64
	modes           [4]uint64
	open            float64 // seconds
	level, capacity int64
	limit           int
	knee            float64
	overloads       int // there are now
}

// add adds how p stands. A fork has its present OPEN to add to what is counted with its
// origin, where the present OPEN of the origin is included already.
func (s *standing) add(p resilience.Policy, fork bool) {
	switch p := p.(type) {
	case *breaker.Breaker:
		state := p.State()
		s.states[state]++
		s.modes[p.Mode()]++
		if fork && state != breaker.Closed {
			s.open += presentOpen(p)
		}
	case *retry.Retry:
		level, capacity := p.Budget()
		s.level += level
		s.capacity += capacity
	case *bulkhead.Bulkhead:
		s.limit += p.Stats().Slots
	case *limit.Limit:
		now := p.Stats()
		s.limit += now.Limit
		s.knee += now.Knee
		if now.Overload {
			s.overloads++
		}
	}
}

// presentOpen returns how many seconds the present OPEN of a fork has lasted.
func presentOpen(fork resilience.Policy) float64 {
	r, ok := fork.(resilience.Reporter)
	if !ok {
		return 0
	}
	for _, v := range r.Report(false).Values {
		if v.Name == "open_seconds_total" {
			return v.Value
		}
	}
	return 0
}

func (t tally) standing(of id, s *standing) {
	switch of.kind {
	case breakers:
		t.each(series.BreakerState, of.name, s.states[:]...)
		t.each(series.BreakerMode, of.name, s.modes[:]...)
		t.add(series.BreakerOpenSeconds, s.open, of.name)
	case retries:
		t.add(series.RetryBudget, float64(s.level), of.name)
		t.add(series.RetryCapacity, float64(s.capacity), of.name)
	case bulkheads:
		t.add(series.BulkheadLimit, float64(s.limit), of.name)
	case limits:
		t.add(series.LimitInForce, float64(s.limit), of.name)
		t.add(series.LimitKnee, s.knee, of.name)
		t.add(series.LimitOverload, float64(s.overloads), of.name)
	}
}

// group adds how the policies of the keys of g stand. What they count is in the
// template. A policy of f that is among them is no fork but one that keys share, and
// counts once: it is then in shared, unless it has been counted as a member.
func (t tally) group(f *found, g *keyed.Group, shared map[resilience.Policy]bool) {
	all := map[id]*standing{}
	add := func(kind string, q named) error {
		of := id{kind, q.Name()}
		if f.names[of] == nil {
			return nil // made by a Forker of the user, who may have named it after the key
		}
		m := f.known[q]
		if m != nil {
			if !m.template || shared[q] {
				return nil
			}
			shared[q] = true
		}
		if all[of] == nil {
			all[of] = &standing{}
		}
		all[of].add(q, m == nil)
		return nil
	}
	for _, p := range g.All() {
		_ = visit(p, add) // which returns no error
	}
	for of, s := range all {
		t.standing(of, s)
	}
}
