// Package metrics exports the counters and the state of policies to Prometheus.
//
//	reg.MustRegister(resilience.Must(metrics.NewCollector(stack.Client("payments"))))
//
// A [Collector] finds all policies inside the policies that it is given and reads their
// reports at each scrape. Calls cost nothing more. The value of the label "name" is the
// Name of the policy. No label has a key, a host or the text of an error. The values of all
// keys of a keyed.Group are summed, so the number of series does not grow with the traffic.
// A policy of another module that is a [resilience.Reporter] gets metrics under its kind.
//
// A [Histogram] is a policy that measures how long calls take.
//
// The folder of this package has dashboard.json, a dashboard for Grafana, and rules.yaml,
// recording rules and alerts for Prometheus. docs/observability.md in the module explains
// them and lists every metric.
package metrics

//go:generate go run ./internal/generate
