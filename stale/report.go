package stale

import (
	"context"
	"fmt"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

// Policy returns a policy that runs next and changes nothing. It reports the counters of s:
// pass it to a metrics.Collector or to debug.Handler. Each call returns the same policy.
func (s *Stale[T]) Policy() resilience.Policy { return (*reporter[T])(s) }

// reporter is a Stale as a policy. It is a separate type because Apply sees no value that
// it could remember.
type reporter[T any] Stale[T]

// Apply implements resilience.Policy.
func (*reporter[T]) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }

// Fork implements resilience.Forker. All keys share the Stale, so Fork returns r.
func (r *reporter[T]) Fork(string) resilience.Policy { return r }

// Name returns the name from the Config.
func (r *reporter[T]) Name() string { return r.cfg.Name }

// String returns the settings of the Stale, for people. The text may change.
func (r *reporter[T]) String() string {
	s := policykit.Describe(policy, r.cfg.Name, "") + "up to " + policykit.Count(r.cfg.Max, "value")
	if r.cfg.MaxAge < 0 {
		return s
	}
	return s + fmt.Sprintf(", at most %v old", r.cfg.MaxAge)
}

var outcomes = policykit.Labels("outcome", "fresh", "stale", "failed")

// Report implements resilience.Reporter.
func (r *reporter[T]) Report(details bool) resilience.Report {
	s := (*Stale[T])(r).Stats()
	p := resilience.Report{Kind: policy, Name: r.cfg.Name}
	p.Values = policykit.AppendCounters(nil, "calls_total", outcomes, s.Fresh, s.Stale, s.Failed)
	p.Values = append(p.Values,
		resilience.Value{Name: "fetches_total", Value: float64(s.Refreshes)},
		resilience.Value{Name: "keys", Value: float64(s.Keys), Max: float64(r.cfg.Max)},
	)
	if details {
		p.Settings, p.Time = policykit.Settings(r.String()), r.clock.Now()
	}
	return p
}

// Stats is what a Stale has counted since it was made.
type Stats struct {
	Fresh     uint64 // calls that got a fresh value
	Stale     uint64 // calls that got a remembered value
	Failed    uint64 // calls that got an error, or a panic
	Refreshes uint64 // runs of fetches; a shared run counts once, however often the policy retries it
	Keys      int    // values that are remembered now; the only field that can fall
}

// Stats returns the counters.
func (s *Stale[T]) Stats() Stats {
	s.mu.Lock()
	keys := len(s.entries)
	s.mu.Unlock()
	return Stats{Fresh: s.fresh.Load(), Stale: s.stale.Load(), Failed: s.failed.Load(), Refreshes: s.refreshes.Load(), Keys: keys}
}
