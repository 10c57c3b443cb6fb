package breaker

import (
	"errors"
	"fmt"
	"time"

	"github.com/resilience-go/resilience"
)

// A Transition is a change of a breaker's state.
type Transition struct {
	Time     time.Time // the wall time of the transition, by the clock of the breaker
	From, To State
	Mode     Mode // after it
	// Rule is the cause: the String of a rule of Config.Trip, or one of the Cause
	// constants.
	Rule string
	// Failures of Calls failed or, if Slow is set, were slow. Calls is 0 if they failed
	// in a row. Both are 0 if nothing was counted.
	Failures, Calls int
	Slow            bool
	// OpenFor is how long OPEN lasts. It is 0 in other states and with ForcedOpen.
	OpenFor time.Duration
	// Error is the last of the failures as text, at most 200 bytes, as
	// resilience.Rejection.CauseText returns it. It is "" if there was none.
	Error string
}

// Reason returns the cause of the transition and its counts as text.
func (t Transition) Reason() string {
	if t.Rule == CauseSetMode {
		return setModeTo(t.Mode)
	}
	return match{rule: t.Rule, hits: t.Failures, calls: t.Calls, slow: t.Slow}.String()
}

// setModeTo returns the text of a call of SetMode.
func setModeTo(m Mode) string { return CauseSetMode + "(" + m.String() + ")" }

// reasonAndError returns the reason and, after it, the last of the failures.
func (t Transition) reasonAndError() string {
	if t.Error == "" {
		return t.Reason()
	}
	return t.Reason() + ", after: " + t.Error
}

// String describes the transition in one line. The text may change.
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

// event returns t as an event of a breaker with that name and key.
func (t Transition) event(name, key string) resilience.Event {
	e := resilience.Event{
		Kind: kinds[t.To], Time: t.Time, Policy: policy, Name: name, Key: key,
		From: t.From.String(), To: t.To.String(), Reason: t.Rule,
		Failures: t.Failures, Calls: t.Calls, Delay: t.OpenFor,
	}
	if t.Mode != Auto {
		e.Mode = t.Mode.String()
	}
	if t.Error != "" {
		e.Err = errors.New(t.Error)
	}
	return e
}

// maxHistory is how many transitions a breaker remembers.
const maxHistory = 16

// A past has the transitions up to one episode. It is never changed.
type past struct {
	last  []Transition // the oldest first
	began Transition   // by which a rule opened the breaker; zero once it has closed
}

// remember returns p with t after it. p is nil for no transitions.
func (p *past) remember(t Transition) *past {
	next := &past{last: []Transition{t}}
	if p != nil {
		old := p.last[max(0, len(p.last)+1-maxHistory):]
		next.last = append(append(make([]Transition, 0, len(old)+1), old...), t)
		next.began = p.began
	}
	switch {
	case t.Rule == CauseSetMode: // the state under the mode resumes
	case t.From == Closed:
		next.began = t
	case t.To == Closed:
		next.began = Transition{}
	}
	return next
}
