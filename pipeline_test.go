package resilience_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/resilience-go/resilience"
)

// typed is a policy behind a pointer, which may be nil.
type typed struct{ resilience.Policy }

// fork is a Forker. A fork records its origin.
type fork struct {
	from *fork
	busy bool
}

func (f *fork) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }
func (f *fork) Fork(string) resilience.Policy                         { return &fork{from: f} }
func (f *fork) Idle() bool                                            { return !f.busy }

// Compose runs policies from the first, which is the outermost, to the last. It skips
// nil policies and flattens pipelines.
func TestCompose_order(t *testing.T) {
	var j journal
	a, b, c := j.traced("a"), j.traced("b"), j.traced("c")
	tests := []struct {
		name     string
		policies []resilience.Policy
		want     []string
	}{
		{"nothing", nil, []string{"op"}},
		{"one", []resilience.Policy{a}, []string{"a", "op"}},
		{"the first is outermost", []resilience.Policy{a, b, c}, []string{"a", "b", "c", "op"}},
		{"a pipeline inside", []resilience.Policy{a, resilience.Compose(b, c)}, []string{"a", "b", "c", "op"}},
		{"a pipeline outside", []resilience.Policy{resilience.Compose(a, b), c}, []string{"a", "b", "c", "op"}},
		{"an empty pipeline", []resilience.Policy{a, resilience.Compose(), b}, []string{"a", "b", "op"}},
		{"nil", []resilience.Policy{nil, a, nil}, []string{"a", "op"}},
		{"a nil pointer", []resilience.Policy{(*typed)(nil), a}, []string{"a", "op"}},
		{"a nil function", []resilience.Policy{resilience.PolicyFunc(nil), a}, []string{"a", "op"}},
		{"a nil pipeline", []resilience.Policy{(*fork)(nil), a}, []string{"a", "op"}},
		{"the same twice", []resilience.Policy{a, a}, []string{"a", "a", "op"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j.lines = nil
			if err := resilience.Run(t.Context(), resilience.Compose(tt.policies...), j.op); err != nil {
				t.Fatal(err)
			}
			if got := j.all(); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// A change of the argument slice does not change the pipeline.
func TestCompose_copiesArguments(t *testing.T) {
	var j journal
	policies := []resilience.Policy{j.traced("a")}
	p := resilience.Compose(policies...)
	policies[0] = j.traced("b")
	unwrap(p)[0] = j.traced("c")
	if err := resilience.Run(t.Context(), p, j.op); err != nil {
		t.Fatal(err)
	}
	if got := j.all(); !slices.Equal(got, []string{"a", "op"}) {
		t.Errorf("got %v", got)
	}
}

// A pipeline that is chosen at run time, and so hidden from Compose, runs inside another
// one.
func TestPipeline_nestedAtRunTime(t *testing.T) {
	var j journal
	hidden := resilience.Compose(j.traced("b"), j.traced("c"))
	chosen := apply(func(ctx context.Context, next resilience.Next) error { return hidden.Apply(ctx, next) })
	for name, tt := range map[string]struct {
		policy resilience.Policy
		want   []string
	}{
		"innermost":     {resilience.Compose(j.traced("a"), chosen), []string{"a", "b", "c", "op"}},
		"in the middle": {resilience.Compose(j.traced("a"), chosen, j.traced("d")), []string{"a", "b", "c", "d", "op"}},
		"alone":         {chosen, []string{"b", "c", "op"}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the first call must not affect the second
				j.lines = nil
				if err := resilience.Run(t.Context(), tt.policy, j.op); err != nil {
					t.Fatal(err)
				}
				if got := j.all(); !slices.Equal(got, tt.want) {
					t.Errorf("got %v, want %v", got, tt.want)
				}
			}
		})
	}
}

// A fork of a pipeline has forks of the Forkers in it, and shares the other policies.
func TestPipeline_fork(t *testing.T) {
	f, shared := &fork{}, &typed{resilience.Compose()}
	p := resilience.Compose(f, shared)
	forked := unwrap(p.(resilience.Forker).Fork(""))
	if g, ok := forked[0].(*fork); !ok || g == f || g.from != f {
		t.Errorf("the Forker became %v", forked[0])
	}
	if forked[1] != resilience.Policy(shared) {
		t.Errorf("the other policy became %v", forked[1])
	}
	if unwrap(p)[0] != resilience.Policy(f) {
		t.Error("Fork changed the pipeline it came from")
	}
}

// A pipeline is idle if all its policies are.
func TestPipeline_idle(t *testing.T) {
	for name, tt := range map[string]struct {
		policies []resilience.Policy
		want     bool
	}{
		"empty":        {nil, true},
		"no Forker":    {[]resilience.Policy{&typed{}}, true},
		"all idle":     {[]resilience.Policy{&fork{}, &fork{}}, true},
		"the last not": {[]resilience.Policy{&fork{}, &typed{}, &fork{busy: true}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := resilience.Compose(tt.policies...).(interface{ Idle() bool }).Idle(); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func unwrap(p resilience.Policy) []resilience.Policy {
	return p.(interface{ Unwrap() []resilience.Policy }).Unwrap()
}

// A Fork that returns nil, or a nil pointer, guards nothing.
func TestPipeline_forkIsNil(t *testing.T) {
	var j journal
	p := resilience.Compose(forksTo{nil}, j.traced("shared"), forksTo{(*fork)(nil)}).(resilience.Forker).Fork("key")
	if err := resilience.Run(t.Context(), p, j.op); err != nil || !slices.Equal(j.all(), []string{"shared", "op"}) {
		t.Errorf("error %v, ran %v", err, j.all())
	}
}

// forksTo is a Forker whose forks are one policy.
type forksTo struct{ to resilience.Policy }

func (forksTo) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }
func (f forksTo) Fork(string) resilience.Policy                       { return f.to }

// The text of a pipeline names its policies, the outermost first.
func TestPipeline_string(t *testing.T) {
	for want, p := range map[string]resilience.Policy{
		"no policy": resilience.Compose(),
		`text; resilience_test.called "name"; *resilience_test.fork`: resilience.Compose(text{}, resilience.Compose(called{}, &fork{})),
	} {
		if got := fmt.Sprint(p); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

type text struct{ forksTo }

func (text) String() string { return "text" }

type called struct{ forksTo }

func (called) Name() string { return "name" }
