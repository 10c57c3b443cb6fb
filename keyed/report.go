package keyed

import (
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

// Report implements resilience.Reporter.
func (g *Group) Report(details bool) resilience.Report {
	s := g.Stats()
	r := resilience.Report{Kind: "keyed", Name: g.cfg.Name, Values: []resilience.Value{
		{Name: "keys", Value: float64(s.Keys)},
		{Name: "evicted_total", Value: float64(s.Evicted)},
	}}
	if details {
		r.Settings, r.Time = policykit.Settings(g.String()), time.Now()
	}
	return r
}
