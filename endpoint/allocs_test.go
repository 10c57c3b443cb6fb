package endpoint_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
)

// Pick, Answered and End allocate nothing, with a Trail or without, also while an endpoint is
// ejected and its probes fail.
func TestPick_allocs(t *testing.T) {
	for _, n := range []int{1, 3, 20} {
		for _, ejected := range []bool{false, true} {
			s := newSet(t, endpoint.Config{})
			s.Update(addresses(n), nil)
			if ejected {
				p := s.Endpoints()[0].PickAt()
				p.Answered(endpoint.Unreachable, errWork)
				p.End()
			}
			var trail endpoint.Trail // of the caller, who makes it with other things of a call
			if allocs := testing.AllocsPerRun(2000, func() {
				trail = endpoint.Trail{}
				for range 2 {
					p, _ := s.Pick(&trail)
					result := endpoint.Success
					if p.Probe() {
						result = endpoint.Failure
					}
					p.Answered(result, errWork)
					p.End()
				}
			}); allocs != 0 {
				t.Errorf("%d endpoints, ejected %v: %v allocations", n, ejected, allocs)
			}
		}
	}
}

// Apply allocates the attempt and the context.
func TestSet_Apply_allocs(t *testing.T) {
	s := newSet(t, endpoint.Config{})
	s.Update(addresses(3), nil)
	ctx := context.Background()
	next := func(context.Context) error { return nil }
	if allocs := testing.AllocsPerRun(1000, func() { _ = resilience.Run(ctx, s, next) }); allocs > 2 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{1, 3, 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newSet(b, endpoint.Config{})
			s.Update(addresses(n), nil)
			b.ReportAllocs()
			for b.Loop() {
				p, _ := s.Pick(nil)
				p.Answered(endpoint.Success, nil)
				p.End()
			}
		})
	}
}
