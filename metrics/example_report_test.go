package metrics_test

import (
	"context"
	"os"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/metrics"
)

// Maintenance is a policy that rejects calls while it is on.
type Maintenance struct {
	on                 atomic.Bool
	admitted, rejected atomic.Int64
}

var _ resilience.Reporter = (*Maintenance)(nil)

// Apply implements resilience.Policy.
func (m *Maintenance) Apply(ctx context.Context, next resilience.Next) error {
	if err := resilience.ContextError(ctx); err != nil {
		return err // and count nothing
	}
	if m.on.Load() {
		m.rejected.Add(1)
		return &resilience.Rejection{Policy: "maintenance", Name: "api", Reason: "maintenance"}
	}
	m.admitted.Add(1)
	return next.Run(ctx)
}

// Report implements resilience.Reporter.
func (m *Maintenance) Report(bool) resilience.Report {
	on := 0.0
	if m.on.Load() {
		on = 1
	}
	return resilience.Report{Kind: "maintenance", Name: "api", Values: []resilience.Value{
		{Name: "calls_total", Labels: []string{"outcome", "admitted"}, Value: float64(m.admitted.Load()), Help: "Calls by outcome."},
		{Name: "calls_total", Labels: []string{"outcome", "rejected"}, Value: float64(m.rejected.Load()), Help: "Calls by outcome."},
		{Name: "on", Value: on, Help: "Whether maintenance is on."},
	}}
}

// A policy of your own that implements resilience.Reporter gets metrics under its own kind.
func ExampleNewCollector_report() {
	m := &Maintenance{}
	reg := prometheus.NewRegistry()
	reg.MustRegister(resilience.Must(metrics.NewCollector(m)))

	op := func(context.Context) error { return nil }
	_ = resilience.Run(context.Background(), m, op)
	m.on.Store(true)
	_ = resilience.Run(context.Background(), m, op)

	families, _ := reg.Gather()
	for _, f := range families {
		_, _ = expfmt.MetricFamilyToText(os.Stdout, f)
	}
	// Output:
	// # HELP resilience_maintenance_calls_total Calls by outcome.
	// # TYPE resilience_maintenance_calls_total counter
	// resilience_maintenance_calls_total{name="api",outcome="admitted"} 1
	// resilience_maintenance_calls_total{name="api",outcome="rejected"} 1
	// # HELP resilience_maintenance_on Whether maintenance is on.
	// # TYPE resilience_maintenance_on gauge
	// resilience_maintenance_on{name="api"} 1
}
