package retry

import (
	"slices"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

var (
	outcomes     = policykit.Labels("outcome", "first_try", "recovered", "gave_up", "aborted")
	attempts     = policykit.Labels("kind", "first", "retry")
	reasonLabels = func() (labels []string) {
		for _, why := range Reasons() {
			labels = append(labels, policykit.Label(why))
		}
		return labels
	}()
	suppressed = policykit.Labels("reason", reasonLabels...)
)

// Report implements resilience.Reporter.
func (r *Retry) Report(details bool) resilience.Report {
	p := resilience.Report{Kind: policy, Name: r.cfg.Name}
	if !r.fork { // a fork shares the counters
		s := r.Stats()
		p.Values = policykit.AppendCounters(p.Values, "calls_total", outcomes, s.FirstTry, s.Recovered, s.GaveUp(), s.Aborted)
		p.Values = policykit.AppendCounters(p.Values, "attempts_total", attempts, s.Calls(), s.Retries)
		p.Values = slices.Grow(p.Values, len(suppressed)+2)
		for i, why := range Reasons() {
			p.Values = policykit.AppendCounters(p.Values, "suppressed_total", suppressed[i:], s.Stopped[why])
		}
	}
	level, capacity := r.Budget()
	p.Values = append(p.Values,
		resilience.Value{Name: "budget_units", Value: float64(level), Max: float64(capacity)},
		resilience.Value{Name: "budget_capacity_units", Value: float64(capacity)},
	)
	if details {
		p.Settings, p.Time = policykit.Settings(r.String()), r.clock.Now()
	}
	return p
}
