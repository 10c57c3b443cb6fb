package metrics

import (
	"fmt"
	"iter"
	"reflect"
	"slices"

	"github.com/resilience-go/resilience"
)

// templates finds groups in which every policy is a fork. Such a group would have no metrics:
// a group gets them from its template and from its other policies that are not forks. Forks
// with the kind and the name of the group add to its own report.
type templates []*group

// group is a group that is not inside a fork.
type group struct {
	policy resilience.Policy
	id     id   // of its report, if it has one
	forks  bool // a fork reports, with another id
	others bool // there is a policy that is not a fork
}

// see records the node n of a walk.
func (t *templates) see(n resilience.Node) {
	if g := t.last(n.Group); g != nil {
		own, reports := idOf(n.Policy)
		g.forks = g.forks || n.Fork && reports && own != g.id
		g.others = g.others || !n.Fork
	}
	if _, ok := n.Policy.(interface {
		Nodes() iter.Seq[resilience.Node]
	}); ok && !n.Fork && reflect.ValueOf(n.Policy).Comparable() {
		own, _ := idOf(n.Policy)
		*t = append(*t, &group{policy: n.Policy, id: own})
	}
}

// idOf returns the kind and the name of p's report. It returns false if p does not report.
func idOf(p resilience.Policy) (id, bool) {
	r, ok := reporter(p)
	if !ok {
		return id{}, false
	}
	report := r.Report(false)
	return id{report.Kind, report.Name}, true
}

// last returns the last recorded group whose policy is p, nil if there is none.
func (t *templates) last(p resilience.Policy) *group {
	if p == nil || !reflect.ValueOf(p).Comparable() {
		return nil
	}
	for _, g := range slices.Backward(*t) {
		if g.policy == p {
			return g
		}
	}
	return nil
}

// err returns an error if there is a group without metrics.
func (t *templates) err() error {
	for _, g := range *t {
		if g.forks && !g.others {
			return fmt.Errorf("metrics: a %T has a Fork for each key and no template: let Nodes return the template too, or policies that are not marked as Fork", g.policy)
		}
	}
	return nil
}
