package stale

import (
	"context"
	"fmt"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

// Policy returns a policy that runs what lies inside it and changes nothing. It reports
// the counters of s: give it to a metrics.Collector or to debug.Handler. It returns the
// same policy at each call.
func (s *Stale[T]) Policy() resilience.Policy { return (*reporter[T])(s) }

// reporter is a Stale as a policy. It is a type of its own because Apply has no value to
// remember.
type reporter[T any] Stale[T]

// Apply implements resilience.Policy.
func (*reporter[T]) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }

// Fork implements resilience.Forker. All keys share the Stale, so the fork is r.
func (r *reporter[T]) Fork(string) resilience.Policy { return r }

// Name returns the name from the Config.
func (r *reporter[T]) Name() string { return r.cfg.Name }

// String returns the settings for people. The text may change.
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
		p.Settings, p.Time = policykit.Settings(r.String()), time.Now()
	}
	return p
}
