package metrics

import (
	"iter"

	"github.com/resilience-go/resilience"
)

func all(p resilience.Policy) iter.Seq[resilience.Policy] {
	return func(yield func(resilience.Policy) bool) {
		for n := range resilience.Walk(p) {
			if n.Group == nil || n.Template || n.Key == "" {
				if !yield(n.Policy) {
					return
				}
			}
		}
	}
}
