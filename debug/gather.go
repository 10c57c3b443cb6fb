package debug

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/internal/describe"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
)

const (
	// maxPolicies bounds what is looked at in one policy: an Unwrap of the user may
	// have no end.
	maxPolicies = 10_000
	maxFaults   = 100
)

// gatherer makes a page.
type gatherer struct {
	page page
	seen map[resilience.Policy]bool
	all  []resilience.Policy // what was found, in order
	// templates maps what the keys of a group are forked from to its name.
	templates map[resilience.Policy]*string
	// alone has those that serve calls outside of what keys are forked from.
	alone map[resilience.Policy]bool
}

// gather returns the page of the policies.
func gather(policies []resilience.Policy) *page {
	g := &gatherer{
		page: page{ // lists that are empty, not null
			Time:     stamp{time.Now()},
			Breakers: []*breakerView{}, Groups: []*group{}, Retries: []*retryView{}, Bulkheads: []*bulkheadView{},
			Limits: []*limitView{}, Timeouts: []*timeoutView{}, Fallbacks: []*fallbackView{}, Others: []*otherView{},
		},
		seen:      map[resilience.Policy]bool{},
		templates: map[resilience.Policy]*string{},
		alone:     map[resilience.Policy]bool{},
	}
	for _, p := range policies {
		g.find(p)
	}
	for i := 0; i < len(g.all); i++ { // the keys of a group may have more
		p := g.all[i]
		g.guard(p, func() { g.read(p) })
	}
	g.page.sum()
	return &g.page
}

// guard keeps the page if code of the user panics that p calls.
func (g *gatherer) guard(p resilience.Policy, read func()) {
	defer func() {
		if v := recover(); v != nil {
			g.fault(p, fmt.Sprintf("panics: %v", v))
		}
	}()
	read()
}

func (g *gatherer) fault(p resilience.Policy, what string) {
	if len(g.page.Faults) == maxFaults {
		g.page.Faults = append(g.page.Faults, "and more")
	}
	if len(g.page.Faults) > maxFaults {
		return
	}
	who := fmt.Sprintf("%T", p)
	switch p := p.(type) { // of others Name may be what panics
	case *breaker.Breaker, *retry.Retry, *bulkhead.Bulkhead:
		who = strings.TrimPrefix(who, "*")
		who = fmt.Sprintf("%s %q", who, clip(p.(interface{ Name() string }).Name()))
	}
	g.page.Faults = append(g.page.Faults, clip(who+" "+what))
}

// each calls do with the policies inside p that have not been seen.
func (g *gatherer) each(p resilience.Policy, do func(resilience.Policy)) {
	n := 0
	for q := range all(p) {
		if n++; n > maxPolicies {
			g.fault(p, fmt.Sprintf("has more than %d policies inside it: the rest is not shown", maxPolicies))
			return
		}
		if reflect.ValueOf(q).Comparable() {
			if g.seen[q] {
				continue
			}
			g.seen[q] = true
		}
		do(q)
	}
}

// find adds p and what is inside it.
func (g *gatherer) find(p resilience.Policy) {
	g.guard(p, func() { g.each(p, g.add) })
	g.guard(p, func() { g.findAlone(p) })
}

// findAlone notes what is inside p but not in the template of a group, which
// resilience.All has right after the group.
func (g *gatherer) findAlone(p resilience.Policy) {
	n, inTemplate := 0, 0
	for q := range all(p) {
		if n++; n > maxPolicies {
			return // which each has said
		}
		if inTemplate > 0 {
			inTemplate--
			continue
		}
		if k, ok := q.(*keyed.Group); ok {
			for range all(k.Unwrap()[0]) {
				if inTemplate++; inTemplate > maxPolicies {
					return
				}
			}
		}
		if reflect.ValueOf(q).Comparable() {
			g.alone[q] = true
		}
	}
}

func (g *gatherer) add(p resilience.Policy) {
	if k, ok := p.(*keyed.Group); ok {
		name := clip(k.Name())
		n := 0
		for q := range all(k.Unwrap()[0]) {
			if n++; n > maxPolicies {
				break
			}
			if reflect.ValueOf(q).Comparable() {
				g.templates[q] = &name
			}
		}
	}
	g.all = append(g.all, p)
}

// read puts p on the page.
func (g *gatherer) read(p resilience.Policy) {
	var of, group *string // the group for whose keys p counts, and the one that p is only there for
	if reflect.ValueOf(p).Comparable() {
		if of = g.templates[p]; !g.alone[p] {
			group = of
		}
	}
	page := &g.page
	switch p := p.(type) {
	case interface{ Unwrap() []resilience.Policy }: // what is inside it says all
	case *keyed.Group:
		page.Groups = append(page.Groups, g.group(p))
	case *breaker.Breaker:
		b := readBreaker(p, group)
		b.Group, b.Settings = of, settings("breaker", p.Name(), p.String())
		page.Breakers = append(page.Breakers, b)
	case *retry.Retry:
		r := readRetry(p, group)
		r.Group, r.Settings = of, settings("retry", p.Name(), p.String())
		page.Retries = append(page.Retries, r)
	case *bulkhead.Bulkhead:
		b := readBulkhead(p, group)
		b.Group, b.Settings = of, settings("bulkhead", p.Name(), p.String())
		page.Bulkheads = append(page.Bulkheads, b)
	case *limit.Limit:
		l := readLimit(p, group)
		l.Group, l.Settings = of, settings("limit", p.Name(), p.String())
		page.Limits = append(page.Limits, l)
	case *timeout.Timeout:
		s := p.Stats()
		page.Timeouts = append(page.Timeouts, &timeoutView{
			common: common{Kind: "timeout", Name: clip(p.Name()), Group: of, Settings: settings("timeout", p.Name(), p.String())},
			Calls:  s.Calls, Exceeded: s.Exceeded, Late: s.Late,
		})
	case *fallback.Fallback:
		s := p.Stats()
		page.Fallbacks = append(page.Fallbacks, &fallbackView{
			common: common{Kind: "fallback", Name: clip(p.Name()), Group: of, Settings: settings("fallback", p.Name(), p.String())},
			Unused: s.Unused, Passed: s.Passed, Used: s.Used, Failed: s.Failed,
		})
	default:
		page.Others = append(page.Others, &otherView{Type: clip(fmt.Sprintf("%T", p)), Text: clip(line(p))})
	}
}

// line is what p says of itself. Its type stands beside it.
func line(p resilience.Policy) string {
	switch p := p.(type) {
	case fmt.Stringer:
		return p.String()
	case interface{ Name() string }:
		return fmt.Sprintf("%q", p.Name())
	default:
		return ""
	}
}

// settings returns the text that a policy says of itself, without its kind and name,
// which stand elsewhere.
func settings(kind, name, text string) string {
	return clipTo(maxSentence, strings.TrimPrefix(text, describe.Policy(kind, name, "")))
}

// group reads the keys of k.
func (g *gatherer) group(k *keyed.Group) *group {
	v := &group{
		common:  common{Kind: "keyed", Name: clip(k.Name()), Settings: settings("keyed", k.Name(), k.String())},
		Evicted: k.Stats().Evicted,
		Keys:    []*key{},
	}
	for name, p := range k.All() {
		one := &key{Key: clip(name)}
		g.guard(p, func() {
			g.each(p, func(q resilience.Policy) { g.guard(q, func() { g.ofKey(one, q) }) })
		})
		v.Keys = append(v.Keys, one)
		v.States.add(one.State())
		if one.Overloaded() {
			v.Overloaded++
		}
	}
	slices.SortFunc(v.Keys, func(a, b *key) int {
		return cmp.Or(cmp.Compare(b.attention(), a.attention()), strings.Compare(a.Key, b.Key))
	})
	return v
}

// attention is 1 for a key that is not CLOSED, or overloaded.
func (k *key) attention() int {
	if s := k.State(); s != "" && s != closed || k.Overloaded() {
		return 1
	}
	return 0
}

// ofKey adds what p, a fork, has of its own. Its counters are those of all keys.
func (g *gatherer) ofKey(k *key, p resilience.Policy) {
	switch p := p.(type) {
	case *breaker.Breaker:
		b := readBreaker(p, nil)
		b.Key, b.Calls = k.Key, nil
		k.Breakers = append(k.Breakers, b)
	case *retry.Retry:
		r := readRetry(p, nil)
		r.Key, r.Calls = k.Key, nil
		k.Retries = append(k.Retries, r)
	case *bulkhead.Bulkhead:
		b := readBulkhead(p, nil)
		b.Key, b.Calls = k.Key, nil
		k.Bulkheads = append(k.Bulkheads, b)
	case *limit.Limit:
		l := readLimit(p, nil)
		l.Key, l.Calls = k.Key, nil
		k.Limits = append(k.Limits, l)
	case *keyed.Group: // of a Forker that is not of this module
		g.add(p)
	}
}

// sum fills in the summary.
func (p *page) sum() {
	s := &p.Summary
	p.each(func(b *breakerView) {
		s.Breakers++
		s.add(b.State)
		if b.NotClosed() {
			s.NotClosed++
		}
		if b.Mode != "" {
			s.NotAuto++
		}
	})
	switch {
	case s.Breakers == 0:
		s.Text = "There are no breakers yet"
	case s.NotClosed == 0 && s.Breakers == 1:
		s.Text = "The breaker is CLOSED"
	case s.NotClosed == 0:
		s.Text = fmt.Sprintf("All %d breakers are CLOSED", s.Breakers)
	case s.NotClosed == 1:
		s.Text = fmt.Sprintf("1 of %s is not CLOSED", describe.Count(s.Breakers, "breaker"))
	default:
		s.Text = fmt.Sprintf("%d of %d breakers are not CLOSED", s.NotClosed, s.Breakers)
	}
	s.limits(p)
	if s.NotAuto > 0 {
		s.Text += fmt.Sprintf("; %d in a mode other than Auto", s.NotAuto)
	}
	if n := len(p.Faults); n > 0 {
		s.Text += "; not all policies could be asked"
	}
}

// each calls do with the breakers that have a state, those of keys included.
func (p *page) each(do func(*breakerView)) {
	for _, b := range p.Breakers {
		if b.standing != nil {
			do(b)
		}
	}
	for _, g := range p.Groups {
		for _, k := range g.Keys {
			for _, b := range k.Breakers {
				do(b)
			}
		}
	}
}
