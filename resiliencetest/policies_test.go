package resiliencetest_test

import (
	"context"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/resiliencetest"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

// maker makes a policy of this module.
type maker struct {
	name string
	make func() resilience.Policy
}

var makers = []maker{
	{"breaker", func() resilience.Policy { return resilience.Must(breaker.New(breaker.Config{})) }},
	{"retry", func() resilience.Policy { return resilience.Must(retry.New(retry.Config{})) }},
	{"bulkhead", func() resilience.Policy { return resilience.Must(bulkhead.New(bulkhead.Config{})) }},
	{"timeout", func() resilience.Policy { return resilience.Must(timeout.New(timeout.Config{})) }},
	{"fallback", func() resilience.Policy {
		return resilience.Must(fallback.New(fallback.Config{
			Handle: func(_ context.Context, err error) error { return err },
		}))
	}},
	{"limit", func() resilience.Policy { return resilience.Must(limit.New(limit.Config{})) }},
}

// variants are policies with settings that change how they work.
var variants = []maker{
	{"breaker, judging at the end", func() resilience.Policy {
		return resilience.Must(breaker.New(breaker.Config{
			Trip: []breaker.Rule{breaker.Consecutive{Failures: 3}}, CloseAfter: 1, Until: resilience.Ended,
		}))
	}},
	{"bulkhead of one", func() resilience.Policy { return resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1})) }},
	{"limit of one", func() resilience.Policy { return resilience.Must(limit.New(limit.Config{Max: 1})) }},
	{"limit of one, without a queue", func() resilience.Policy {
		return resilience.Must(limit.New(limit.Config{Max: 1, MaxQueue: limit.NoQueue}))
	}},
	{"limit that only counts", func() resilience.Policy {
		return resilience.Must(limit.New(limit.Config{Max: 1, Shadow: true}))
	}},
	{"timeout until answered", func() resilience.Policy {
		return resilience.Must(timeout.New(timeout.Config{Until: resilience.Answered}))
	}},
	{"retry without a budget", func() resilience.Policy { return resilience.Must(retry.New(retry.Config{Budget: retry.NoBudget})) }},
	{"keyed", func() resilience.Policy {
		return resilience.Must(keyed.New(resilience.Must(breaker.New(breaker.Config{})), keyed.Config{}))
	}},
	{"stack.Client", func() resilience.Policy { return stack.Client("test") }},
	{"stack.Server", func() resilience.Policy { return stack.Server("test") }},
}

// All policies of this module keep the contract.
func TestPolicy_allPolicies(t *testing.T) {
	for _, m := range append(makers, variants...) {
		t.Run(m.name, func(t *testing.T) { resiliencetest.TestPolicy(t, m.make) })
	}
}

// Every ordered pair of policies keeps the contract.
func TestPolicy_pairs(t *testing.T) {
	for _, outer := range makers {
		for _, inner := range makers {
			t.Run(outer.name+"("+inner.name+")", func(t *testing.T) {
				resiliencetest.TestPolicy(t, func() resilience.Policy { return resilience.Compose(outer.make(), inner.make()) })
			})
		}
	}
}
