package limit_test

import (
	"context"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit"
)

// A request below the limit allocates nothing.
func TestLimit_allocsUncontended(t *testing.T) {
	fails := &resilience.Rejection{Policy: "inner"}
	goesOn := &streamed{}
	ctx := t.Context()
	for name, op := range map[string]resilience.Operation{
		"a call":                 resilience.Func(succeed),
		"one refused further in": resilience.Func(func(context.Context) error { return fails }),
		"one that goes on":       goesOn,
	} {
		allocs := func(p resilience.Policy) float64 {
			return testing.AllocsPerRun(2000, func() {
				_ = resilience.RunOperation(ctx, p, op)
				goesOn.End(goesOn.run, nil)
			})
		}
		_ = allocs(nil) // the first run of what goes on is another one
		bare := allocs(nil)
		for kind, p := range map[string]resilience.Policy{
			"a limit": newLimit(t, limit.Config{}), "a fork": newLimit(t, limit.Config{}).Fork(""),
			"shadow": newLimit(t, limit.Config{Shadow: true}),
		} {
			if n := allocs(p); n > bare {
				t.Errorf("%s, %s: %v allocations, %v without", kind, name, n, bare)
			}
		}
	}
}

// A rejection allocates nothing.
func TestLimit_allocsRejection(t *testing.T) {
	l := newLimit(t, limit.Config{Max: 1, MaxQueue: -1})
	ctx := t.Context()
	err := resilience.Run(ctx, l, func(context.Context) error {
		if n := testing.AllocsPerRun(1000, func() { _ = resilience.Run(ctx, l, succeed) }); n > 0 {
			t.Errorf("a refusal allocates %v", n)
		}
		return nil
	})
	if err != nil || l.Stats().QueueFull < 1000 {
		t.Errorf("%v: %+v", err, l.Stats())
	}
}
