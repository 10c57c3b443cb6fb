// Package refusal has what policies that refuse operations have in common.
package refusal

import (
	"sync/atomic"

	"github.com/resilience-go/resilience"
)

// Same returns the one error of all whom a policy refuses for a reason, which is r as
// it was for the first of them. It is made only then, since most policies never refuse
// anybody; whoever loses the exchange takes that of the winner.
func Same(made *atomic.Pointer[resilience.Rejection], r resilience.Rejection) error {
	if made.Load() == nil {
		first := r
		made.CompareAndSwap(nil, &first)
	}
	return made.Load()
}
