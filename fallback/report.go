package fallback

import (
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

var outcomes = policykit.Labels("outcome", "unused", "passed", "used", "failed")

// Report implements resilience.Reporter.
func (f *Fallback) Report(details bool) resilience.Report {
	s := f.Stats()
	r := resilience.Report{Kind: policy, Name: f.cfg.Name}
	r.Values = policykit.AppendCounters(nil, "calls_total", outcomes, s.Unused, s.Passed, s.Used, s.Failed)
	if details {
		r.Settings, r.Time = policykit.Settings(f.String()), f.clock.Now()
	}
	return r
}
