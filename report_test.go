package resilience_test

import (
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/resilience-go/resilience"
)

type unwrapping struct {
	fork
	inside []resilience.Policy
}

func (u *unwrapping) Unwrap() []resilience.Policy { return u.inside }

// groupOf is a policy with others for keys, as a keyed.Group is.
type groupOf struct {
	fork
	nodes []resilience.Node
}

func (g *groupOf) Nodes() iter.Seq[resilience.Node] { return slices.Values(g.nodes) }

// Walk returns the outer policy before the inner ones and skips nil.
func TestWalk_order(t *testing.T) {
	leaf, other := &fork{}, &fork{busy: true}
	inner := &unwrapping{inside: []resilience.Policy{other, nil, (*fork)(nil)}}
	p := resilience.Compose(leaf, inner)
	got := slices.Collect(resilience.Walk(p))
	if want := []resilience.Node{{Policy: p}, {Policy: leaf}, {Policy: inner}, {Policy: other}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A policy inside a group comes with the group and the key; what is inside a template
// is a template too.
func TestWalk_groups(t *testing.T) {
	a, b, c := &fork{}, &fork{}, &fork{}
	inner := &groupOf{nodes: []resilience.Node{{Policy: a, Template: true}, {Policy: b, Key: "b"}}}
	template := resilience.Compose(inner)
	outer := &groupOf{nodes: []resilience.Node{{Policy: template, Template: true}, {Policy: c, Key: "c"}}}
	want := []resilience.Node{
		{Policy: outer},
		{Policy: template, Group: outer, Template: true},
		{Policy: inner, Group: outer, Template: true},
		{Policy: a, Group: inner, Template: true},
		{Policy: b, Group: inner, Key: "b", Template: true},
		{Policy: c, Group: outer, Key: "c"},
	}
	if got := slices.Collect(resilience.Walk(outer)); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// Walk of nil or of a nil pointer returns nothing.
func TestWalk_nothing(t *testing.T) {
	for _, p := range []resilience.Policy{nil, (*fork)(nil)} {
		for n := range resilience.Walk(p) {
			t.Errorf("Walk(%T) returned %v", p, n)
		}
	}
}

// Walk stops when the loop breaks, at whatever depth.
func TestWalk_breaks(t *testing.T) {
	g := &groupOf{nodes: []resilience.Node{{Policy: &fork{}}, {Policy: &fork{}}}}
	p := resilience.Compose(&unwrapping{inside: []resilience.Policy{&fork{}, g}}, &fork{})
	total := len(slices.Collect(resilience.Walk(p)))
	for stop := 1; stop <= total; stop++ {
		n := 0
		for range resilience.Walk(p) {
			if n++; n == stop {
				break
			}
		}
		if n != stop {
			t.Errorf("%d policies, want to stop after %d", n, stop)
		}
	}
}

func ExampleWalk() {
	p := resilience.Compose(named("retry"), resilience.Compose(named("breaker")))
	for n := range resilience.Walk(p) {
		if policy, ok := n.Policy.(named); ok {
			fmt.Println(policy)
		}
	}
	// Output:
	// retry
	// breaker
}
