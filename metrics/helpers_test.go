package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/metrics"
)

var errDown = errors.New("down")

func run(p resilience.Policy, err error) error {
	return resilience.Run(context.Background(), p, func(context.Context) error { return err })
}

// register returns a pedantic registry with a Collector of the policies.
func register(t *testing.T, policies ...resilience.Policy) (*prometheus.Registry, *metrics.Collector) {
	t.Helper()
	c, err := metrics.NewCollector(policies...)
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(c); err != nil {
		t.Fatal(err)
	}
	return reg, c
}

// scraped is the result of a scrape: the value of each series, or the number of
// observations of a histogram. The keys are series in the text format:
//
//	resilience_breaker_calls_total{name="payments",outcome="success"}
type scraped map[string]float64

// scrape returns the series of g, without the prefix "resilience_".
func scrape(t testing.TB, g prometheus.Gatherer) scraped {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := scraped{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			series := strings.TrimPrefix(f.GetName(), "resilience_") + "{" + strings.Join(labels, ",") + "}"
			all[series] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}

// counter reports whether a series must not fall.
func counter(series string) bool {
	metric, _, _ := strings.Cut(series, "{")
	return strings.HasSuffix(metric, "_total") || metric == "call_duration_seconds"
}

// series returns a series in the text format. labels are pairs of label and value.
func series(metric, name string, labels ...string) string {
	all := []string{fmt.Sprintf("name=%q", name)}
	for i := 0; i < len(labels); i += 2 {
		all = append(all, fmt.Sprintf("%s=%q", labels[i], labels[i+1]))
	}
	slices.Sort(all)
	return metric + "{" + strings.Join(all, ",") + "}"
}

// check checks the series in want. All other series of the same metrics and the same
// policy must be 0.
func (s scraped) check(t testing.TB, name string, want scraped) {
	t.Helper()
	asked := map[string]bool{}
	for series, v := range want {
		metric, _, _ := strings.Cut(series, "{")
		asked[metric] = true
		if got, ok := s[series]; !ok || got != v {
			t.Errorf("%s is %v (there: %t), want %v", series, got, ok, v)
		}
	}
	for series, v := range s {
		metric, _, _ := strings.Cut(series, "{")
		if _, wanted := want[series]; !wanted && asked[metric] && v != 0 && strings.Contains(series, fmt.Sprintf("name=%q", name)) {
			t.Errorf("%s is %v, want 0", series, v)
		}
	}
}

// sum returns the sum of the series of a metric and a policy.
func (s scraped) sum(metric, name string) (sum float64) {
	for series, v := range s {
		if strings.HasPrefix(series, metric+"{") && strings.Contains(series, fmt.Sprintf("name=%q", name)) {
			sum += v
		}
	}
	return sum
}
