package keyed_test

import (
	"context"
	"strconv"
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

// TestGroup_retires: a group calls Retire exactly once for each fork that it drops, and
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
