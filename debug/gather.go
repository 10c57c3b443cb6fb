package debug

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/resilience-go/resilience"
)

const (
	// maxPolicies is how many policies are read in all, since a user's Unwrap may have
	// no end. It is far above the keys of a large group.
	maxPolicies = 100_000
	maxFaults   = 100  // faults on the page
	maxValues   = 1000 // values of one report; breakers have one for each transition and rule
	maxHistory  = 100  // changes of state of one report
)

// gatherer makes a page.
type gatherer struct {
	page   page
	nodes  []resilience.Node
	index  map[resilience.Policy]int    // of a node
	groups map[resilience.Policy]*group // of policies that have others for keys
}

// gather returns the page of the policies.
func gather(policies []resilience.Policy) *page {
	g := &gatherer{
		page:   page{Time: stamp{time.Now()}, Policies: []*card{}, Groups: []*group{}, Others: []*other{}}, // empty lists, not null
		index:  map[resilience.Policy]int{},
		groups: map[resilience.Policy]*group{},
	}
	for _, p := range policies {
		g.guard(p, func() { g.find(p) })
	}
	for _, n := range g.nodes {
		g.guard(n.Policy, func() { g.read(n) })
	}
	for _, group := range g.page.Groups {
		group.sort()
	}
	g.page.sum()
	return &g.page
}

// guard calls read, which runs user code for p, and turns a panic into a fault.
func (g *gatherer) guard(p resilience.Policy, read func()) {
	defer func() {
		if v := recover(); v != nil {
			g.fault(p, fmt.Sprintf("panics: %v", v))
		}
	}()
	read()
}

func (g *gatherer) fault(p resilience.Policy, what string) {
	switch n := len(g.page.Faults); {
	case n == maxFaults:
		g.page.Faults = append(g.page.Faults, "and more")
	case n < maxFaults:
		g.page.Faults = append(g.page.Faults, clip(fmt.Sprintf("%T %s", p, what)))
	}
}

// find adds p and the policies inside it, each once. A policy that is a template and also
// serves calls, as a Forker that returns itself does, is not a template.
func (g *gatherer) find(p resilience.Policy) {
	walked := 0
	for n := range resilience.Walk(p) {
		if walked++; walked > maxPolicies {
			g.fault(p, fmt.Sprintf("has more than %d policies inside it: the rest is not shown", maxPolicies))
			return
		}
		if reflect.ValueOf(n.Policy).Comparable() {
			if i, seen := g.index[n.Policy]; seen {
				if before := &g.nodes[i]; before.Template && n.Group == nil {
					*before = n
				} else {
					before.Template = before.Template && n.Template
				}
				continue
			}
			g.index[n.Policy] = len(g.nodes)
		}
		g.nodes = append(g.nodes, n)
		if n.Group != nil && reflect.ValueOf(n.Group).Comparable() && g.groups[n.Group] == nil {
			g.groups[n.Group] = newGroup()
		}
	}
}

// groupOf returns the group that p is, nil if p has no others for keys.
func (g *gatherer) groupOf(p resilience.Policy) *group {
	if p == nil || !reflect.ValueOf(p).Comparable() {
		return nil
	}
	return g.groups[p]
}

// read puts one policy on the page.
func (g *gatherer) read(n resilience.Node) {
	if own := g.groupOf(n.Policy); own != nil {
		g.readGroup(n, own)
		return
	}
	r, ok := n.Policy.(resilience.Reporter)
	if !ok {
		if _, ok := n.Policy.(interface{ Unwrap() []resilience.Policy }); !ok && !n.Fork {
			g.page.Others = append(g.page.Others, &other{Type: clip(fmt.Sprintf("%T", n.Policy)), Text: clip(line(n.Policy))})
		}
		return
	}
	c := newCard(r.Report(true), n.Template)
	g.place(c, n)
	if group := g.groupOf(n.Group); n.Fork && group != nil {
		k := group.key(c.Key)
		k.Policies = append(k.Policies, c)
		return
	}
	g.page.Policies = append(g.page.Policies, c)
}

// readGroup puts a group on the page. The group is there even if its methods panic, so
// that its keys are shown. A group is read before its keys.
func (g *gatherer) readGroup(n resilience.Node, own *group) {
	g.page.Groups = append(g.page.Groups, own)
	g.place(&own.card, n)
	if named, ok := n.Policy.(interface{ Name() string }); ok {
		g.guard(n.Policy, func() { own.Name = clip(named.Name()) })
	}
	if r, ok := n.Policy.(resilience.Reporter); ok {
		c := newCard(r.Report(true), n.Template)
		c.Name = cmp.Or(c.Name, own.Name)
		g.place(c, n)
		own.card = *c
	}
}

// place sets the group and the key that the policy of a card stands in.
func (g *gatherer) place(c *card, n resilience.Node) {
	if n.Group == nil {
		return
	}
	name := ""
	if group := g.groupOf(n.Group); group != nil {
		name = group.Name
	}
	c.Group, c.Key = &name, clip(n.Key)
}

func newGroup() *group {
	return &group{card: card{Values: []value{}}, States: map[string]int{}, Keys: []*keyCard{}, byKey: map[string]*keyCard{}}
}

// key returns the card of a key.
func (g *group) key(key string) *keyCard {
	k := g.byKey[key]
	if k == nil {
		k = &keyCard{Key: key}
		g.byKey[key] = k
		g.Keys = append(g.Keys, k)
	}
	return k
}

// sort counts the states of the keys and puts those that need attention first.
func (g *group) sort() {
	for _, k := range g.Keys {
		if s := k.State(); s != "" {
			g.States[s]++
		}
	}
	slices.SortStableFunc(g.Keys, func(a, b *keyCard) int {
		return cmp.Or(cmp.Compare(rank(b), rank(a)), strings.Compare(a.Key, b.Key))
	})
}

func rank(k *keyCard) int {
	if k.Attention() {
		return 1
	}
	return 0
}

// line returns the text of a policy that does not report.
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

// newCard returns the card of a report. A template has counters and settings, and a state
// only if a mode was set: no call passes through it.
func newCard(r resilience.Report, template bool) *card {
	c := &card{
		Kind: clip(r.Kind), Name: clip(r.Name), Template: template, Mode: clip(r.Mode),
		Settings: clipTo(maxSentence, r.Settings), Values: []value{}, now: r.Time,
	}
	stands := !template || r.Mode != ""
	if stands {
		c.State, c.Attention, c.recovering = clip(r.State), r.Attention, r.Recovering
		c.Why, c.Next = clipTo(maxSentence, r.Why), clipTo(maxSentence, r.Next)
		if !r.Since.IsZero() {
			c.Since, c.Ago = stamp{r.Since}, seconds(elapsed(r.Since, r.Time))
		}
		if !r.RetryAt.IsZero() {
			c.RetryAt, c.RetryIn = stamp{r.RetryAt}, seconds(max(0, r.RetryAt.Sub(r.Time)))
		}
		for _, e := range r.History[max(0, len(r.History)-maxHistory):] {
			c.History = append(c.History, newStep(e))
		}
	}
	for _, v := range r.Values[:min(maxValues, len(r.Values))] {
		if stands || strings.HasSuffix(v.Name, "_total") {
			c.Values = append(c.Values, newValue(v))
		}
	}
	return c
}

func newValue(v resilience.Value) value {
	n := value{Name: clip(v.Name), Value: number(v.Value), Max: number(v.Max)}
	for i := 0; i+1 < len(v.Labels); i += 2 {
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		label := clip(v.Labels[i+1])
		n.Labels[clip(v.Labels[i])] = label
		switch words := strings.ReplaceAll(label, "_", " "); {
		case i == 0:
			n.words = words
		case i == 2 && v.Labels[0] == "from" && v.Labels[2] == "to":
			n.words += " → " + words
		default:
			n.words += " (" + words + ")"
		}
	}
	return n
}

func newStep(e resilience.Event) step {
	s := step{
		Time: stamp{e.Time}, From: clip(e.From), To: clip(e.To), Mode: clip(e.Mode),
		Reason: clip(e.Reason), Failures: e.Failures, Calls: e.Calls, Delay: seconds(e.Delay), level: e.Level,
	}
	if e.Err != nil {
		s.Error = clip(e.Err.Error())
	}
	return s
}
