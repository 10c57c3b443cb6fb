package endpoint

import (
	"context"
	"fmt"

	"github.com/resilience-go/resilience"
)

type endpointKey struct{}

// Of returns the endpoint that a Set has chosen for the attempt that runs under ctx, nil if
// no Set has.
func Of(ctx context.Context) *Endpoint {
	e, _ := ctx.Value(endpointKey{}).(*Endpoint)
	return e
}

// Apply implements resilience.Policy. It runs next with an endpoint, which Of returns, and
// records ResultOf the error. The attempt ends at resilience.Ended.
//
// A set without endpoints returns an error that is resilience.Ignored.
func (s *Set) Apply(ctx context.Context, next resilience.Next) error {
	if ctx.Err() != nil {
		return resilience.ContextError(ctx)
	}
	a := new(attempt)
	var ok bool
	if a.pick, ok = s.Pick(TrailOf(ctx)); !ok {
		return resilience.Ignore(fmt.Errorf("endpoint %q: there are no endpoints: call Set.Update with addresses", s.cfg.Name))
	}
	return a.run(ctx, next)
}

// Apply implements resilience.Policy. It runs next at this endpoint, whatever its state.
func (e *Endpoint) Apply(ctx context.Context, next resilience.Next) error {
	if ctx.Err() != nil {
		return resilience.ContextError(ctx)
	}
	now := e.set.now()
	TrailOf(ctx).add(e)
	e.set.counters.Add(picked)
	return (&attempt{pick: Pick{endpoint: e, at: now, generation: e.start(now)}}).run(ctx, next)
}

// attempt is a Pick as a Settler.
type attempt struct{ pick Pick }

// Settle implements resilience.Settler.
func (a *attempt) Settle(uint64, error) { a.pick.End() }

func (a *attempt) run(ctx context.Context, next resilience.Next) error {
	err := resilience.ErrAborted
	// Two calls of defer, because methods of err and the observer may panic or end the
	// goroutine.
	defer func() { next.Settle(resilience.Ended, err, a, 0) }()
	defer func() { a.pick.Answered(ResultOf(ctx, err), err) }()
	err = next.Run(context.WithValue(ctx, endpointKey{}, a.pick.endpoint))
	return err
}
