package timeout

import (
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

var results = policykit.Labels("result", "failed", "late")

// Report implements resilience.Reporter.
func (t *Timeout) Report(details bool) resilience.Report {
	s := t.Stats()
	r := resilience.Report{Kind: policy, Name: t.cfg.Name, Values: []resilience.Value{{Name: "calls_total", Value: float64(s.Calls)}}}
	r.Values = policykit.AppendCounters(r.Values, "exceeded_total", results, s.Exceeded, s.Late)
	if details {
		r.Settings, r.Time = policykit.Settings(t.String()), t.clock.Now()
	}
	return r
}
