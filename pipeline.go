package resilience

import (
	"context"
	"iter"
	"reflect"
	"slices"
)

// Pipeline is a Policy made of others, one inside the other. It is immutable and
// safe for concurrent use.
type Pipeline struct {
	policies []Policy // outermost first
}

// Compose returns the policies as one, the first being the outermost:
//
//	Compose(retry, breaker)    retry( breaker( operation ))
//
// Pipelines among them are flattened and nil ones, pointers that are nil
// included, are skipped. Compose() runs the operation and nothing else.
func Compose(policies ...Policy) *Pipeline {
	p := &Pipeline{}
	for _, q := range policies {
		if absent(q) {
			continue
		}
		if inner, ok := q.(*Pipeline); ok {
			p.policies = append(p.policies, inner.policies...)
		} else {
			p.policies = append(p.policies, q)
		}
	}
	p.policies = slices.Clip(p.policies)
	return p
}

func absent(p Policy) bool {
	if p == nil {
		return true
	}
	v := reflect.ValueOf(p)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// Apply implements Policy.
func (p *Pipeline) Apply(ctx context.Context, next Next) error {
	if len(next.inner) > 0 {
		// Only a policy that picks another one at run time comes here; Compose
		// has flattened all the rest.
		return Next{slices.Concat(p.policies, next.inner), next.op}.Run(ctx)
	}
	return Next{p.policies, next.op}.Run(ctx)
}

// Unwrap returns the policies, outermost first.
func (p *Pipeline) Unwrap() []Policy { return slices.Clone(p.policies) }

// Fork implements Forker: it forks each policy that is a Forker and shares the
// others.
func (p *Pipeline) Fork() Policy { return p.ForkFor("") }

// ForkFor is Fork for a key that errors and events are to say.
func (p *Pipeline) ForkFor(key string) Policy {
	f := &Pipeline{policies: slices.Clone(p.policies)}
	for i, q := range f.policies {
		switch q := q.(type) {
		case interface{ ForkFor(key string) Policy }:
			f.policies[i] = q.ForkFor(key)
		case Forker:
			f.policies[i] = q.Fork()
		}
	}
	return f
}

// Idle implements Forker: all policies that are Forkers are idle.
func (p *Pipeline) Idle() bool {
	for _, q := range p.policies {
		if q, ok := q.(Forker); ok && !q.Idle() {
			return false
		}
	}
	return true
}

// All returns p and every policy inside it, the outer before the inner. It finds
// them through the optional method Unwrap() []Policy. A policy that stands in
// two places comes twice. Of a keyed.Group it finds the template, which counts for
// all keys; the policy of each key is in Group.All.
func All(p Policy) iter.Seq[Policy] {
	return func(yield func(Policy) bool) { walk(p, yield) }
}

func walk(p Policy, yield func(Policy) bool) bool {
	if absent(p) {
		return true
	}
	if !yield(p) {
		return false
	}
	if u, ok := p.(interface{ Unwrap() []Policy }); ok {
		for _, q := range u.Unwrap() {
			if !walk(q, yield) {
				return false
			}
		}
	}
	return true
}
