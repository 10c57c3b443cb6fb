package breaker

import (
	"slices"
	"sync/atomic"

	"github.com/resilience-go/resilience"
)

// The counters that every breaker has. Their first numbers are the outcomes.
const (
	rejected    = int(resilience.Ignored) + 1 + iota
	wouldReject // admitted by MetricsOnly though the state rejects
)

// outageCounters are the counters of a breaker that has left CLOSED, and of its forks.
// Most breakers never leave it and have none.
type outageCounters struct {
	// transitions has a counter for each of causes, then one for each rule of Config.Trip
	// that opens CLOSED, and one for each that opens HALF_OPEN.
	transitions []atomic.Uint64
	probes      [3]atomic.Uint64 // by outcome
	late        atomic.Uint64    // probes whose lease has ended
	open        atomic.Int64     // time in OPEN, in ns
}

// outages returns the counters, which it makes if there are none.
func (s *shared) outages() *outageCounters {
	if c := s.counters.Load(); c != nil {
		return c
	}
	// If several goroutines make them, one wins.
	s.counters.CompareAndSwap(nil, &outageCounters{transitions: make([]atomic.Uint64, len(causes)+2*len(s.rules))})
	return s.counters.Load()
}

// causes has all transitions that are not made by a rule of Config.Trip.
var causes = [...]TransitionCount{
	{From: Open, To: HalfOpen, Rule: CauseOpenTimeOver},
	{From: HalfOpen, To: Closed, Rule: CauseEnoughSuccesses},
	{From: HalfOpen, To: Open, Rule: CauseProbeFailed},
	{From: Closed, To: Open, Rule: CauseSetMode},
	{From: Closed, To: HalfOpen, Rule: CauseSetMode},
	{From: Open, To: Closed, Rule: CauseSetMode},
	{From: Open, To: HalfOpen, Rule: CauseSetMode},
	{From: HalfOpen, To: Closed, Rule: CauseSetMode},
	{From: HalfOpen, To: Open, Rule: CauseSetMode},
	{From: Open, To: Closed, Rule: CauseReset},
	{From: HalfOpen, To: Closed, Rule: CauseReset},
}

// TransitionCount is how often a breaker and its forks went From one state To another
// because of Rule. Rule is the String of a rule of Config.Trip, or a Cause constant.
type TransitionCount struct {
	From, To State
	Rule     string
	Count    uint64
}

// transitionCounts returns how often each possible transition was made.
func (s *shared) transitionCounts() []TransitionCount {
	all := append([]TransitionCount(nil), causes[:]...)
	c := s.counters.Load()
	for i := range all {
		if c != nil {
			all[i].Count = c.transitions[i].Load()
		}
	}
	for _, from := range [...]State{Closed, HalfOpen} {
		// A HALF_OPEN that closes at its first success is never judged by a rule.
		if from == HalfOpen && (s.windows || s.cfg.CloseAfter == 1) {
			break
		}
		for i := range s.rules {
			if s.ruleIndex(s.rules[i].text) < i {
				continue // counted by the first rule of that text
			}
			t := TransitionCount{From: from, To: Open, Rule: s.rules[i].text}
			if c != nil {
				t.Count = c.transitions[s.ruleCounter(from, i)].Load()
			}
			all = append(all, t)
		}
	}
	return all
}

// ruleCounter returns the index in transitions of the i-th rule of Config.Trip that opens
// from.
func (s *shared) ruleCounter(from State, i int) int {
	if from == HalfOpen {
		i += len(s.rules)
	}
	return len(causes) + i
}

// ruleIndex returns the index of the first rule of Config.Trip with that text, or -1.
func (s *shared) ruleIndex(text string) int {
	return slices.IndexFunc(s.rules, func(r rule) bool { return r.text == text })
}

// countTransition counts a transition.
func (s *shared) countTransition(from, to State, why string) {
	c := s.outages()
	for i, t := range causes {
		if t.From == from && t.To == to && t.Rule == why {
			c.transitions[i].Add(1)
			return
		}
	}
	if i := s.ruleIndex(why); i >= 0 {
		c.transitions[s.ruleCounter(from, i)].Add(1)
	}
}

// to returns the state that the i-th counter of transitions leads to.
func (c *outageCounters) to(i int) State {
	if i < len(causes) {
		return causes[i].To
	}
	return Open
}
