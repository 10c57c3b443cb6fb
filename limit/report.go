package limit

import (
	"fmt"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/limit/internal/search"
)

// The labels are the names of metrics, which stay as they were first published.
var (
	outcomes   = policykit.Labels("outcome", "useful", "gone", "shed", "queue_full", "canceled")
	byPriority = policykit.Labels("priority", "lowest", "low", "normal", "critical")
	results    = policykit.Labels("result", "raised", "not_raised", "lowered", "not_lowered", "abandoned")
)

// Report implements resilience.Reporter.
func (l *Limit) Report(details bool) resilience.Report {
	s := l.Stats()
	r := resilience.Report{Kind: policy, Name: l.cfg.Name, State: states[s.Overload], Attention: s.Overload}
	if l == l.root { // a fork shares the counters
		t := s.Trials
		r.Values = policykit.AppendCounters(r.Values, "calls_total", outcomes, s.Useful, s.Abandoned, s.Shed, s.QueueFull, s.Canceled)
		r.Values = policykit.AppendCounters(r.Values, "rejected_total", byPriority, s.Rejected[:]...)
		r.Values = policykit.AppendCounters(r.Values, "tests_total", results, t.Raised, t.NotRaised, t.Lowered, t.NotLowered, t.Inconclusive)
		r.Values = append(r.Values, resilience.Value{Name: "overloads_total", Value: float64(s.Overloads)})
	}
	overload := 0.0
	if s.Overload {
		overload = 1
	}
	r.Values = append(r.Values,
		resilience.Value{Name: "overload", Value: overload},
		resilience.Value{Name: "in_flight", Value: float64(s.InFlight), Max: float64(s.Limit)},
		resilience.Value{Name: "waiting", Value: float64(s.Queued)},
		resilience.Value{Name: "in_force", Value: float64(s.Limit)},
		resilience.Value{Name: "knee", Value: s.Knee},
	)
	if details {
		r.Settings, r.Time, r.Since = policykit.Settings(l.String()), l.clock.Now(), *l.began.Load()
		r.Why, r.Next = l.explain()
	}
	return r
}

// explain returns why the limit is where it is, and what happens next.
func (l *Limit) explain() (why, next string) {
	now := l.clock.Elapsed()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.gate.search
	last, wait := s.Last(), s.Rest()-now
	if !s.Limited() && (last.At == 0 || wait <= 0) {
		return "", ""
	}
	switch {
	case last.At == 0 && s.Level() == l.settings.Load().max:
		why = "Max is reached"
	case last.At == 0:
		why = "requests take over twice as long as usual, and more arrive than are answered"
	case last.After == 0:
		why = fmt.Sprintf("a trial %s ago with %d requests in the handler halved their wait for a processor, after %.0f/s with %.0f",
			rounded(now-last.At), last.Level, last.Before, last.Flight)
	default:
		why = fmt.Sprintf("a trial %s ago with %d requests in the handler gave %.0f/s, after %.0f/s with %.0f",
			rounded(now-last.At), last.Level, last.After, last.Before, last.Flight)
	}
	if !s.Limited() {
		return why, fmt.Sprintf("limits nothing, and tries a limit in %s at the earliest", rounded(wait))
	}
	if p, ok := l.gate.queue.Edge(); s.Overload() && ok {
		next = fmt.Sprintf("rejects requests of priority %v and below that were queued for %s; ", p, rounded(s.Patience()))
	}
	if wait > 0 {
		return why, next + fmt.Sprintf("tries another limit in %s, or when the throughput changes", rounded(wait))
	}
	return why, next + "tries another limit"
}

// rounded is a duration for people.
func rounded(ns int64) time.Duration {
	d := time.Duration(ns)
	if d > 10*time.Second {
		return d.Round(time.Second)
	}
	return d.Round(time.Millisecond)
}

// String returns a description of the limit and its settings for people. The text may
// change.
func (l *Limit) String() string {
	c := l.settings.Load()
	s := policykit.Describe(policy, l.cfg.Name, l.key)
	if c.max <= search.Least {
		s += fmt.Sprintf("%d in flight", c.max)
	} else {
		s += "set by trials in an overload"
		if c.max < most {
			s += fmt.Sprintf(", %d in flight at most", c.max)
		}
	}
	switch {
	case c.maxQueue < 0:
		s += ", no queue"
	case c.maxQueue > 0:
		s += fmt.Sprintf(", queue of %d", c.maxQueue)
	}
	if c.shadow {
		s += ", only counts what it would reject"
	}
	return s
}

// Stats returns the counters and the state. It loads them one after another, so they are
// consistent with each other only while no request arrives or ends.
func (l *Limit) Stats() Stats {
	l.mu.Lock()
	var s Stats
	s.Gauges = Gauges{Knee: l.gate.search.Knee(), Overload: l.gate.search.Overload(), Queued: l.gate.queue.Len()}
	if level := l.gate.level(); level < most {
		s.Limit = level
	}
	s.InFlight = int(l.word.Load() & flightMask)
	l.mu.Unlock()
	s.Useful, s.Abandoned = l.count.Sum(useful), l.count.Sum(abandoned)
	s.Shed, s.QueueFull, s.Canceled = l.count.Sum(shed), l.count.Sum(queueFull), l.count.Sum(canceled)
	s.Trials = Trials{
		Raised: l.trials[0].Load(), NotRaised: l.trials[1].Load(), Lowered: l.trials[2].Load(),
		NotLowered: l.trials[3].Load(), Inconclusive: l.trials[4].Load(),
	}
	for i := range s.Rejected {
		s.Rejected[i] = l.rejected[i].Load()
	}
	s.Overloads = l.overloads.Load()
	return s
}

// tally adds what the gate has counted to the counters.
func (l *Limit) tally() {
	for i, n := range l.gate.rejected {
		if n > 0 {
			l.rejected[i].Add(n)
		}
	}
	l.gate.rejected = [priorities]uint64{}
	r := l.gate.search.Results()
	if r == (Trials{}) {
		return
	}
	for i, n := range [...]uint64{r.Raised, r.NotRaised, r.Lowered, r.NotLowered, r.Inconclusive} {
		l.trials[i].Add(n)
	}
}
