package metrics

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resilience-go/resilience"
)

// Collector is a prometheus.Collector for policies that report, those of this module and
// of other modules. It finds them with resilience.Walk inside the policies that it is
// given. The metric of a resilience.Value is "resilience_", the kind of the policy, "_"
// and the name of the value.
//
// A registry takes one Collector. Give it all policies, when it is made or later with
// Add. To register several Collectors, or to add labels, use
// prometheus.WrapRegistererWith.
//
// # Names
//
// Policies of one kind need different Names. Only the policies inside one keyed.Group may
// have the same Name, and their reports add up. Each Histogram needs a Name of its own. A
// policy that is found twice counts once. The counters of a fork are in the report of the
// policy that it was made from, so give the Collector that policy. A policy in
// keyed.Config.Keys must not be a fork of the template. A policy of another module needs a
// Kind that no policy of this module has, and a group of another module returns its template
// from Nodes, or policies that are not marked as forks.
//
// # Series
//
// All series of a policy exist once it is added. Its counters do not fall while it stays,
// even if a breaker is reset or a group evicts keys. Once calls have ended, the sum over
// the outcomes is the number of calls.
//
// A value that a policy of another module reports later than at Add has no metric, except
// if only the value of a label is new. Give such a policy to NewCollector, not to Add
// after the registration: a registry calls Describe once, and a pedantic registry rejects
// metrics that were not described.
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
// Prometheus does not accept. Then it has added none.
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
	case !present(p):
		return errors.New("metrics: a policy is nil: leave it out")
	case !reflect.ValueOf(p).Comparable():
		return fmt.Errorf("metrics: a %T cannot be told from another: give a pointer to it, or resilience.Compose of it", p)
	case slices.Contains(added, p):
		return errors.New("metrics: a policy has been added before: add it once")
	}
	return nil
}

// present reports whether p is neither nil nor a nil pointer.
func present(p resilience.Policy) bool {
	for range resilience.Walk(p) {
		return true
	}
	return false
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
