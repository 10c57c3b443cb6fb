package timeout

import (
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/report"
)

var results = report.Labels("result", "failed", "late")

// Report implements resilience.Reporter.
func (t *Timeout) Report(details bool) resilience.Report {
	s := t.Stats()
	r := resilience.Report{Kind: policy, Name: t.cfg.Name, Values: []resilience.Value{{Name: "calls_total", Value: float64(s.Calls)}}}
	r.Values = report.Append(r.Values, "exceeded_total", results, s.Exceeded, s.Late)
	if details {
		r.Settings, r.Time = report.Settings(t.String()), t.clock.Now()
	}
	return r
}
