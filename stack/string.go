package stack

import (
	"fmt"
	"slices"
	"strings"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/keyed"
)

// String describes the stack that New makes of c, as Describe does, or says why New
// makes none.
func (c ClientConfig) String() string { return described(c.New()) }

// String describes the stack that New makes of c, as Describe does, or says why New
// makes none.
func (c ServerConfig) String() string { return described(c.New()) }

func described(p resilience.Policy, err error) string {
	if err != nil {
		return err.Error()
	}
	return Describe(p)
}

// Describe returns p and the policies inside it, for people: one in a line, with the
// numbers that it works with, the inner below the outer. Below a keyed.Group comes
// the policy of all keys, and then that of each key which has one of its own. A p that
// is nil is but the operation. The text may change.
func Describe(p resilience.Policy) string {
	var b strings.Builder
	describe(&b, "", []resilience.Policy{p})
	return strings.TrimSuffix(b.String(), "\n")
}

// describe writes the policies, the first being the outermost, and the operation.
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

// line is what p says of itself or, if it says nothing, what it is.
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
