package endpoint

import (
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

// The indexes of the counters.
const (
	picked          = iota // of an endpoint that is in
	probed                 // of an ejected endpoint
	despiteFailures        // among all endpoints, because all fail
	ejectedUnreachable
	ejectedTimeout
	ejectedFailures
)

// ejections are the counters of ejections by the result of the last attempt.
var ejections = [...]int{Unreachable: ejectedUnreachable, Timeout: ejectedTimeout, Failure: ejectedFailures}

// Counters are the counters of a Set and all its forks. They never fall.
type Counters struct {
	// Picks are the attempts at endpoints that are in. Probes are the attempts at ejected
	// endpoints. PicksOfFailing are the attempts while all endpoints that are left fail,
	// at any endpoint.
	Picks, Probes, PicksOfFailing uint64
	// Unreachable, Timeouts and Failures are the ejections because an endpoint could not
	// be connected, gave no answer in time, or failed several times in a row.
	Unreachable, Timeouts, Failures uint64
}

// Stats is what a Set has counted since it was made, and its present endpoints.
type Stats struct {
	Counters
	Endpoints []EndpointStats // in the order of Set.Endpoints
}

// EndpointStats is the present state of an endpoint, and what it has done since its address
// was added.
type EndpointStats struct {
	Address string
	State   string    // In, Ejected, Returning or Suspended
	Since   time.Time // the wall time at which State began
	Why     string    // of an ejection: the present one, or else the last one; "" if there was none
	// Attempts have been made, InFlight have not ended.
	Attempts, InFlight uint64
	// Latency is a moving average of the time to an answer, Failures of the share of
	// attempts that failed. Both are 0 for the only endpoint of a Set, for which they are
	// not measured.
	Latency  time.Duration
	Failures float64
	// ProbeAt is when a probe of an ejected endpoint is due at the latest, if there have
	// been as many picks as endpoints. Probes of other endpoints may come first.
	ProbeAt time.Time
}

// Stats returns the counters and the endpoints. They are read one after another, so they
// agree with each other only while no attempt runs.
func (s *Set) Stats() Stats {
	all := s.view.Load().all
	st := Stats{Counters: s.countersNow(), Endpoints: make([]EndpointStats, len(all))}
	for i, e := range all {
		st.Endpoints[i] = e.stats()
	}
	return st
}

func (s *Set) countersNow() Counters {
	n := &s.counters
	return Counters{
		Picks: n.Sum(picked), Probes: n.Sum(probed), PicksOfFailing: n.Sum(despiteFailures),
		Unreachable: n.Sum(ejectedUnreachable), Timeouts: n.Sum(ejectedTimeout), Failures: n.Sum(ejectedFailures),
	}
}

func (e *Endpoint) stats() EndpointStats {
	s := e.set
	now := s.now()
	inFlight := e.InFlight()
	st := EndpointStats{
		Address: e.address, Attempts: uint64(e.started.Load()), InFlight: uint64(inFlight),
		Latency: time.Duration(e.latency.at(now)), Failures: e.failures.at(now),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.State, st.Since, st.Why = e.state(), s.timeAt(e.since), e.why
	if o := e.out; o != nil {
		st.Why = o.String()
		st.ProbeAt = s.timeAt(max(now, o.late, o.lease))
	}
	return st
}

// state returns the state. set.mu is held.
func (e *Endpoint) state() string {
	switch {
	case e.suspended:
		return Suspended
	case e.out != nil:
		return Ejected
	case e.credit.Load() > 0:
		return Returning
	default:
		return In
	}
}

// Explain returns, for people, one line for each endpoint: its state, since when and why,
// and what happens next. The text may change.
func (s *Set) Explain() string {
	var b strings.Builder
	for _, e := range s.view.Load().all {
		r := e.Report(true)
		fmt.Fprintf(&b, "%s is %s since %s", e.address, r.State, policykit.FormatTime(r.Since))
		for _, text := range []string{r.Why, r.Next} {
			if text != "" {
				b.WriteString(": " + text)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Nodes returns the endpoints by their addresses. resilience.Walk calls it.
func (s *Set) Nodes() iter.Seq[resilience.Node] {
	return func(yield func(resilience.Node) bool) {
		for _, e := range s.view.Load().all {
			if !yield(resilience.Node{Policy: e, Key: e.address, Fork: true}) {
				return
			}
		}
	}
}

// The labels of the values.
var (
	kinds    = policykit.Labels("kind", "in", "probe", "all_failing")
	reasons  = policykit.Labels("reason", "unreachable", "timeout", "failures")
	byStates = policykit.Labels("state", "in", "ejected", "returning", "suspended")
)

// Report implements resilience.Reporter.
func (s *Set) Report(details bool) resilience.Report {
	r := resilience.Report{Kind: policy, Name: s.cfg.Name}
	if !s.fork { // the forks share its counters
		c := s.countersNow()
		r.Values = policykit.AppendCounters(r.Values, "picks_total", kinds, c.Picks, c.Probes, c.PicksOfFailing)
		r.Values = policykit.AppendCounters(r.Values, "ejections_total", reasons, c.Unreachable, c.Timeouts, c.Failures)
	}
	v := s.view.Load()
	counts := [4]int{1: len(v.ejected), 3: len(v.all) - len(v.usable)}
	for _, e := range v.in {
		if e.credit.Load() > 0 {
			counts[2]++
		} else {
			counts[0]++
		}
	}
	for i, n := range counts {
		r.Values = append(r.Values, resilience.Value{Name: "replicas", Labels: byStates[i], Value: float64(n)})
	}
	if details {
		r.Settings, r.Time = policykit.Settings(s.String()), s.clock.Now()
	}
	return r
}

// Report implements resilience.Reporter.
func (e *Endpoint) Report(details bool) resilience.Report {
	if !details {
		e.set.mu.Lock()
		defer e.set.mu.Unlock()
		return e.reportState(e.state())
	}
	st := e.stats()
	r := e.reportState(st.State)
	r.Time, r.Since, r.Why, r.RetryAt = e.set.clock.Now(), st.Since, st.Why, st.ProbeAt
	r.Values = []resilience.Value{
		{Name: "attempts_total", Value: float64(st.Attempts)},
		{Name: "in_flight", Value: float64(st.InFlight)},
		{Name: "attempts_percent", Value: 100 * e.share()},
		{Name: "failed_percent", Value: 100 * st.Failures},
		{Name: "latency_ms", Value: float64(st.Latency) / float64(time.Millisecond)},
	}
	switch st.State {
	case Ejected:
		r.Next = fmt.Sprintf("is due for a probe in %v at the latest, if there are calls", policykit.Round(st.ProbeAt.Sub(r.Time)))
	case Suspended:
		r.Next = "gets no attempts while it is suspended"
	case Returning:
		r.Next = fmt.Sprintf("starts slowly, with %d in flight at most", e.credit.Load())
	default:
		r.Next = "gets attempts"
		if st.Latency > 0 {
			r.Next += fmt.Sprintf("; it answers in %v, and %.0f %% fail", policykit.Round(st.Latency), 100*st.Failures)
		}
	}
	return r
}

// reportState returns the part of a report that needs no details.
func (e *Endpoint) reportState(state string) resilience.Report {
	return resilience.Report{
		Kind: policy, Name: e.set.cfg.Name, State: state, Attention: state == Ejected, Recovering: state == Returning,
	}
}

// share returns the share that e has of the attempts at the present endpoints.
func (e *Endpoint) share() float64 {
	sum := int64(0)
	for _, o := range e.set.view.Load().all {
		sum += o.started.Load()
	}
	return float64(e.started.Load()) / float64(max(1, sum))
}

// String returns the settings, for people. The text may change.
func (s *Set) String() string {
	all := s.view.Load().all
	text := policykit.Describe(policy, s.cfg.Name, s.key) + policykit.Count(len(all), "endpoint")
	if s.cfg.Subset != All {
		text += fmt.Sprintf(" of at most %d", s.cfg.Subset)
	}
	return text
}
