package metrics_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/metrics"
	table "github.com/resilience-go/resilience/metrics/internal/series"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stale"
	"github.com/resilience-go/resilience/timeout"
)

// kinds returns a policy of each kind, by the prefix of its metrics.
func kinds(name string) map[string]resilience.Policy {
	return map[string]resilience.Policy{
		"breaker_":  resilience.Must(breaker.New(breaker.Config{Name: name})),
		"retry_":    resilience.Must(retry.New(retry.Config{Name: name})),
		"bulkhead_": newBulkhead(name, 0),
		"limit_":    resilience.Must(limit.New(limit.Config{Name: name, Max: 64})),
		"endpoint_": resilience.Must(endpoint.New(endpoint.Config{Name: name})),
		"timeout_":  resilience.Must(timeout.New(timeout.Config{Name: name})),
		"fallback_": resilience.Must(fallback.New(fallback.Config{
			Name: name, Handle: func(_ context.Context, err error) error { return err },
		})),
		"stale_": resilience.Must(stale.New[int](stale.Config{Name: name})).Policy(),
		"call_":  resilience.Must(metrics.NewHistogram(metrics.HistogramConfig{Name: name})),
	}
}

// rows returns the series of the table, without transitions, for policies with that name
// and metrics with that prefix.
func rows(prefix, name string) map[string]bool {
	all := map[string]bool{}
	for _, m := range table.All {
		metric := strings.TrimPrefix(m.Name, "resilience_")
		switch {
		case !strings.HasPrefix(metric, prefix) || m == table.BreakerTransitions:
		case len(m.Labels) == 0:
			all[series(metric, name)] = true
		default:
			for _, v := range m.Labels[0].Values {
				all[series(metric, name, m.Labels[0].Name, v)] = true
			}
		}
	}
	return all
}

// transitions are the transitions of a breaker with the default rule, as "from to rule".
var transitions = []string{
	"closed open Silence{Failures: 7, Span: time.Second}", "open half_open open time is over", "half_open closed enough successes",
	"half_open open Silence{Failures: 7, Span: time.Second}", "half_open open probe failed", "closed open SetMode", "closed half_open SetMode", "open closed SetMode",
	"open half_open SetMode", "half_open closed SetMode", "half_open open SetMode", "open closed Reset", "half_open closed Reset",
}

func transition(name, s string) string {
	parts := strings.SplitN(s, " ", 3)
	return series("breaker_transitions_total", name, "from", parts[0], "to", parts[1], "rule", parts[2])
}

// rowsOf returns the series that a policy reports, without transitions.
func rowsOf(p resilience.Policy) map[string]bool {
	all := map[string]bool{}
	r := p.(resilience.Reporter).Report(false)
	for _, v := range r.Values {
		if v.Name != "transitions_total" {
			all[series(r.Kind+"_"+v.Name, r.Name, v.Labels...)] = true
		}
	}
	return all
}

// Every policy reports exactly the series that the table has for its kind.
func TestReport_matchesTable(t *testing.T) {
	policies := kinds("p")
	delete(policies, "call_") // a Histogram exports its own metric
	policies["keyed_"] = newGroup(t, resilience.Compose(), keyed.Config{Name: "p"})
	seen := map[string]bool{"call_duration_seconds": true, "breaker_transitions_total": true}
	for prefix, p := range policies {
		want, got := rows(prefix, "p"), rowsOf(p)
		for s := range want {
			if !got[s] {
				t.Errorf("the table has %s, which no policy reports", s)
			}
		}
		for s := range got {
			if !want[s] {
				t.Errorf("a policy reports %s, which the table lacks", s)
			}
			metric, _, _ := strings.Cut(s, "{")
			seen[metric] = true
		}
	}
	for _, m := range table.All {
		if name := strings.TrimPrefix(m.Name, "resilience_"); !seen[name] {
			t.Errorf("no policy reports %s", m.Name)
		}
		if want := m.Type == table.Counter; strings.HasSuffix(m.Name, "_total") != want {
			t.Errorf("%s is a %s", m.Name, m.Type)
		}
	}
}

// All series of the table exist from the start, and the counters are 0.
func TestCollector_allSeriesFromTheStart(t *testing.T) {
	const name = "payments"
	for prefix, p := range kinds(name) {
		want := rows(prefix, name)
		if prefix == "breaker_" {
			for _, s := range transitions {
				want[transition(name, s)] = true
			}
		}
		if len(want) == 0 {
			t.Fatalf("the table has no %s", prefix)
		}
		inGroup := maps.Clone(want)
		maps.Copy(inGroup, rows("keyed_", name))
		for arrangement, test := range map[string]struct {
			p    resilience.Policy
			want map[string]bool
		}{
			"alone":                   {p, want},
			"in a pipeline":           {resilience.Compose(p), want},
			"in a group without keys": {newGroup(t, p, keyed.Config{Name: name}), inGroup},
			"as an exception": {newGroup(t, resilience.Compose(), keyed.Config{
				Name: name, Keys: map[string]resilience.Policy{"x": p},
			}), inGroup},
		} {
			t.Run(prefix+"/"+arrangement, func(t *testing.T) {
				reg, _ := register(t, test.p)
				got := scrape(t, reg)
				for s := range test.want {
					if _, there := got[s]; !there {
						t.Errorf("%s is not there", s)
					}
				}
				for s, v := range got {
					if !test.want[s] {
						t.Errorf("%s is not in the table", s)
					}
					if counter(s) && v != 0 {
						t.Errorf("%s starts at %v", s, v)
					}
				}
			})
		}
	}
}

// A gauge starts with the state of its policy, and at 0 in a group without keys.
func TestCollector_gaugesAtTheStart(t *testing.T) {
	for prefix, want := range map[string]scraped{
		"breaker_":  {series("breaker_state", "p", "state", "closed"): 1, series("breaker_mode", "p", "mode", "auto"): 1},
		"retry_":    {series("retry_budget_units", "p"): 20, series("retry_budget_capacity_units", "p"): 20},
		"bulkhead_": {series("bulkhead_slots", "p"): 24},
		"limit_":    {series("limit_in_force", "p"): 64},
	} {
		p := kinds("p")[prefix]
		reg, _ := register(t, p)
		scrape(t, reg).check(t, "p", want)
		reg, _ = register(t, newGroup(t, p, keyed.Config{Name: "p"}))
		for s := range want {
			if v, there := scrape(t, reg)[s]; !there || v != 0 {
				t.Errorf("of a group without keys %s is %v (there: %t), want 0", s, v, there)
			}
		}
	}
}

// Types, help texts and labels are as in the table.
func TestCollector_typesHelpAndLabels(t *testing.T) {
	policies := []resilience.Policy{newGroup(t, resilience.Compose(), keyed.Config{})}
	for _, p := range kinds("p") {
		policies = append(policies, p)
	}
	reg, _ := register(t, policies...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	gathered := map[string]bool{}
	for _, f := range families {
		gathered[f.GetName()] = true
		i := slices.IndexFunc(table.All, func(m *table.Metric) bool { return m.Name == f.GetName() })
		if i < 0 {
			t.Errorf("%s is not in the table", f.GetName())
			continue
		}
		m := table.All[i]
		if typ := strings.ToLower(f.GetType().String()); typ != string(m.Type) || f.GetHelp() != m.Help {
			t.Errorf("%s is a %s with the help %q, want a %s with %q", m.Name, typ, f.GetHelp(), m.Type, m.Help)
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		if want := slices.Sorted(slices.Values(m.LabelNames())); !slices.Equal(labels, want) {
			t.Errorf("%s has the labels %q, want %q", m.Name, labels, want)
		}
	}
	for _, m := range table.All {
		if !gathered[m.Name] {
			t.Errorf("no policy reports %s", m.Name)
		}
	}
}

// The label rule is the configured rule, and equal rules share a series.
func TestCollector_seriesOfEachRule(t *testing.T) {
	reg, _ := register(t, resilience.Must(breaker.New(breaker.Config{Name: "b", OpenFor: time.Minute, Trip: []breaker.Rule{
		breaker.Consecutive{Failures: 2}, breaker.Rate{Failures: 5, Of: 10}, breaker.Consecutive{Failures: 2},
	}})))
	b := scrape(t, reg)
	for rule, there := range map[string]bool{"Consecutive{Failures: 2}": true, "Rate{Failures: 5, Of: 10}": true, "Silence{Failures: 7, Span: time.Second}": false} {
		if _, got := b[transition("b", "closed open "+rule)]; got != there {
			t.Errorf("%s: there is %t, want %t", rule, got, there)
		}
	}
}
