package resilience_test

import (
	"context"
	"errors"
	"testing"

	"github.com/resilience-go/resilience"
)

// perCall is an Operation that a hot caller uses instead of a closure.
type perCall struct {
	in, out int
}

func (p *perCall) Run(context.Context) error {
	p.out = p.in + 1
	return nil
}

func nothing(context.Context) error { return nil }

func seven(context.Context) (int, error) { return 7, nil }

// noop is a policy that does nothing.
type noop struct{}

func (*noop) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }

// settling is a policy that settles, as a bulkhead does.
type settling struct{ settled int }

func (p *settling) Apply(ctx context.Context, next resilience.Next) error {
	err := resilience.ErrAborted
	defer func() { next.Settle(resilience.Ended, err, (*settlingSlot)(p), 0) }()
	err = next.Run(ctx)
	return err
}

type settlingSlot settling

func (p *settlingSlot) Settle(uint64, error) { p.settled++ }

// Each call makes the number of allocations in its row.
func TestAllocations(t *testing.T) {
	ctx := context.Background()
	one := resilience.Compose(&noop{})
	four := resilience.Compose(&noop{}, &noop{}, &noop{}, &noop{})
	settlers := resilience.Compose(&settling{}, &settling{}, &settling{})
	alone := &settling{}
	reused := &perCall{}
	important := &ranked{prioritized{priority: resilience.Critical}, "caller"}
	rank := &rank{}
	captured := 0
	for _, tt := range []struct {
		name string
		want float64
		f    func()
	}{
		{"Run without a policy", 0, func() { _ = resilience.Run(ctx, nil, nothing) }},
		{"Run under one", 0, func() { _ = resilience.Run(ctx, one, nothing) }},
		{"Run under four", 0, func() { _ = resilience.Run(ctx, four, nothing) }},
		{"Run under a policy that is no pipeline", 0, func() { _ = resilience.Run(ctx, alone, nothing) }},
		{"Run a closure", 1, func() {
			n := captured
			_ = resilience.Run(ctx, one, func(context.Context) error { _ = n + captured; return nil })
		}},
		{"Run a method of an operation", 0, func() { _ = resilience.RunOperation(ctx, four, reused) }},
		{"Run a struct for this call", 1, func() { _ = resilience.RunOperation(ctx, four, &perCall{in: 1}) }},
		{"settle", 0, func() { _ = resilience.Run(ctx, settlers, nothing) }},
		{"settle at the end, with a struct for this call", 1, func() {
			held := &lasting{}
			_ = resilience.RunOperation(ctx, settlers, held)
			held.End(held.run, nil)
		}},
		{"Rank of a function", 0, func() { _ = resilience.Run(ctx, rank, nothing) }},
		{"Rank of an operation", 0, func() { _ = resilience.RunOperation(ctx, rank, important) }},
		{"Do", 1, func() { _, _ = resilience.Do(ctx, four, seven) }},
		{"Do a closure", 2, func() {
			n := captured
			_, _ = resilience.Do(ctx, four, func(context.Context) (int, error) { return n + captured, nil })
		}},
		{"OutcomeOf a success", 0, func() { _ = resilience.OutcomeOf(ctx, nil, nil) }},
		{"OutcomeOf a failure", 0, func() { _ = resilience.OutcomeOf(ctx, errDown, nil) }},
		{"match a rejection", 0, func() { _ = errors.Is(rejection, resilience.ErrRejected) }},
		{"Attempt", 0, func() { _ = resilience.Attempt(ctx) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := testing.AllocsPerRun(200, tt.f); got != tt.want {
				t.Errorf("%v allocations, want %v", got, tt.want)
			}
		})
	}
}

var rejection error = &resilience.Rejection{Policy: "breaker", Reason: resilience.Open}
