package endpoint_test

import (
	"fmt"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/resiliencetest"
)

func set(n int) *endpoint.Set {
	s, err := endpoint.New(endpoint.Config{Name: "x"})
	if err != nil {
		panic(err)
	}
	var a []string
	for i := range n {
		a = append(a, fmt.Sprint("h", i))
	}
	s.Update(a, nil)
	return s
}

func TestContract(t *testing.T) {
	resiliencetest.TestPolicy(t, func() resilience.Policy { return set(3) })
	resiliencetest.TestPolicy(t, func() resilience.Policy { return set(3).Endpoints()[0] })
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{1, 3, 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := set(n)
			b.ReportAllocs()
			for b.Loop() {
				p, _ := s.Pick(nil)
				p.Answered(endpoint.Success, nil)
				p.End()
			}
		})
	}
}
