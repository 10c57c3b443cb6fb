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

// String returns the settings of the fallback, for people. The text may change.
func (f *Fallback) String() string {
	s := policykit.Describe(policy, f.cfg.Name, "")
	if f.cfg.If != nil {
		return s + "answers for errors that If chooses"
	}
	return s + "answers for failures and rejections"
}

// Stats is what a Fallback has counted since it was made.
type Stats struct {
	Unused uint64 // the operation succeeded
	Passed uint64 // the operation panicked, or its error is not answered
	Used   uint64 // the fallback answered
	Failed uint64 // the fallback failed too
}

// Stats returns the counters.
func (f *Fallback) Stats() Stats {
	return Stats{Unused: f.count.Sum(unused), Passed: f.passed.Load(), Used: f.used.Load(), Failed: f.failed.Load()}
}
