package resilience

import (
	"iter"
	"reflect"
	"time"
)

// Reporter is a Policy that reports what it has counted and what state it is in.
// Package metrics exports a report to Prometheus and package debug shows it on its
// page, for policies of any package.
type Reporter interface {
	Policy
	// Report returns a report. Only with details does it fill the fields of Report that
	// say so, which cost more to make. Report must be safe for concurrent use.
	Report(details bool) Report
}

// Report is what a policy has counted since it was made, and its present state.
//
// The policy that a fork was made from reports the counters that the fork shares with
// it. The fork's own report leaves them out, so that the sum over a policy and its forks
// counts each call once.
type Report struct {
	// Kind is the kind of the policy in snake_case, such as "breaker". It is part of
	// the names of metrics.
	Kind string
	// Name is the name of the policy, as configured.
	Name string
	// State is a word for the present state, such as "OPEN". It is "" for a policy
	// without states.
	State string
	// Attention reports whether a person on call should look at State first.
	Attention bool
	// Recovering reports whether State needs attention, but is on the way to a state that
	// does not, as HALF_OPEN of a breaker is.
	Recovering bool
	// Mode is a word for a mode that a person has set, "" for the usual one.
	Mode string
	// Values are the counters and gauges, in the order in which they are shown.
	Values []Value

	// The fields below are filled only with details.

	Settings string    // the numbers that the policy works with, for people
	Time     time.Time // of the report, by the clock of the policy
	Since    time.Time // the wall time at which State began; zero if there is no State
	Why      string    // why State was entered, for people
	Next     string    // what the policy does next, for people
	// RetryAt is when the policy expects to admit calls again, zero if it admits calls
	// now or that time is unknown.
	RetryAt time.Time
	// History are the last changes of state, the oldest first. Err of these events may
	// be nil or replaced by an error with the same text. Level is how urgent the state To
	// is: slog.LevelWarn if it needs attention, slog.LevelDebug if it is in order, and the
	// zero value if it is in between or unknown.
	History []Event
}

// Value is one counter or gauge of a Report.
type Value struct {
	// Name is the name of the metric in snake_case without the prefix, which is
	// "resilience_", the kind of the policy and "_". It ends in "_total" exactly if the
	// value is a counter (Prometheus naming conventions). A counter never falls.
	Name string
	// Labels are pairs of label and value. The values come from a closed set: they are
	// never a key, a URL or the text of an error.
	Labels []string
	// Value is the value now.
	Value float64
	// Max is the most that a gauge can reach at present, 0 if it has no bound. The
	// debug page draws the pair as a meter.
	Max float64
	// Help explains the metric. It may be empty for metrics of this module.
	Help string
}

// Node is a policy that Walk has found, and where.
type Node struct {
	Policy Policy
	// Group is the innermost group, such as a *keyed.Group, that the policy is inside
	// of, nil if there is none.
	Group Policy
	// Key is the key of Group that the policy serves. It is "" outside of groups and
	// for a template.
	Key string
	// Fork reports whether Group made the policy for Key, by Forker.Fork or by sharing
	// its template. The policies of keyed.Config.Keys are not forks.
	Fork bool
	// Template reports whether the policy only serves as the template that Group forks
	// for its keys. No call passes through a template. It reports the counters of all
	// its forks. Walk clears Template of a policy that is not a Forker: all keys share it.
	Template bool
}

// Walk returns p and every policy inside it, the outer before the inner. A policy that
// stands in two places is returned twice, but not inside itself. A nil policy, pointer or
// function is skipped. Inside a keyed.Group, Walk returns the template, the policies of
// Config.Keys, and then the policy of every key that the group holds at that moment.
//
// Walk finds inner policies by the optional methods Unwrap() []Policy, of a policy made
// of others, and Nodes() iter.Seq[Node], of a policy that has others for keys. Group
// need not be set by Nodes.
func Walk(p Policy) iter.Seq[Node] {
	return func(yield func(Node) bool) { walk(Node{Policy: p}, nil, yield) }
}

// maxDepth is the greatest depth, in policies, that Walk visits. It is far above the depth of
// any sensible policy, and bounds the stack if an Unwrap makes a new policy at each call.
const maxDepth = 1000

// enclosing is a policy that a walk is inside of.
type enclosing struct {
	policy Policy
	outer  *enclosing // nil for the outermost policy
	depth  int
}

// inside reports whether a walk in e is inside p, or too deep to go on.
func (e *enclosing) inside(p Policy) bool {
	if e != nil && e.depth >= maxDepth {
		return true
	}
	if reflect.TypeOf(p).Kind() != reflect.Pointer {
		return false // maxDepth bounds the rest
	}
	for ; e != nil; e = e.outer {
		if e.policy == p { // a pointer differs from a policy of any other kind without a panic
			return true
		}
	}
	return false
}

func walk(n Node, in *enclosing, yield func(Node) bool) bool {
	if absent(n.Policy) || in.inside(n.Policy) {
		return true
	}
	if n.Template {
		_, n.Template = n.Policy.(Forker)
	}
	if !yield(n) {
		return false
	}
	switch p := n.Policy.(type) {
	case interface{ Nodes() iter.Seq[Node] }:
		nodes := p.Nodes()
		if nodes == nil {
			return true
		}
		within := in.enter(n.Policy)
		for inner := range nodes {
			inner.Group = n.Policy
			inner.Fork = inner.Fork || n.Fork
			inner.Template = inner.Template || n.Template
			if !walk(inner, within, yield) {
				return false
			}
		}
	case interface{ Unwrap() []Policy }:
		within := in.enter(n.Policy)
		for _, q := range p.Unwrap() {
			if !walk(Node{q, n.Group, n.Key, n.Fork, n.Template}, within, yield) {
				return false
			}
		}
	}
	return true
}

// enter returns e for the policies inside p.
func (e *enclosing) enter(p Policy) *enclosing {
	depth := 0
	if e != nil {
		depth = e.depth + 1
	}
	return &enclosing{p, e, depth}
}

// absent reports whether p is nil, a nil pointer or a nil function.
func absent(p Policy) bool {
	if p == nil {
		return true
	}
	switch v := reflect.ValueOf(p); v.Kind() {
	case reflect.Pointer, reflect.Func:
		return v.IsNil()
	default:
		return false
	}
}
