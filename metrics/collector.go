package metrics

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

// Collector is a prometheus.Collector for policies of any module that implement
// resilience.Reporter. It finds them with resilience.Walk inside the policies that it is
// given. The metric of a resilience.Value is named resilience_KIND_VALUE, with the kind of
// the policy and the name of the value.
//
// A registry takes one Collector. Give it all policies, when it is made or later with
// Add. To register several Collectors, or to add labels, use
// prometheus.WrapRegistererWith.
//
// # Names
//
// Policies of one kind need different Names. Only policies inside one keyed.Group may have
// the same Name, and their values are summed. Histograms need different Names even there. A
// policy that is found twice counts once. The counters of a fork are in the report of the
// policy that it was made from, so give the Collector that policy. A policy in
// keyed.Config.Keys must not be a fork of the template. A policy of another module needs a
// Kind that no policy of this module has. The Nodes of a group of another module must return
// its template, or policies that are not marked as forks.
//
// # Series
//
// All series of a policy exist once it is added. Its counters do not fall until it is
// removed, even if a breaker is reset or a group evicts keys. Once all calls have ended,
// the sum over the outcomes is the number of calls.
//
// A policy of another module must report all its values when it is added. A value that it
// reports only later has no metric, unless only the value of a label is new. Add such a
// policy before the registration: a registry calls Describe once, and a pedantic registry
// rejects metrics that were not described.
//
// A Collector is safe for concurrent use.
type Collector struct{ found atomic.Pointer[found] }

// NewCollector returns a Collector for the policies, or the error that Add returns.
func NewCollector(policies ...resilience.Policy) (*Collector, error) {
	c := &Collector{}
	c.found.Store(&found{metrics: map[string]*metric{}})
	if err := c.Add(policies...); err != nil {
		return nil, err
	}
	return c, nil
}

// Add adds policies and all policies inside them. It returns an error if a policy is nil,
// was added before, has the Name of another policy of its kind, or reports values that
// Prometheus does not accept. With an error, it adds none.
func (c *Collector) Add(policies ...resilience.Policy) error {
	for {
		old := c.found.Load()
		added := slices.Clone(old.added)
		for _, p := range policies {
			if err := addable(added, p); err != nil {
				return err
			}
			added = append(added, p)
		}
		f, err := find(added, old)
		if err != nil {
			return err
		}
		if c.found.CompareAndSwap(old, f) {
			return nil
		}
		// Another Add or Remove was faster: start again with its result.
	}
}

func addable(added []resilience.Policy, p resilience.Policy) error {
	switch {
	case policykit.Absent(p):
		return errors.New("metrics: a policy is nil: leave it out")
	case !reflect.ValueOf(p).Comparable():
		return fmt.Errorf("metrics: a %T is not comparable: give a pointer to it, or resilience.Compose of it", p)
	case slices.Contains(added, p):
		return errors.New("metrics: a policy has been added before: add it once")
	}
	return nil
}

// Remove removes policies and all policies inside them, except those that are also inside
// a policy that stays. It ignores policies that were not added. If policies of the same
// Name stay, the sums fall by the counts of the removed ones, which Prometheus handles as
// a counter reset.
func (c *Collector) Remove(policies ...resilience.Policy) {
	for {
		old := c.found.Load()
		f, err := find(slices.DeleteFunc(slices.Clone(old.added), func(p resilience.Policy) bool {
			return slices.Contains(policies, p) // p is comparable, so this does not panic
		}), old)
		if err != nil {
			return // unreachable: a part of valid policies is valid
		}
		if c.found.CompareAndSwap(old, f) {
			return
		}
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range tableMetrics {
		ch <- m.desc
	}
	for name, m := range c.found.Load().metrics {
		if tableMetrics[name] == nil {
			ch <- m.desc
		}
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	f := c.found.Load()
	t := tally{f, map[key]*sample{}}
	for _, n := range f.all() {
		t.add(n)
	}
	t.send(ch)
	for _, h := range f.histograms {
		h.calls.Collect(ch)
	}
}
