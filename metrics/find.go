package metrics

import (
	"fmt"
	"sync"
	"unicode/utf8"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
)

// found is what a Collector has been given and what there is inside. It is immutable.
type found struct {
	added   []resilience.Policy
	members []*member
	groups  []*keyed.Group
	known   map[resilience.Policy]*member
	names   map[id]*past
}

// A member is a policy that has metrics.
type member struct {
	id
	policy named
	// template is set for one that is nowhere but in the template of a group. It counts
	// for the keys and, unless they share it, has no state that matters.
	template bool
	// owner is the outermost group that it was found inside at first, or itself. It
	// stays if that group is removed, so that what has been added goes on to fit.
	owner resilience.Policy
}

// A past is what has been told of a name that must not fall. It lasts for as long as
// the name does.
type past struct {
	mu   sync.Mutex // guards what follows
	open float64    // seconds in OPEN
}

// atLeast returns open, or what it was the last time if that was more.
func (p *past) atLeast(open float64) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = max(p.open, open)
	return p.open
}

type named interface {
	resilience.Policy
	Name() string
}

// id is what must tell policies apart.
type id struct{ kind, name string }

// The kinds of policies.
const (
	breakers   = "breaker"
	retries    = "retry"
	bulkheads  = "bulkhead"
	limits     = "limit"
	timeouts   = "timeout"
	fallbacks  = "fallback"
	groups     = "keyed group"
	histograms = "histogram"
)

// kindOf returns the kind of p and p, if it has metrics.
func kindOf(p resilience.Policy) (string, named) {
	switch p := p.(type) {
	case *breaker.Breaker:
		return breakers, p
	case *retry.Retry:
		return retries, p
	case *bulkhead.Bulkhead:
		return bulkheads, p
	case *limit.Limit:
		return limits, p
	case *timeout.Timeout:
		return timeouts, p
	case *fallback.Fallback:
		return fallbacks, p
	case *keyed.Group:
		return groups, p
	case *Histogram:
		return histograms, p
	default:
		return "", nil
	}
}

// visit calls f with p and all inside it that has metrics, as resilience.All finds it.
// Of a group it leaves out what is inside: that is there for keys.
func visit(p resilience.Policy, f func(kind string, q named) error) error {
	if !present(p) {
		return nil
	}
	if kind, q := kindOf(p); q != nil {
		return f(kind, q)
	}
	if u, ok := p.(interface{ Unwrap() []resilience.Policy }); ok {
		for _, q := range u.Unwrap() {
			if err := visit(q, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// find looks for all policies that have metrics, or says what is wrong with them. What
// it found before in old it takes from there.
func find(added []resilience.Policy, old *found) (*found, error) {
	f := &found{added: added, known: map[resilience.Policy]*member{}, names: map[id]*past{}}
	s := search{found: f, old: old, owners: map[id]resilience.Policy{}}
	// Groups come first: what is inside one and has been added alone too belongs there.
	for _, inGroups := range []bool{true, false} {
		for _, p := range added {
			err := visit(p, func(kind string, policy named) error {
				if (kind == groups) != inGroups {
					return nil
				}
				return s.one(kind, policy, nil, false)
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

type search struct {
	*found
	old    *found
	owners map[id]resilience.Policy
}

// one adds policy with what is inside it, which is inside the group owner unless that
// is nil.
func (s *search) one(kind string, policy named, owner resilience.Policy, template bool) error {
	if m := s.known[policy]; m != nil {
		m.template = m.template && template
		return nil
	}
	m := &member{id{kind, policy.Name()}, policy, template, owner}
	if owner == nil {
		m.owner = policy
	}
	if before := s.old.known[policy]; before != nil && before.owner != policy {
		m.owner = before.owner
	}
	if err := s.add(m); err != nil {
		return err
	}
	g, ok := policy.(*keyed.Group)
	if !ok {
		return nil
	}
	s.groups = append(s.groups, g)
	for i, q := range g.Unwrap() { // the template comes first
		err := visit(q, func(kind string, policy named) error { return s.one(kind, policy, m.owner, i == 0) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *search) add(m *member) error {
	if !utf8.ValidString(m.name) {
		return fmt.Errorf("metrics: the name of the %s %q is not valid UTF-8: give it another Name", m.kind, m.name)
	}
	// What histograms have observed cannot be added up.
	if owner, taken := s.owners[m.id]; taken && (owner != m.owner || m.kind == histograms) {
		if m.name == "" {
			return fmt.Errorf("metrics: there is more than one %s without a name: give each a Name", m.kind)
		}
		return fmt.Errorf("metrics: there is more than one %s with the name %q: give each a Name of its own", m.kind, m.name)
	}
	s.owners[m.id] = m.owner
	if s.names[m.id] = s.old.names[m.id]; s.names[m.id] == nil {
		s.names[m.id] = &past{}
	}
	s.known[m.policy] = m
	s.members = append(s.members, m)
	return nil
}
