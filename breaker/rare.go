package breaker

import (
	"strings"
	"sync/atomic"
	"time"
)

// rare is what is counted of a breaker that has left CLOSED, together with its
// forks. Most never do, and have none.
type rare struct {
	// taken counts transitions, those of causes and then those that the rules of
	// Config.Trip made.
	taken  []atomic.Uint64
	probes [3]atomic.Uint64 // by outcome
	leaked atomic.Uint64
	open   atomic.Int64 // time spent in OPEN, in ns
}

// rarely returns the rare of s. Of several that make the first, one wins.
func (s *shared) rarely() *rare {
	if r := s.rare.Load(); r != nil {
		return r
	}
	s.rare.CompareAndSwap(nil, &rare{taken: make([]atomic.Uint64, len(causes)+len(s.cfg.Trip))})
	return s.rare.Load()
}

// What makes a transition, if it is not a rule of Config.Trip.
const (
	openTimeOver    = "open time is over"
	enoughSuccesses = "enough successes"
	creditUsedUp    = "credit is used up"
	setMode         = "SetMode"
	reset           = "Reset()"
)

// causes are all of these transitions that there can be.
var causes = [...]TransitionCount{
	{From: Open, To: HalfOpen, Rule: openTimeOver},
	{From: HalfOpen, To: Closed, Rule: enoughSuccesses},
	{From: HalfOpen, To: Open, Rule: creditUsedUp},
	{From: Closed, To: Open, Rule: setMode},
	{From: Closed, To: HalfOpen, Rule: setMode},
	{From: Open, To: Closed, Rule: setMode},
	{From: Open, To: HalfOpen, Rule: setMode},
	{From: HalfOpen, To: Closed, Rule: setMode},
	{From: HalfOpen, To: Open, Rule: setMode},
	{From: Open, To: Closed, Rule: reset},
	{From: HalfOpen, To: Closed, Rule: reset},
}

// TransitionCount is how often a breaker, with its forks, went From one state To
// another because of Rule: a rule of Config.Trip as its String says it, or "open time
// is over", "enough successes", "credit is used up", "SetMode" and "Reset()".
type TransitionCount struct {
	From, To State
	Rule     string
	Count    uint64
}

// Transitions returns how often each transition that there can be was made. Its length
// and order stay the same. The counts only grow.
func (b *Breaker) Transitions() []TransitionCount {
	all := append([]TransitionCount(nil), causes[:]...)
	for i := range b.cfg.Trip {
		all = append(all, TransitionCount{From: Closed, To: Open, Rule: b.cfg.Trip[i].String()})
	}
	if r := b.rare.Load(); r != nil {
		for i := range all {
			all[i].Count = r.taken[i].Load()
		}
	}
	return all
}

// countTransition counts a transition. Of rules that are alike the first counts for
// all.
func (b *Breaker) countTransition(from, to State, rule string) {
	if strings.HasPrefix(rule, setMode) {
		rule = setMode // whatever the mode
	}
	r := b.rarely()
	for i, c := range causes {
		if c.From == from && c.To == to && c.Rule == rule {
			r.taken[i].Add(1)
			return
		}
	}
	for i := range b.cfg.Trip {
		if b.cfg.Trip[i].String() == rule {
			r.taken[len(causes)+i].Add(1)
			return
		}
	}
}

// charge adds the time of e to that spent in OPEN, at the time now at which it is
// left or seen to be over. Only the first call counts.
func (b *Breaker) charge(e *episode, now int64) {
	if e.state == Open && e.charged.CompareAndSwap(false, true) {
		b.rarely().open.Add(e.lasted(now))
	}
}

// lasted returns how long e, in OPEN, had lasted at the time now.
func (e *episode) lasted(now int64) int64 { return max(0, min(now, e.until)-e.since) }

// openNow returns how long e has lasted if it is OPEN, but not the time that has been
// charged.
func (b *Breaker) openNow(e *episode) time.Duration {
	if e.state != Open {
		return 0
	}
	d := e.lasted(b.clock.Nanos())
	if e.charged.Load() { // after the clock, which is code of the user
		return 0
	}
	return time.Duration(d)
}

// addRare adds what is in rare to s.
func (b *Breaker) addRare(s *Stats) {
	r := b.rare.Load()
	if r == nil {
		return
	}
	s.ProbesSucceeded, s.ProbesFailed, s.ProbesIgnored = r.probes[0].Load(), r.probes[1].Load(), r.probes[2].Load()
	s.Leaked = r.leaked.Load()
	s.OpenTime = time.Duration(r.open.Load())
	for _, t := range b.Transitions() {
		switch t.To {
		case Open:
			s.Opened += t.Count
		case HalfOpen:
			s.HalfOpened += t.Count
		case Closed:
			s.Closed += t.Count
		}
	}
}
