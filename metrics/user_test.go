package metrics_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/metrics"
)

// quota is a policy of another module: it has so many calls for each key.
type quota struct {
	origin *quota
	calls  *float64 // of all keys
	left   float64
	values []resilience.Value // in place of the usual ones
	kind   string
}

func newQuota(left float64) *quota {
	q := &quota{left: left, calls: new(float64), kind: "quota"}
	q.origin = q
	return q
}

func (q *quota) Apply(ctx context.Context, next resilience.Next) error {
	*q.calls++
	q.left--
	return next.Run(ctx)
}

func (q *quota) Fork(string) resilience.Policy {
	return &quota{origin: q.origin, calls: q.calls, left: 10, kind: q.kind}
}

func (q *quota) Report(bool) resilience.Report {
	r := resilience.Report{Kind: q.kind, Name: "api", Values: q.values}
	if r.Values == nil {
		r.Values = []resilience.Value{{Name: "left", Value: q.left, Help: "Calls that are left."}}
		if q == q.origin {
			r.Values = append(r.Values, resilience.Value{Name: "calls_total", Labels: []string{"outcome", "admitted"}, Value: *q.calls})
		}
	}
	return r
}

// A policy of another module has metrics under its own kind, and its keys add up.
func TestCollector_policyOfAnotherModule(t *testing.T) {
	q := newQuota(7)
	reg, _ := register(t, q)
	_ = run(q, nil)
	scrape(t, reg).check(t, "api", scraped{series("quota_left", "api"): 6, series("quota_calls_total", "api", "outcome", "admitted"): 1})

	q = newQuota(7)
	g := newGroup(t, q, keyed.Config{Name: "g"})
	reg, _ = register(t, g)
	for _, key := range []string{"a", "b", "b"} {
		_ = run(g.For(key), nil)
	}
	scrape(t, reg).check(t, "api", scraped{series("quota_left", "api"): 9 + 8, series("quota_calls_total", "api", "outcome", "admitted"): 3})
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// A report that Prometheus does not accept is an error of Add that says what to change.
func TestCollectorAdd_invalidReport(t *testing.T) {
	for want, q := range map[string]*quota{
		`a report has the Kind "Rate Limit": it must be in snake_case`:                 {kind: "Rate Limit"},
		`the quota "api" reports a value with the Name "a-b": it must be`:              {kind: "quota", values: []resilience.Value{{Name: "a-b"}}},
		`reports a with the Labels ["x"]: they must be pairs`:                          {kind: "quota", values: []resilience.Value{{Name: "a", Labels: []string{"x"}}}},
		`reports a with the label "name": it must be in snake_case, not "name"`:        {kind: "quota", values: []resilience.Value{{Name: "a", Labels: []string{"name", "y"}}}},
		`reports a with the label "x": it must be in snake_case, not "name", and`:      {kind: "quota", values: []resilience.Value{{Name: "a", Labels: []string{"x", "1", "x", "2"}}}},
		`reports a with the labels [], and elsewhere with ["x"]: let them be`:          {kind: "quota", values: []resilience.Value{{Name: "a", Labels: []string{"x", "1"}}, {Name: "a"}}},
		`the breaker "api" reports calls_total with the labels [], and elsewhere with`: {kind: "breaker", values: []resilience.Value{{Name: "calls_total"}}},
	} {
		q.origin, q.calls = q, new(float64)
		if _, err := metrics.NewCollector(q); err == nil || !strings.HasPrefix(err.Error(), "metrics: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// A policy of your own that has a Report has metrics under its own kind.
func ExampleNewCollector_report() {
	api := newQuota(100) // its Report has the Kind "quota" and the Values "left" and "calls_total"
	reg := prometheus.NewRegistry()
	reg.MustRegister(resilience.Must(metrics.NewCollector(api)))

	_ = resilience.Run(context.Background(), api, func(context.Context) error { return nil })

	get(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), "resilience_quota")
	fmt.Println("labels come from the Report")
	// Output:
	// resilience_quota_calls_total{name="api",outcome="admitted"} 1
	// resilience_quota_left{name="api"} 99
	// labels come from the Report
}
