package breaker

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/vclock"
	"github.com/resilience-go/resilience/internal/window"
)

// A book holds what the rules have counted in one CLOSED episode, apart from failures in a
// row, which the episode's word has.
type book struct {
	tallies []tally                 // in the order of the rules
	failed  atomic.Pointer[failure] // the last failure, if a success may open the breaker
}

// A failure is an error and the time at which it was recorded.
type failure struct {
	err error
	at  int64
}

// failureAfter returns the error of the last failure if it was recorded after at.
func (k *book) failureAfter(at int64) error {
	if f := k.failed.Load(); f != nil && f.at > at {
		return f.err
	}
	return nil
}

// A tally holds what one rule has counted.
type tally struct {
	*rule
	flag uint64       // slow: the bit of a token that marks a slow call
	last *window.Last // rate
	over *window.Over // rateOver, slow
}

func newBook(rules []rule, now int64, clock *vclock.Clock) *book {
	all := make([]tally, len(rules))
	flag := uint64(slowFlag)
	for i := range rules {
		r := &rules[i]
		all[i].rule = r
		switch r.kind {
		case rate:
			all[i].last = window.NewLast(r.of, r.hits)
		case slow:
			all[i].flag = flag
			flag <<= 1
			fallthrough
		case rateOver:
			all[i].over = window.NewOver(int64(r.span), now, clock)
		}
	}
	return &book{tallies: all}
}

// A match is the cause of a transition: a rule that holds, with its counts, or one of
// the Cause constants.
type match struct {
	rule  string
	hits  int           // calls that failed or were slow
	calls int           // the calls that hits are among; 0 if hits are in a row
	slow  bool          // hits were slow
	span  time.Duration // from the first hit to the last
	err   error         // the last failure among hits

	because *resilience.Rejection // made of err; nil if its text could not be made
}

// rejection returns a rejection because of the last failure, without the policy's fields.
func (m match) rejection() resilience.Rejection {
	if m.because == nil {
		return resilience.Rejection{Cause: m.err}
	}
	return *m.because
}

// text returns the text of the last failure, or "".
func (m match) text() string {
	if m.because == nil {
		return ""
	}
	return m.because.CauseText()
}

// String returns the rule and its counts as text.
func (m match) String() string {
	switch {
	case m.hits == 0:
		return m.rule
	case m.rule != CauseProbeFailed:
		return m.rule + ": " + m.counted()
	case m.hits == 1:
		return "a probe failed"
	default:
		return fmt.Sprintf("%d probes in a row failed", m.hits)
	}
}

// counted returns the counts as text.
func (m match) counted() string {
	switch {
	case m.calls == 0:
		return fmt.Sprintf("%d failed in a row", m.hits)
	case m.slow:
		return fmt.Sprintf("%d of %d calls slow", m.hits, m.calls)
	default:
		return fmt.Sprintf("%d of %d calls failed", m.hits, m.calls)
	}
}

// add counts a call with that token, which ended at now, and returns the counts of the
// rule and whether it holds. run is the number of failures in a row up to this call, and
// span the time from the first to the last of them. Both are 0 if the call did not fail.
// add is called for a rate only if the call failed.
func (t *tally) add(now int64, token uint64, failed bool, run int, span time.Duration) (m match, holds bool) {
	switch t.kind {
	case silence:
		return t.addRun(run, span, false)
	case rate:
		m.hits = t.hits
		m.calls, m.span, holds = t.last.Fail(now)
	default:
		hit := failed
		if m.slow = t.kind == slow; m.slow {
			hit = token&t.flag != 0
		}
		m.span = t.span
		m.hits, m.calls = t.over.Add(now, hit)
		holds = m.calls >= t.atLeast && t.reached(m.hits, m.calls)
	}
	if holds {
		m.rule = t.text
	}
	return m, holds
}

// addRun is add for a rule that counts failures in a row. anySpan has it hold however short the
// span is.
func (t *tally) addRun(run int, span time.Duration, anySpan bool) (m match, holds bool) {
	m = match{hits: run, span: span}
	if holds = run >= t.hits && (anySpan || span >= t.span); holds {
		m.rule = t.text
	}
	return m, holds
}

// count returns the counts of the rule at now, given the failures in a row.
func (t *tally) count(now int64, run int) (hits, calls int) {
	switch t.kind {
	case silence:
		return run, 0
	case rate:
		hits, calls, _, _ = t.last.Count(now)
		return hits, calls
	default:
		return t.over.Count(now)
	}
}

// near reports whether the rule is more than half of the way to holding. run is the
// failures in a row.
func (t *tally) near(now int64, run int) bool {
	switch t.kind {
	case silence:
		return 2*run > t.hits
	case rate:
		hits, _, _, quiet := t.last.Count(now)
		return 2*hits > t.hits && quiet < window.MaxAge
	default:
		hits, calls := t.over.Count(now)
		return 2*calls > t.atLeast && 2*int64(hits)*int64(t.of) > int64(t.hits)*int64(calls)
	}
}
