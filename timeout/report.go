package timeout

import (
	"fmt"

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

// String returns the settings that the timeout uses, for people. The text may change.
func (t *Timeout) String() string {
	s := policykit.Describe(policy, t.cfg.Name, "")
	if t.cfg.Timeout < 0 {
		return s + "no timeout"
	}
	return s + fmt.Sprintf("%v until %v", t.cfg.Timeout, t.cfg.Until)
}

// Stats is what a Timeout has counted since it was made.
type Stats struct {
	Calls    uint64 // operations that were started
	Exceeded uint64 // operations that failed after their timeout
	Late     uint64 // operations that succeeded after their timeout
}

// Stats returns the counters.
func (t *Timeout) Stats() Stats {
	return Stats{Exceeded: t.exceeded.Load(), Late: t.late.Load(), Calls: t.calls.Load()}
}
