package debug_test

import (
	"context"
	"errors"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

// A breaker outside of the quota does not open because the quota is spent.
func TestDailyQuota_insideBreaker(t *testing.T) {
	quota := &dailyQuota{units: 1}
	b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 2}}}))
	p := resilience.Compose(b, quota)
	for i := range 10 {
		err := resilience.Run(t.Context(), p, func(context.Context) error { return nil })
		if errors.Is(err, breaker.ErrOpen) || errors.Is(err, resilience.ErrRejected) != (i > 0) {
			t.Fatalf("call %d: %v", i, err)
		}
	}
}

// A call whose context is done spends no unit.
func TestDailyQuota_contextDone(t *testing.T) {
	quota := &dailyQuota{units: 1}
	ctx, cancel := context.WithCancel(t.Context())
	canceler := resilience.PolicyFunc(func(ctx context.Context, next resilience.Next) error {
		cancel()
		return next.Run(ctx)
	})
	err := resilience.Run(ctx, resilience.Compose(canceler, quota), func(context.Context) error { return nil })
	if !errors.Is(err, context.Canceled) || quota.spent.Load() != 0 {
		t.Errorf("%v, %d units spent", err, quota.spent.Load())
	}
}
