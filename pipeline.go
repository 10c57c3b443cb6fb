package resilience

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Compose returns the policies as one, the first being the outermost:
//
//	Compose(retry, breaker)    retry( breaker( operation ))
//
// Policies made by Compose are flattened. A nil policy, pointer or function is skipped.
// Compose() runs the operation unguarded. The result is immutable, is a Forker and has the
// optional methods Idle, Retire, Unwrap and String.
func Compose(policies ...Policy) Policy {
	p := &pipeline{}
	for _, q := range policies {
		if absent(q) {
			continue
		}
		if inner, ok := q.(*pipeline); ok {
			p.policies = append(p.policies, inner.policies...)
		} else {
			p.policies = append(p.policies, q)
		}
	}
	p.policies = slices.Clip(p.policies)
	return p
}

// pipeline is what Compose returns.
type pipeline struct {
	policies []Policy // the outermost first
	origin   []Policy // of a fork: the policies that it was made from
}

// Apply implements Policy.
func (p *pipeline) Apply(ctx context.Context, next Next) error {
	if len(next.inner) > 0 {
		// A policy that picks another policy at run time calls Apply this way. Compose
		// has flattened all other pipelines.
		return Next{slices.Concat(p.policies, next.inner), next.op}.Run(ctx)
	}
	return Next{p.policies, next.op}.Run(ctx)
}

// Unwrap returns the policies, the outermost first.
func (p *pipeline) Unwrap() []Policy { return slices.Clone(p.policies) }

// Fork implements Forker. It forks each policy that is a Forker and shares the others. A
// fork that is nil guards nothing.
func (p *pipeline) Fork(key string) Policy {
	f := &pipeline{policies: slices.Clone(p.policies), origin: p.policies}
	for i, q := range f.policies {
		if q, ok := q.(Forker); ok {
			if f.policies[i] = q.Fork(key); absent(f.policies[i]) {
				f.policies[i] = Compose()
			}
		}
	}
	return f
}

// Idle reports whether every policy that has the optional method Idle is idle.
func (p *pipeline) Idle() bool {
	for _, q := range p.policies {
		if q, ok := q.(interface{ Idle() bool }); ok && !q.Idle() {
			return false
		}
	}
	return true
}

// Retire calls the optional method Retire of each policy that is dropped with p. Other forks
// still use a policy that is not a Forker, or whose Fork returned the policy itself.
func (p *pipeline) Retire() {
	for i, q := range p.policies {
		if _, ok := q.(Forker); !ok || p.origin != nil && same(q, p.origin[i]) {
			continue
		}
		if q, ok := q.(interface{ Retire() }); ok {
			q.Retire()
		}
	}
}

// String returns the policies, the outermost first, for people. The text may change.
func (p *pipeline) String() string {
	if len(p.policies) == 0 {
		return "no policy"
	}
	texts := make([]string, len(p.policies))
	for i, q := range p.policies {
		switch q := q.(type) {
		case fmt.Stringer:
			texts[i] = q.String()
		case interface{ Name() string }:
			texts[i] = fmt.Sprintf("%T %q", q, q.Name())
		default:
			texts[i] = fmt.Sprintf("%T", q)
		}
	}
	return strings.Join(texts, "; ")
}

// same reports whether a and b are one policy.
func same(a, b Policy) bool { return reflect.ValueOf(a).Comparable() && a == b }
