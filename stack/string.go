package stack

import (
	"fmt"
	"slices"
	"strings"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/keyed"
)

// String returns what Describe returns for the stack that New makes of c, or the text of
// New's error.
func (c ClientConfig) String() string { return described(c.New()) }

// String returns what Describe returns for the stack that New makes of c, or the text of
// New's error.
func (c ServerConfig) String() string { return described(c.New()) }

func described(p resilience.Policy, err error) string {
	if err != nil {
		return err.Error()
	}
	return Describe(p)
}

// Describe returns a text for people that shows p and the policies inside it. Each policy
// has a line with the numbers that it works with, and inner policies stand below outer
// ones. Below a keyed.Group stands the policy of all keys, and then the policy of each key
// that has its own. If p is nil, only the operation is shown. The text may change.
func Describe(p resilience.Policy) string {
	var b strings.Builder
	describe(&b, "", []resilience.Policy{p})
	return strings.TrimSuffix(b.String(), "\n")
}

// describe writes the policies, outermost first, and then the operation.
func describe(b *strings.Builder, indent string, policies []resilience.Policy) {
	policies = resilience.Compose(policies...).(interface{ Unwrap() []resilience.Policy }).Unwrap()
	if len(policies) == 0 {
		b.WriteString(indent + "operation\n")
		return
	}
	p, inside := policies[0], policies[1:]
	b.WriteString(indent + line(p) + "\n")
	indent += "  "
	group, ok := p.(*keyed.Group)
	if !ok {
		if u, ok := p.(interface{ Unwrap() []resilience.Policy }); ok {
			inside = slices.Concat(u.Unwrap(), inside)
		}
		describe(b, indent, inside)
		return
	}
	for _, q := range group.Unwrap() {
		describe(b, indent, append([]resilience.Policy{q}, inside...))
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
