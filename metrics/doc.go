// Package metrics shows Prometheus what policies did, what they refused and why.
//
//	reg.MustRegister(resilience.Must(metrics.NewCollector(stack.Client("payments"))))
//
// A [Collector] finds all policies inside those that it is given, through
// resilience.All, and reads their own counters when it is scraped: a call pays nothing
// for it. The label name is the Name of a policy. No label ever has a key, a host or
// the text of an error: the keys of a keyed.Group add up, and its breakers are counted
// by state, so that the number of series depends on the program alone.
//
// A [Histogram] is a policy that measures how long calls take.
//
// The folder has a dashboard for Grafana, dashboard.json, and rules for Prometheus,
// rules.yaml, that are made from the same table as the metrics; docs/observability.md
// in the module explains all of them.
package metrics

//go:generate go run ./internal/generate
