package metrics

import (
	"fmt"
	"unicode/utf8"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
)

// found is what a Collector has been given and what there is inside. It is immutable.
type found struct {
	added   []resilience.Policy
	members []member
	groups  []*keyed.Group
	names   map[id]bool
}

// A member is a policy that has metrics.
type member struct {
	id
	policy named
	// template is set for one that counts for the keys of a group, and has no state
	// that matters.
	template bool
	owner    resilience.Policy // the outermost group that it is inside, or itself
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

// find looks for all policies that have metrics, or says what is wrong with them.
func find(added []resilience.Policy) (*found, error) {
	f := &found{added: added, names: map[id]bool{}}
	s := search{found: f, seen: map[resilience.Policy]bool{}, owners: map[id]resilience.Policy{}}
	for _, p := range added {
		if err := s.in(p, nil, false); err != nil {
			return nil, err
		}
	}
	return f, nil
}

type search struct {
	*found
	seen   map[resilience.Policy]bool
	owners map[id]resilience.Policy
}

// in adds what is inside p, which is inside the group owner unless that is nil.
func (s *search) in(p, owner resilience.Policy, template bool) error {
	for q := range resilience.All(p) {
		kind, policy := kindOf(q)
		if policy == nil || s.seen[policy] {
			continue
		}
		s.seen[policy] = true
		m := member{id{kind, policy.Name()}, policy, template, owner}
		if owner == nil {
			m.owner = policy
		}
		if err := s.add(m); err != nil {
			return err
		}
		g, ok := policy.(*keyed.Group)
		if !ok {
			continue
		}
		s.groups = append(s.groups, g)
		for i, q := range g.Unwrap() { // the template comes first
			if err := s.in(q, m.owner, i == 0); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *search) add(m member) error {
	if !utf8.ValidString(m.name) {
		return fmt.Errorf("metrics: the name of the %s %q is not valid UTF-8: give it another Name", m.kind, m.name)
	}
	if owner, taken := s.owners[m.id]; taken && owner != m.owner {
		if m.name == "" {
			return fmt.Errorf("metrics: there is more than one %s without a name: give each a Name", m.kind)
		}
		return fmt.Errorf("metrics: there is more than one %s with the name %q: give each a Name of its own", m.kind, m.name)
	}
	s.owners[m.id] = m.owner
	s.names[m.id] = true
	s.members = append(s.members, m)
	return nil
}
