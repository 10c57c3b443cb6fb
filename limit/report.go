package limit

import (
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

var (
	outcomes = policykit.Labels("outcome", "useful", "gone", "shed", "queue_full", "canceled")
	results  = policykit.Labels("result", "raised", "not_raised", "lowered", "not_lowered", "abandoned")
)

// Report implements resilience.Reporter.
func (l *Limit) Report(details bool) resilience.Report {
	s := l.Stats()
	r := resilience.Report{Kind: policy, Name: l.cfg.Name, State: states[s.Overload], Attention: s.Overload}
	if l == l.root { // a fork shares the counters
		t := s.Trials
		r.Values = policykit.AppendCounters(r.Values, "calls_total", outcomes, s.Useful, s.Abandoned, s.Shed, s.QueueFull, s.Canceled)
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
		r.Settings, r.Time = policykit.Settings(l.String()), l.clock.Now()
	}
	return r
}
