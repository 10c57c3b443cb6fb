package debug

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// shown is how many keys of a group, and cards that need attention, the HTML has.
const shown = 100

// page is everything that there is to show. The JSON is made from its fields; the HTML
// also uses its methods.
type page struct {
	Time     stamp    `json:"time"`
	Summary  summary  `json:"summary"`
	Faults   []string `json:"faults,omitempty"`
	Policies []*card  `json:"policies"`
	Groups   []*group `json:"groups"`
	Others   []*other `json:"others"`
}

// summary counts the policies with a state by kind and state.
type summary struct {
	Text      string                    `json:"text"`
	Attention int                       `json:"attention"` // policies whose state needs attention
	Modes     int                       `json:"modes"`     // policies in a mode that is not the usual one
	States    map[string]map[string]int `json:"states"`    // kind, state, count
}

// card shows the report of one policy.
type card struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Group is the name of the group that the policy is inside of.
	Group *string `json:"group,omitempty"`
	// Key is the key of Group, "" for the template.
	Key string `json:"key,omitempty"`
	// Template is set for a template, which no call passes through. It has the counters
	// of all keys.
	Template  bool    `json:"template,omitempty"`
	State     string  `json:"state,omitempty"`
	Attention bool    `json:"attention,omitempty"`
	Mode      string  `json:"mode,omitempty"`
	Since     stamp   `json:"since,omitzero"`
	Ago       seconds `json:"since_seconds,omitempty"`
	Why       string  `json:"why,omitempty"`
	Next      string  `json:"next,omitempty"`
	RetryAt   stamp   `json:"retry_at,omitzero"`
	RetryIn   seconds `json:"retry_in_seconds,omitempty"`
	Values    []value `json:"values"`
	History   []step  `json:"history,omitempty"`
	Settings  string  `json:"settings,omitempty"`

	recovering bool
	now        time.Time // by the clock of the policy
}

// value is one counter or gauge.
type value struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Value  number            `json:"value"`
	Max    number            `json:"max,omitempty"`

	words string // the values of the labels, in order
}

// step is one change of state.
type step struct {
	Time     stamp   `json:"time"`
	From     string  `json:"from"`
	To       string  `json:"to"`
	Mode     string  `json:"mode,omitempty"`
	Reason   string  `json:"reason"`
	Failures int     `json:"failures,omitempty"`
	Calls    int     `json:"calls,omitempty"`
	Delay    seconds `json:"delay_seconds,omitempty"`
	Error    string  `json:"error,omitempty"`

	level slog.Level // how urgent the state To is
}

// group is a policy with others for keys.
type group struct {
	card
	States map[string]int `json:"states"` // of keys, by their worst state
	Keys   []*keyCard     `json:"keys"`   // keys that need attention first, then by name

	byKey map[string]*keyCard
}

// keyCard has the policies of one key.
type keyCard struct {
	Key      string  `json:"key"`
	Policies []*card `json:"policies"`
}

// other is a policy that does not report.
type other struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// Title names the policy.
func (c *card) Title() string {
	switch {
	case c.Key != "":
		return c.Key
	case c.Name != "":
		return c.Name
	default:
		return cmp.Or(c.Kind, "policy") + " without a name"
	}
}

// ID tells a card from the others on the page, as far as names do.
func (c *card) ID() string { return fmt.Sprintf("%s/%s/%s", c.Kind, c.Name, c.Key) }

// Icon returns the class of the style for the state.
func (c *card) Icon() string {
	switch {
	case c.Attention && c.recovering:
		return "half"
	case c.Attention:
		return "bad"
	default:
		return "good"
	}
}

// Latest returns the history with the latest step first.
func (c *card) Latest() []step {
	latest := slices.Clone(c.History)
	slices.Reverse(latest)
	return latest
}

// Remembered says how many steps there are.
func (c *card) Remembered() string {
	if n := len(c.History); n > 1 {
		return fmt.Sprintf("Last %d changes of state", n)
	}
	return "Last change of state"
}

// Text returns the reason with the counts.
func (s step) Text() string {
	switch {
	case s.Calls > 0:
		return fmt.Sprintf("%s: %d of %d", s.Reason, s.Failures, s.Calls)
	case s.Failures > 0:
		return fmt.Sprintf("%s: %d in a row", s.Reason, s.Failures)
	default:
		return s.Reason
	}
}

// counted are the values of one name.
type counted struct {
	Name   string
	Values []value
}

// Counted returns the values by name, in the order of the report. It leaves out gauges
// that repeat State and Mode: their label has their own name.
func (c *card) Counted() []counted {
	var all []counted
	for _, v := range c.Values {
		if _, repeats := v.Labels[v.Name]; repeats {
			continue
		}
		name := strings.ReplaceAll(strings.TrimSuffix(v.Name, "_total"), "_", " ")
		i := len(all) - 1
		if i < 0 || all[i].Name != name { // a report need not list the values of a name together
			i = slices.IndexFunc(all, func(c counted) bool { return c.Name == name })
		}
		if i < 0 {
			i, all = len(all), append(all, counted{Name: name})
		}
		all[i].Values = append(all[i].Values, v)
	}
	return all
}

// Meter returns the value that has a Max, nil if there is none.
func (c counted) Meter() *value {
	if len(c.Values) == 1 && c.Values[0].Max > 0 && c.Values[0].Max.finite() && c.Values[0].Value.finite() {
		return &c.Values[0]
	}
	return nil
}

// String returns the values for people: the value, or those that are not 0 with their
// labels.
func (c counted) String() string {
	var parts []string
	for _, v := range c.Values {
		switch {
		case v.words == "":
			parts = append(parts, v.String())
		case v.Value != 0:
			parts = append(parts, v.String()+" "+v.words)
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func (v value) String() string { return v.Value.String() }

// Words returns the name for people.
func (v value) Words() string { return strings.ReplaceAll(v.Name, "_", " ") }

// table has the policies of one kind outside of groups, and the templates.
type table struct {
	Kind    string
	Cards   []*card
	Columns []string // names of what the policies count

	column map[string]int // index in Columns
}

// add adds a card, and columns for what no card before it counts.
func (t *table) add(c *card) {
	t.Cards = append(t.Cards, c)
	for _, v := range c.Counted() {
		if _, ok := t.column[v.Name]; !ok {
			t.column[v.Name] = len(t.Columns)
			t.Columns = append(t.Columns, v.Name)
		}
	}
}

// Row returns the values of a card for the columns.
func (t *table) Row(c *card) []counted {
	row := make([]counted, len(t.Columns))
	for _, v := range c.Counted() {
		row[t.column[v.Name]] = v
	}
	return row
}

// HasStates reports whether the policies of the kind have states.
func (t *table) HasStates() bool {
	return slices.ContainsFunc(t.Cards, func(c *card) bool { return c.State != "" })
}

// Tables returns the policies by kind, in the order in which the kinds were found.
func (p *page) Tables() (all []*table) {
	kinds := map[string]*table{}
	for _, c := range p.Policies {
		t := kinds[c.Kind]
		if t == nil {
			t = &table{Kind: c.Kind, column: map[string]int{}}
			kinds[c.Kind] = t
			all = append(all, t)
		}
		t.add(c)
	}
	return all
}

// attention returns the cards that need attention, those of keys included.
func (p *page) attention() (all []*card) {
	for c := range p.cards {
		if c.Attention {
			all = append(all, c)
		}
	}
	return all
}

// First returns the cards that need attention, as many as the HTML has.
func (p *page) First() []*card { return head(p.attention()) }

// More says how many cards that need attention the HTML leaves out, "" if none.
func (p *page) More() string { return andMore(len(p.attention()), "policy", "policies") }

// cards yields all cards, those of groups and their keys included.
func (p *page) cards(yield func(*card) bool) {
	for _, c := range p.Policies {
		if !yield(c) {
			return
		}
	}
	for _, g := range p.Groups {
		if !yield(&g.card) {
			return
		}
		for _, k := range g.Keys {
			for _, c := range k.Policies {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// sum fills in the summary.
func (p *page) sum() {
	s := &p.Summary
	s.States = map[string]map[string]int{}
	for c := range p.cards {
		if c.State == "" {
			continue
		}
		if s.States[c.Kind] == nil {
			s.States[c.Kind] = map[string]int{}
		}
		s.States[c.Kind][c.State]++
		if c.Attention {
			s.Attention++
		}
		if c.Mode != "" {
			s.Modes++
		}
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(s.States)) {
		parts = append(parts, kind+": "+counts(s.States[kind]))
	}
	s.Text = cmp.Or(strings.Join(parts, "; "), "No policy has a state")
	switch {
	case s.Attention == 1:
		s.Text = "1 policy needs attention; " + s.Text
	case s.Attention > 1:
		s.Text = fmt.Sprintf("%d policies need attention; %s", s.Attention, s.Text)
	}
	if s.Modes > 0 {
		s.Text += fmt.Sprintf("; %d in a mode that was set by hand", s.Modes)
	}
	if len(p.Faults) > 0 {
		s.Text += "; not all policies could be read"
	}
}

// counts lists how many there are of each.
func counts(states map[string]int) string {
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(states)) {
		parts = append(parts, fmt.Sprintf("%d %s", states[state], state))
	}
	return strings.Join(parts, ", ")
}

// Count says how many keys there are, and in which states.
func (g *group) Count() string {
	noun := " keys"
	if len(g.Keys) == 1 {
		noun = " key"
	}
	s := fmt.Sprint(len(g.Keys), noun, " now")
	if len(g.States) > 0 {
		s += ": " + counts(g.States)
	}
	return s
}

// Shown returns the keys that the HTML has.
func (g *group) Shown() []*keyCard { return head(g.Keys) }

// More says how many keys the HTML leaves out, "" if none.
func (g *group) More() string { return andMore(len(g.Keys), "key", "keys") }

// Attention reports whether a policy of the key needs attention.
func (k *keyCard) Attention() bool {
	return slices.ContainsFunc(k.Policies, func(c *card) bool { return c.Attention })
}

// State returns the state of the key: the one that needs attention, else the first.
func (k *keyCard) State() (state string) {
	for _, c := range k.Policies {
		if c.State != "" && (state == "" || c.Attention) {
			state = c.State
		}
	}
	return state
}

func head[T any](all []T) []T { return all[:min(shown, len(all))] }

func andMore(n int, one, many string) string {
	switch n -= shown; {
	case n <= 0:
		return ""
	case n == 1:
		return fmt.Sprintf("and 1 more %s. The JSON has all of them.", one)
	default:
		return fmt.Sprintf("and %d more %s. The JSON has all of them.", n, many)
	}
}
