package stack

import (
	"errors"
	"fmt"
	"slices"

	"github.com/resilience-go/resilience"
)

// misplacements are the orders of two kinds of policies that do not work as intended.
var misplacements = []struct{ outer, inner, effect string }{
	{"breaker", "retry", "the breaker judges all attempts of a call as one, and retries go on while it should open"},
	{"bulkhead", "retry", "a call holds its slot during the backoff, when nothing is in flight"},
}

// Check returns an error if policies inside p are in an order that does not work as
// intended: a retry inside a breaker or inside a bulkhead. Use it in a test of policies
// that you compose yourself. The stacks of this package are in the right order. The kind of
// a policy is the Kind of its report.
func Check(p resilience.Policy) error {
	var errs []error
	seen := map[string]bool{}
	check(nil, &visit{left: maxPolicies}, []resilience.Policy{p}, func(err error) {
		if !seen[err.Error()] {
			seen[err.Error()] = true
			errs = append(errs, err)
		}
	})
	return errors.Join(errs...)
}

// check calls found for each misplaced pair of a policy in outer and a policy inside it.
func check(outer []resilience.Report, v *visit, policies []resilience.Policy, found func(error)) {
	p, inside := split(policies)
	if r, ok := p.(resilience.Reporter); ok {
		inner := r.Report(false)
		for _, o := range outer {
			for _, m := range misplacements {
				if o.Kind == m.outer && inner.Kind == m.inner {
					found(fmt.Errorf("%[1]s %[2]q is inside %[3]s %[4]q: %[5]s: put the %[1]s outside the %[3]s", inner.Kind, inner.Name, o.Kind, o.Name, m.effect))
				}
			}
		}
		outer = append(slices.Clip(outer), inner)
	}
	for _, chain := range inside {
		v.enter(func() { check(outer, v, chain, found) })
	}
}
