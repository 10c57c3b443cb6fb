package breaker

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Transition is one that a breaker has made.
type Transition struct {
	Time     time.Time // by the clock of the breaker
	From, To State
	Mode     Mode
	// Rule is what caused it: a rule of Config.Trip as its String says it, or "open
	// time is over", "enough successes", "credit is used up", "Reset()" and "SetMode"
	// with the mode.
	Rule string
	// Failures of Calls failed, or were Slow. Calls is 0 if they failed in a row; both
	// are 0 if nothing was counted.
	Failures, Calls int
	Slow            bool
	// OpenFor is how long OPEN lasts, 0 in other states and with ForcedOpen.
	OpenFor time.Duration
	// Error is the text of the last failure that had a part in it: at most 200 bytes,
	// as by resilience.Rejection.CauseText. "" if there was none.
	Error string
}

// Reason says what caused the transition and what was counted, for people.
func (t Transition) Reason() string {
	return match{rule: t.Rule, hits: t.Failures, calls: t.Calls, slow: t.Slow}.String()
}

// String is one line for people: the text may change.
func (t Transition) String() string {
	s := fmt.Sprintf("%s -> %s, %s", t.From, t.To, t.Reason())
	if t.OpenFor > 0 {
		s += fmt.Sprintf(", for %v", rounded(t.OpenFor))
	}
	if t.Mode == MetricsOnly {
		s += ", in MetricsOnly"
	}
	if t.Error != "" {
		s += ", after: " + t.Error
	}
	return s
}

// maxHistory is how many transitions a breaker remembers.
const maxHistory = 16

// A past is what a breaker remembers of its transitions, up to the present state. It
// is never changed.
type past struct {
	last  []Transition // the oldest first
	began Transition   // by which a rule last opened it, zero once it has closed
}

// remember returns p, which is nil for none, with t after it.
func (p *past) remember(t Transition) *past {
	next := &past{last: []Transition{t}}
	if p != nil {
		old := p.last[max(0, len(p.last)+1-maxHistory):]
		next.last = append(append(make([]Transition, 0, len(old)+1), old...), t)
		next.began = p.began
	}
	switch {
	case strings.HasPrefix(t.Rule, setMode): // what was underneath goes on
	case t.From == Closed:
		next.began = t
	case t.To == Closed:
		next.began = Transition{}
	}
	return next
}

// transition returns that from e to next.
func (b *Breaker) transition(e, next *episode, why match) Transition {
	t := Transition{
		Time: b.clock.At(next.since),
		From: e.state, To: next.state, Mode: next.mode,
		Rule: why.rule, Failures: why.hits, Calls: why.calls, Slow: why.slow,
		Error: why.text,
	}
	if next.state == Open && next.mode != ForcedOpen {
		t.OpenFor = time.Duration(max(0, next.until-next.since))
	}
	return t
}

// An Explanation says why a breaker is in its state and what happens next. All of it
// is from one moment, but for the counters in Stats, which go on.
type Explanation struct {
	Name, Key string    // as in a resilience.Rejection
	Time      time.Time // of the explanation, by the clock of the breaker
	Stats     Stats
	Rules     []RuleStats // as by Breaker.Rules
	// History has the last transitions, at most 16, the oldest first.
	History []Transition
	// Began is the transition by which a rule opened the breaker, however many there
	// were since. It is zero if the breaker has closed since then.
	Began Transition

	closeAfter int
	under      State // ForcedOpen, Disabled: what goes on when they end
}

// Explain says why the breaker is in its state and what happens next. Print what it
// returns.
func (b *Breaker) Explain() Explanation {
	e := b.episode.Load()
	x := Explanation{
		Name: b.cfg.Name, Key: b.key, Time: b.clock.Now(),
		Stats: b.stats(e), Rules: b.rules(e), closeAfter: b.cfg.CloseAfter,
	}
	if e.under != nil {
		x.under = e.under.resumed(b.clock.Nanos())
	}
	if e.past != nil {
		x.History, x.Began = slices.Clone(e.past.last), e.past.began
	}
	return x
}
