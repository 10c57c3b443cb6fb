package metrics_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/metrics"
	"github.com/resilience-go/resilience/stack"
)

var errDown = errors.New("down")

func run(p resilience.Policy, err error) error {
	return resilience.Run(context.Background(), p, func(context.Context) error { return err })
}

// register returns a registry that checks all that it gathers, with a collector of
// the policies.
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

func TestThePedanticRegistryAndTheLinterFindNothing(t *testing.T) {
	h := resilience.Must(metrics.NewHistogram(metrics.HistogramConfig{Name: "payments"}))
	p := resilience.Compose(h, stack.Client("payments"))
	reg, c := register(t, p, stack.Server("orders"), resilience.Must(breaker.New(breaker.Config{})))
	_, _ = run(p, nil), run(p, errDown)
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
	problems, err := testutil.CollectAndLint(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

func TestADuplicateNameIsAnError(t *testing.T) {
	first := stack.Client("payments")
	_, c := register(t, first)
	for name, p := range map[string]resilience.Policy{
		"the same policy": first,
		"the same name":   stack.Client("payments"),
		"no policy":       nil,
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.Add(p); err == nil || !strings.Contains(err.Error(), "metrics: ") {
				t.Errorf("got %v", err)
			}
		})
	}
	c.Remove(first)
	if err := c.Add(stack.Client("payments")); err != nil {
		t.Errorf("after Remove: %v", err)
	}
}
