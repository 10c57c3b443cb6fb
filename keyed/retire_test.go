package keyed_test

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/keyed"
)

// retiree is a policy that counts the calls of Retire.
type retiree struct {
	forks, retired *atomic.Int64
	self           atomic.Int64 // calls of this fork's Retire
}

func newRetiree() *retiree { return &retiree{forks: new(atomic.Int64), retired: new(atomic.Int64)} }

func (r *retiree) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }
func (r *retiree) Idle() bool                                            { return true }
func (r *retiree) Fork(string) resilience.Policy {
	r.forks.Add(1)
	return &retiree{forks: r.forks, retired: r.retired}
}

func (r *retiree) Retire() {
	if r.self.Add(1) > 1 {
		panic("retired twice")
	}
	r.retired.Add(1)
}

// shared is a policy that all keys share, so that no key may retire it.
type shared struct{ *retiree }

func (shared) Fork() {} // with this signature it is not a resilience.Forker

// A group calls Retire exactly once for each fork that it drops, and
// for no other policy.
func TestGroup_retires(t *testing.T) {
	outer, inner, common := newRetiree(), newRetiree(), newRetiree()
	template := resilience.Compose(outer, shared{common}, resilience.Compose(inner))
	g := must(t, template.(resilience.Forker), keyed.Config{Max: 8})
	for i := range 100 {
		if err := run(t, g.For(strconv.Itoa(i)), succeed); err != nil {
			t.Fatal(err)
		}
	}
	s := g.Stats()
	if s.Evicted < 50 {
		t.Fatalf("%+v", s)
	}
	for name, r := range map[string]*retiree{"outer": outer, "inner": inner} {
		if n := uint64(r.retired.Load()); n != s.Evicted || r.self.Load() != 0 || uint64(r.forks.Load()) != s.Evicted+uint64(s.Keys) {
			t.Errorf("%s: %d of %d forks retired, %d evicted, template %d times", name, n, r.forks.Load(), s.Evicted, r.self.Load())
		}
	}
	if common.self.Load() != 0 {
		t.Error("a policy that all keys share was retired")
	}
}

// returnsItself is a Forker without state of its own.
type returnsItself struct{ *retiree }

func (r returnsItself) Fork(string) resilience.Policy { return r }

// A policy that several keys share is not retired: a template that is not a Forker, and a
// Forker that returns itself, also inside a pipeline.
func TestGroup_sharedIsNotRetired(t *testing.T) {
	for name, template := range map[string]func(*retiree) resilience.Policy{
		"not a Forker":                 func(r *retiree) resilience.Policy { return shared{r} },
		"a Forker that returns itself": func(r *retiree) resilience.Policy { return returnsItself{r} },
		"in a pipeline":                func(r *retiree) resilience.Policy { return resilience.Compose(newRetiree(), returnsItself{r}) },
	} {
		r := newRetiree()
		g := must(t, template(r), keyed.Config{Max: 2})
		flood(t, g, 20)
		if n := r.retired.Load(); n != 0 || g.Stats().Evicted == 0 {
			t.Errorf("%s: retired %d times, counted %+v", name, n, g.Stats())
		}
	}
}

// slow is a Forker that lets other goroutines run while it forks.
type slow struct{ *retiree }

func (s slow) Fork(key string) resilience.Policy {
	runtime.Gosched()
	return s.retiree.Fork(key)
}

// If several calls make a fork for one new key, those that are not kept are retired.
func TestGroup_retiresForksNotKept(t *testing.T) {
	r := newRetiree()
	g := must(t, slow{r}, keyed.Config{})
	for round := range 100 {
		var all sync.WaitGroup
		start := make(chan struct{})
		for range 8 {
			all.Go(func() {
				<-start
				_ = run(t, g.For(strconv.Itoa(round)), succeed)
			})
		}
		close(start)
		all.Wait()
	}
	if kept := r.forks.Load() - r.retired.Load(); kept != int64(g.Stats().Keys) {
		t.Errorf("%d of %d forks are not retired, want %d", kept, r.forks.Load(), g.Stats().Keys)
	}
}

// forksToNil is a Forker that breaks its contract.
type forksToNil struct{ *retiree }

func (forksToNil) Fork(string) resilience.Policy { return (*retiree)(nil) }

// A Fork that returns nil guards nothing.
func TestGroup_forkIsNil(t *testing.T) {
	g := must(t, forksToNil{newRetiree()}, keyed.Config{})
	if err := run(t, g.For("a"), fail); err != errBoom {
		t.Errorf("error %v", err)
	}
}
