package bulkhead

import (
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

var (
	outcomes = policykit.Labels("outcome", "completed", "rejected", "canceled")
	reasons  = policykit.Labels("reason", "queue_full", "wait_expired")
)

// Report implements resilience.Reporter.
func (b *Bulkhead) Report(details bool) resilience.Report {
	r := resilience.Report{Kind: policy, Name: b.cfg.Name}
	if b == b.root { // a fork shares the counters
		c := b.counters()
		r.Values = policykit.AppendCounters(r.Values, "calls_total", outcomes, c.Completed, c.QueueFull+c.WaitExpired, c.Canceled)
		r.Values = policykit.AppendCounters(r.Values, "rejected_total", reasons, c.QueueFull, c.WaitExpired)
	}
	g := b.gauges()
	r.Values = append(r.Values,
		resilience.Value{Name: "in_flight", Value: float64(g.InFlight), Max: float64(g.Slots)},
		resilience.Value{Name: "waiting", Value: float64(g.Queued)},
		resilience.Value{Name: "slots", Value: float64(g.Slots)},
	)
	if details {
		r.Settings, r.Time = policykit.Settings(b.String()), b.clock.Now()
	}
	return r
}
