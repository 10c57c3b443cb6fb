package metrics

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/metrics/internal/series"
)

// Collector is a prometheus.Collector for the policies of this module, which it finds
// inside those that it is given. Policies of others have no metrics.
//
// A registry takes one Collector: give it all policies, at first or with Add. To tell
// several apart, or to add labels, use prometheus.WrapRegistererWith.
//
// Of one kind of policy each needs a Name of its own, except that those of a
// keyed.Group, with the exceptions in its Config.Keys, add up if they have the same; of
// a Histogram there can be one only. A policy that is found twice counts once. An
// exception must not be a fork of the template, whose counters it shares.
//
// All series of a policy exist from when it is added, and its counters do not fall
// while it stays: not if a breaker is reset, nor if a group forgets keys. The sum over
// the outcomes is the number of calls once they have ended. A Collector is safe for
// concurrent use.
type Collector struct{ found atomic.Pointer[found] }

// NewCollector returns a Collector for the policies, or the error that Add returns.
func NewCollector(policies ...resilience.Policy) (*Collector, error) {
	c := &Collector{}
	c.found.Store(&found{})
	if err := c.Add(policies...); err != nil {
		return nil, err
	}
	return c, nil
}

// Add adds policies with all that is inside them, or none of them if it returns an
// error: because one is nil or has been added before, or because a policy has the same
// Name as another of its kind.
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
		// Lost to another Add or Remove: begin anew with what it left.
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

// present reports whether p is not nil, nor a pointer that is.
func present(p resilience.Policy) bool {
	for range all(p) {
		return true
	}
	return false
}

// Remove takes policies out, with all inside them but what is inside another one that
// stays. One that was not added is left alone.
func (c *Collector) Remove(policies ...resilience.Policy) {
	for {
		old := c.found.Load()
		f, err := find(slices.DeleteFunc(slices.Clone(old.added), func(p resilience.Policy) bool {
			return slices.Contains(policies, p) // p is comparable, so this does not panic
		}), old)
		if err != nil {
			return // what had no fault has none without a part of it
		}
		if c.found.CompareAndSwap(old, f) {
			return
		}
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	f := c.found.Load()
	t := tally{}
	for _, m := range f.members {
		t.member(m)
	}
	shared := map[resilience.Policy]bool{}
	for _, g := range f.groups {
		t.group(f, g, shared)
	}
	for _, s := range t {
		if s.metric == series.BreakerOpenSeconds {
			// While a breaker closes its time is, for a moment, neither in that of the
			// past nor in that of the present.
			s.value = f.names[id{breakers, s.labels[0]}].atLeast(s.value)
		}
		s.send(ch)
	}
	for _, m := range f.members {
		if h, ok := m.policy.(*Histogram); ok {
			h.calls.Collect(ch)
		}
	}
}
