package metrics_test

import (
	"context"
	"iter"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/metrics"
	"github.com/resilience-go/resilience/resiliencetest"
)

// quota is a policy of another module that counts how many calls are left for each key.
type quota struct {
	origin *quota
	calls  *float64 // of all keys
	left   float64
	values []resilience.Value // to report instead of the usual values
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

// All keys share a policy that is not a Forker: its gauges count, also before the first key.
func TestCollector_sharedByAllKeys(t *testing.T) {
	q := newQuota(7)
	g := newGroup(t, struct{ resilience.Reporter }{q}, keyed.Config{Name: "g"})
	reg, _ := register(t, g)
	scrape(t, reg).check(t, "api", scraped{series("quota_left", "api"): 7})
	_ = run(g.For("a"), nil)
	scrape(t, reg).check(t, "api", scraped{series("quota_left", "api"): 6})
}

// A policy that is inside itself counts once.
func TestCollector_policyInsideItself(t *testing.T) {
	q := newQuota(7)
	i := &insideItself{quota: q}
	reg, _ := register(t, i)
	scrape(t, reg).check(t, "api", scraped{series("quota_left", "api"): 7})
}

type insideItself struct{ *quota }

func (i *insideItself) Unwrap() []resilience.Policy { return []resilience.Policy{i, i} }

// A report that Prometheus does not accept is an error that says what to change.
func TestCollectorAdd_invalidReport(t *testing.T) {
	for want, q := range map[string]*quota{
		`a report has the Kind "Rate Limit": it must be in snake_case`:                                                       {kind: "Rate Limit"},
		`the quota "api" reports a value with the Name "a-b": it must be`:                                                    {kind: "quota", values: []resilience.Value{{Name: "a-b"}}},
		`reports a with the Labels ["x"]: they must be pairs`:                                                                {kind: "quota", values: []resilience.Value{{Name: "a", Labels: []string{"x"}}}},
		`reports a with the label "name": it must be in snake_case, must not be "name"`:                                      {kind: "quota", values: []resilience.Value{{Name: "a", Labels: []string{"name", "y"}}}},
		`reports a with the label "x": it must be in snake_case, must not be "name", and`:                                    {kind: "quota", values: []resilience.Value{{Name: "a", Labels: []string{"x", "1", "x", "2"}}}},
		`reports a with the labels [], and elsewhere with ["x"]: report the same`:                                            {kind: "quota", values: []resilience.Value{{Name: "a", Labels: []string{"x", "1"}}, {Name: "a"}}},
		`the breaker "api" reports calls_total with the labels []: the kind breaker is taken: choose another Kind`:           {kind: "breaker", values: []resilience.Value{{Name: "calls_total"}}},
		`the breaker "api" reports left with the labels []: the kind breaker is taken: choose another Kind`:                  {kind: "breaker", values: []resilience.Value{{Name: "left"}}},
		`reports a with the labels ["x" "1"] twice: report each value once`:                                                  {kind: "quota", values: []resilience.Value{{Name: "a", Labels: []string{"x", "1"}}, {Name: "b"}, {Name: "a", Labels: []string{"x", "1"}}}},
		`reports duration_seconds_count, whose metric resilience_call_duration_seconds_count is a part of a histogram: give`: {kind: "call", values: []resilience.Value{{Name: "duration_seconds_count"}}},
		`reports duration_seconds, whose metric resilience_call_duration_seconds belongs`:                                    {kind: "call", values: []resilience.Value{{Name: "duration_seconds", Labels: []string{"outcome", "x"}}}},
		`the breaker_open "api" reports seconds_total, whose metric`:                                                         {kind: "breaker_open", values: []resilience.Value{{Name: "seconds_total"}}},
	} {
		q.origin, q.calls = q, new(float64)
		if _, err := metrics.NewCollector(q); err == nil || !strings.HasPrefix(err.Error(), "metrics: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// A counter that is not a finite number in one scrape keeps its last value, and grows later.
func TestCollector_counterNotFinite(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		calls := []resilience.Value{{Name: "calls_total", Value: 1}}
		reg, _ := register(t, &quota{kind: "quota", values: calls})
		for _, step := range []struct{ reported, want float64 }{{1, 1}, {bad, 1}, {5, 5}} {
			calls[0].Value = step.reported
			scrape(t, reg).check(t, "api", scraped{series("quota_calls_total", "api"): step.want})
		}
	}
}

// shards is a group of another module.
type shards struct {
	quota
	nodes []resilience.Node
}

func (s *shards) Nodes() iter.Seq[resilience.Node] { return slices.Values(s.nodes) }

// A group that marks all its policies as forks has no template whose metrics they could
// add to, which is an error. Policies that are not marked as forks add up.
func TestCollectorAdd_groupWithoutTemplate(t *testing.T) {
	group := func(fork bool) resilience.Policy {
		g := &shards{}
		g.quota = quota{kind: "shards"}
		for _, key := range []string{"a", "b"} {
			g.nodes = append(g.nodes, resilience.Node{Policy: newQuota(7), Key: key, Fork: fork})
		}
		return g
	}
	_, err := metrics.NewCollector(resilience.Compose(group(true)))
	if want := "metrics: a *metrics_test.shards has a Fork for each key and no template: let Nodes return the template too, or"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	reg, _ := register(t, group(false))
	scrape(t, reg).check(t, "api", scraped{series("quota_left", "api"): 14})
}

// Two kinds cannot have the same metric, because a scrape would find a series twice.
func TestCollectorAdd_metricOfTwoKinds(t *testing.T) {
	reg, c := register(t, &quota{kind: "rate", values: []resilience.Value{{Name: "limit_left"}}})
	err := c.Add(&quota{kind: "rate_limit", values: []resilience.Value{{Name: "left"}}})
	want := `metrics: the rate_limit "api" reports left, whose metric resilience_rate_limit_left belongs to the kind "rate": give the value another Name`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	scrape(t, reg)
}

// variable is a Reporter of a comparable type whose values need not be comparable.
type variable struct{ inside any }

func (variable) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }
func (variable) Report(bool) resilience.Report                         { return resilience.Report{Kind: "variable"} }

// A policy that cannot be a map key has no metrics, and a scrape does not panic.
func TestCollector_incomparablePolicyInside(t *testing.T) {
	for name, inside := range map[string]resilience.Policy{"type": byValue{{}}, "value": variable{[]int{1}}} {
		t.Run(name, func(t *testing.T) {
			p := resilience.Compose(newBreaker("b"), inside)
			g := newGroup(t, resilience.Compose(newBreaker("keys"), inside), keyed.Config{})
			reg, _ := register(t, p, g)
			touch(t, g, 2)
			got := scrape(t, reg)
			got.check(t, "b", states("b", 1, 0, 0))
			got.check(t, "keys", states("keys", 2, 0, 0))
		})
	}
}

// The policy of the example keeps the contract of resilience.Policy.
func TestMaintenance_contract(t *testing.T) {
	resiliencetest.TestPolicy(t, func() resilience.Policy { return &Maintenance{} })
}
