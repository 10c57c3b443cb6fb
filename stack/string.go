package stack

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/resilience-go/resilience"
)

// String returns the text of Describe for the stack that New returns, or of New's error.
func (c ClientConfig) String() string { return described(c.New()) }

// String returns the text of Describe for the stack that New returns, or of New's error.
func (c ServerConfig) String() string { return described(c.New()) }

func described(p resilience.Policy, err error) string {
	if err != nil {
		return err.Error()
	}
	return Describe(p)
}

// Describe returns a text for people that shows p and the policies inside it. Each policy
// has a line with its settings, and inner policies are below outer ones. Below a
// keyed.Group are its template and then the policies of Config.Keys. If p is nil, Describe
// shows only the operation. Errors of Check are at the end. The text may change.
func Describe(p resilience.Policy) string {
	var b strings.Builder
	describe(&b, &visit{left: maxPolicies}, []resilience.Policy{p})
	if err := Check(p); err != nil {
		b.WriteString("wrong order: " + strings.ReplaceAll(err.Error(), "\n", "\nwrong order: "))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// The bounds of Check and Describe are far above what a sensible stack has. They end a walk
// that would otherwise not end, such as through a policy inside itself.
const (
	maxDepth    = 100
	maxPolicies = 10_000
)

// visit bounds a walk through policies.
type visit struct {
	depth int // of the present policy, 0 for the outermost
	left  int // how many policies may still be visited
}

// enter calls inner one level deeper, and reports whether the bounds allowed it.
func (v *visit) enter(inner func()) bool {
	if v.depth == maxDepth || v.left == 0 {
		return false
	}
	v.depth++
	v.left--
	inner()
	v.depth--
	return true
}

// describe writes the policies, outermost first, and then the operation.
func describe(b *strings.Builder, v *visit, policies []resilience.Policy) {
	indent := strings.Repeat("  ", v.depth)
	p, inside := split(policies)
	if p == nil {
		b.WriteString(indent + "operation\n")
		return
	}
	b.WriteString(indent + line(p) + "\n")
	for _, chain := range inside {
		if !v.enter(func() { describe(b, v, chain) }) {
			b.WriteString(indent + "  and more\n")
			return
		}
	}
}

// split returns the outermost of the policies, nil if there is none, and the policies inside
// it. A keyed.Group has several chains of policies inside it, and other policies have one.
func split(policies []resilience.Policy) (p resilience.Policy, inside [][]resilience.Policy) {
	policies = resilience.Compose(policies...).(interface{ Unwrap() []resilience.Policy }).Unwrap()
	if len(policies) == 0 {
		return nil, nil
	}
	p, rest := policies[0], policies[1:]
	switch u := p.(type) {
	case interface {
		Nodes() iter.Seq[resilience.Node]
	}:
		nodes := u.Nodes()
		if nodes == nil {
			return p, nil
		}
		for n := range nodes {
			if !n.Fork {
				inside = append(inside, slices.Concat([]resilience.Policy{n.Policy}, rest))
			}
		}
		return p, inside
	case interface{ Unwrap() []resilience.Policy }:
		return p, [][]resilience.Policy{slices.Concat(u.Unwrap(), rest)}
	default:
		return p, [][]resilience.Policy{rest}
	}
}

// line returns the description of p alone: its String, or its type and name.
func line(p resilience.Policy) string {
	switch p := p.(type) {
	case fmt.Stringer:
		return p.String()
	case interface{ Name() string }:
		return fmt.Sprintf("%T %q", p, p.Name())
	default:
		return fmt.Sprintf("%T", p)
	}
}
