package resilience_test

import (
	"context"
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

// A template that is not a Forker serves the calls of all keys, so it is not returned as a
// template, nor is what is inside it.
func TestWalk_sharedTemplate(t *testing.T) {
	var j journal
	forks, shares := &fork{}, &typed{j.traced("shared")}
	inside := &shared{forks}
	g := &groupOf{nodes: []resilience.Node{{Policy: resilience.Compose(forks, shares, inside), Template: true}}}
	var templates []bool
	for n := range resilience.Walk(g) {
		templates = append(templates, n.Template)
	}
	// The group, the pipeline, and in it the Forker, the policy that is none, and one with a Forker inside.
	if want := []bool{false, true, true, false, false, false}; !slices.Equal(templates, want) {
		t.Errorf("templates %v, want %v", templates, want)
	}
}

// shared is a policy with another inside that is not a Forker.
type shared struct{ inside resilience.Policy }

func (*shared) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }
func (s *shared) Unwrap() []resilience.Policy                         { return []resilience.Policy{s.inside} }

// Walk returns a policy inside itself once, and ends if policies have no end.
func TestWalk_insideItself(t *testing.T) {
	itself, twice := &unwrapping{}, &groupOf{}
	itself.inside = []resilience.Policy{itself, &fork{}, resilience.Compose(itself, itself)}
	twice.nodes = []resilience.Node{{Policy: twice, Key: "a"}, {Policy: itself, Key: "b"}}
	for name, test := range map[string]struct {
		policy resilience.Policy
		want   int
	}{
		"a policy":            {itself, 3},
		"in a pipeline":       {resilience.Compose(itself, itself), 7},
		"a group":             {twice, 4},
		"a new one each time": {&endless{}, 1001},
	} {
		n := 0
		for range resilience.Walk(test.policy) {
			n++
		}
		if n != test.want {
			t.Errorf("%s: %d policies, want %d", name, n, test.want)
		}
	}
}

// endless is a policy that makes another inside it each time.
type endless struct{ shared }

func (*endless) Unwrap() []resilience.Policy { return []resilience.Policy{&endless{}} }

// Walk of a nil policy, pointer or function returns nothing. A group without nodes has
// nothing inside.
func TestWalk_nothing(t *testing.T) {
	for _, p := range []resilience.Policy{nil, (*fork)(nil), resilience.PolicyFunc(nil)} {
		for n := range resilience.Walk(p) {
			t.Errorf("Walk(%T) returned %v", p, n)
		}
	}
	if all := slices.Collect(resilience.Walk(&nowhere{})); len(all) != 1 {
		t.Errorf("got %v", all)
	}
}

// nowhere is a group whose Nodes returns nil.
type nowhere struct{ fork }

func (*nowhere) Nodes() iter.Seq[resilience.Node] { return nil }

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
