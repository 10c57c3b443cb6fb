package breaker

import (
	"math"
	"slices"
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
	late   atomic.Uint64
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
// and order stay the same, no two of them are alike, and the counts only grow.
func (b *Breaker) Transitions() []TransitionCount {
	all := append([]TransitionCount(nil), causes[:]...)
	r := b.rare.Load()
	for i := range all {
		if r != nil {
			all[i].Count = r.taken[i].Load()
		}
	}
	for i, rule := range b.cfg.Trip {
		if slices.Index(b.cfg.Trip, rule) < i {
			continue // countTransition does not come to it
		}
		t := TransitionCount{From: Closed, To: Open, Rule: rule.String()}
		if r != nil {
			t.Count = r.taken[len(causes)+i].Load()
		}
		all = append(all, t)
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

// left is what an OPEN episode has been charged for when it has been left.
const left = math.MaxInt64

// charge adds the time of e to that spent in OPEN, up to now. What it has added before
// it does not add again.
func (b *Breaker) charge(e *episode, now int64) {
	for d := e.lasted(now); ; {
		before := e.word.Load()
		if d <= int64(before) {
			return
		}
		if e.word.CompareAndSwap(before, uint64(d)) {
			b.rarely().open.Add(d - int64(before))
			return
		}
	}
}

// chargeRest is charge by the one that has replaced e, for the last time.
func (b *Breaker) chargeRest(e *episode, now int64) {
	if e.state == Open {
		if d := e.lasted(now) - int64(e.word.Swap(left)); d > 0 {
			b.rarely().open.Add(d)
		}
	}
}

// lasted returns how long e, in OPEN, had lasted at the time now, which is negative if the
// clock was set back.
func (e *episode) lasted(now int64) int64 { return min(now, e.until) - e.since }

// openNow returns how long e, in OPEN, had lasted at the time now, but not what has
// been charged. The caller has read rare.open before, and so has counted nothing twice:
// what is charged meanwhile it misses.
func (e *episode) openNow(now int64) time.Duration {
	return time.Duration(max(0, e.lasted(now)-int64(e.word.Load())))
}

// addRare adds what is in rare to s.
func (b *Breaker) addRare(s *Stats) {
	r := b.rare.Load()
	if r == nil {
		return
	}
	s.ProbesSucceeded, s.ProbesFailed, s.ProbesIgnored = r.probes[0].Load(), r.probes[1].Load(), r.probes[2].Load()
	s.ProbesLate = r.late.Load()
	s.OpenTime = time.Duration(r.open.Load())
	for i := range r.taken {
		to := Open
		if i < len(causes) {
			to = causes[i].To
		}
		switch n := r.taken[i].Load(); to {
		case Open:
			s.Opened += n
		case HalfOpen:
			s.HalfOpened += n
		case Closed:
			s.Closed += n
		}
	}
}
