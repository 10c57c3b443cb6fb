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
// A registry takes one Collector: give it all policies at first or with Add. To tell
// several Collectors apart, or to add labels, use prometheus.WrapRegistererWith.
//
// Policies of one kind need different Names. The policies inside one keyed.Group may have
// the same Name; they add up. Each Histogram needs a Name of its own. A policy that is
// found twice counts once. A policy in keyed.Config.Keys must not be a fork of the
// template, whose counters it shares. The counters of a fork are in the report of its
// origin: give the Collector the origin.
//
// All series of a policy exist from when it is added. Its counters do not fall while it
// stays: not when a breaker is reset, nor when a group evicts keys. The sum over the
// outcomes is the number of calls once they have ended. A Collector is safe for concurrent
// use. A policy of another module whose metrics are new to the Collector when it is
// registered should be given to NewCollector, since Describe is called once.
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

// Add adds policies with all that is inside them. If it returns an error it has added
// none: a policy is nil or was added before, has the Name of another policy of its kind,
// or reports values that Prometheus does not accept.
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
		// Another Add or Remove came first: start again with its result.
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

// Remove removes policies with all that is inside them, except for what is inside another
// policy that stays. A policy that was not added is ignored.
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
