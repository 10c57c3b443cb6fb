package breaker

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience/internal/vclock"
	"github.com/resilience-go/resilience/internal/window"
)

const (
	// maxRun is how many failures in a row an episode can count.
	maxRun = 1<<runBits - 1
	// maxLast bounds FailureRate, whose failures each look through all the others.
	maxLast = 10_000

	minWindow = 10 * time.Millisecond
	maxWindow = 24 * time.Hour
)

// Rule is a condition under which a closed breaker opens. The zero value is
// invalid; rules come from the functions of this package.
type Rule struct {
	kind    kind
	calls   int // Silence: failures
	percent int
	span    time.Duration // of Silence, or of the window
	slower  time.Duration
}

type kind uint8

const (
	silence kind = iota + 1
	rate
	rateOver
	slowRate
)

// Silence opens when that many calls in a row failed, the last of them at least
// span after the first, without a success between: the dependency has been
// silent. Any success starts the count again. Silence(7, time.Second), the default,
// never opened in simulation while half of 50 calls a second failed; with few calls
// in span, bad luck suffices, at the price of an OPEN of about 50 ms. failures is 1 to
// 65535; span is not negative and counts in microseconds.
func Silence(failures int, span time.Duration) Rule {
	return Rule{kind: silence, calls: failures, span: span}
}

// Consecutive opens when that many calls in a row failed, however quickly. It is
// Silence(failures, 0).
func Consecutive(failures int) Rule { return Silence(failures, 0) }

// FailureRate opens when percent of that many calls failed, among the last so many
// calls. It does not wait for the first calls to be complete: it opens with the
// failure that is enough of them, be it the first after the start. percent is 1 to
// 100, calls 1 to 10000; the failures it takes are rounded up to whole ones, so for 2
// of 3 write FailureRate(66, 3).
//
// With a rule of a rate, set Config.OpenFor. Its default follows the silence, which
// starts only at the trip: OPEN would last about 50 ms at first, and longer only
// while HALF_OPEN fails without a success.
func FailureRate(percent, calls int) Rule {
	return Rule{kind: rate, percent: percent, calls: calls}
}

// FailureRateOver opens when percent of the calls in the window failed and there
// are at least minCalls in it. The window is the time up to now, and moves on by a
// tenth of it. percent is 1 to 100, minCalls at least 1, window 10 ms to 24 h. Set
// Config.OpenFor with it, for the reason that FailureRate gives.
func FailureRateOver(percent, minCalls int, window time.Duration) Rule {
	return Rule{kind: rateOver, percent: percent, calls: minCalls, span: window}
}

// SlowRate opens when percent of the calls in the window took longer than
// slowerThan, whether they failed or not, and there are at least minCalls in it.
// What counts is the time until the operation returned, for HTTP until the headers
// came, and not how slowly the caller reads. In HALF_OPEN a call as slow as that
// counts as a failure. The bounds are those of FailureRateOver; slowerThan is
// positive, and a breaker can have four of these rules. Set Config.OpenFor with it,
// for the reason that FailureRate gives. If no call failed, a Rejection has no Cause
// and Stats no LastError: what was counted is in Rejection.Detail.
func SlowRate(percent int, slowerThan time.Duration, minCalls int, window time.Duration) Rule {
	return Rule{kind: slowRate, percent: percent, slower: slowerThan, calls: minCalls, span: window}
}

// String returns the rule as it is written in Go, with durations as they print.
func (r Rule) String() string {
	switch {
	case r.kind == silence && r.span == 0:
		return fmt.Sprintf("Consecutive(%d)", r.calls)
	case r.kind == silence:
		return fmt.Sprintf("Silence(%d, %v)", r.calls, r.span)
	case r.kind == rate:
		return fmt.Sprintf("FailureRate(%d, %d)", r.percent, r.calls)
	case r.kind == rateOver:
		return fmt.Sprintf("FailureRateOver(%d, %d, %v)", r.percent, r.calls, r.span)
	case r.kind == slowRate:
		return fmt.Sprintf("SlowRate(%d, %v, %d, %v)", r.percent, r.slower, r.calls, r.span)
	default:
		return "Rule{}"
	}
}

func (r Rule) validate() error {
	bad := func(what string, args ...any) error {
		return fmt.Errorf("is %v: "+what, append([]any{r}, args...)...)
	}
	timed := r.kind == rateOver || r.kind == slowRate
	switch {
	case r.kind == 0:
		return bad("make it with Silence, Consecutive, FailureRate, FailureRateOver or SlowRate")
	case r.kind == silence && (r.calls < 1 || r.calls > maxRun):
		return bad("the number of failures must be 1 to %d", maxRun)
	case r.kind == silence && r.span < 0:
		return bad("the span must not be negative")
	case r.kind != silence && (r.percent < 1 || r.percent > 100):
		return bad("the percentage must be 1 to 100")
	case r.kind == rate && (r.calls < 1 || r.calls > maxLast):
		return bad("the number of calls must be 1 to %d; for more use FailureRateOver", maxLast)
	case timed && r.calls < 1:
		return bad("the least number of calls must be at least 1")
	case timed && (r.span < minWindow || r.span > maxWindow):
		return bad("the window must be %v to %v", minWindow, maxWindow)
	case r.kind == slowRate && r.slower <= 0:
		return bad("slowerThan must be positive")
	}
	return nil
}

// failures returns how many failures among the last calls FailureRate takes.
func (r Rule) failures() int { return (r.percent*r.calls + 99) / 100 }

// A book is what the rules have counted in one CLOSED episode.
type book struct {
	tallies []tally                 // in the order of the rules
	failed  atomic.Pointer[failure] // the last one, if a later call may be what opens the breaker
}

// A failure is an error with the time at which it came.
type failure struct {
	err error
	at  int64
}

// failureAfter returns the last failure if it came after that time.
func (k *book) failureAfter(at int64) error {
	if f := k.failed.Load(); f != nil && f.at > at {
		return f.err
	}
	return nil
}

// A tally is what one rule has counted.
type tally struct {
	*Rule
	flag uint64       // SlowRate: the bit of a token that says a call was slow
	last *window.Last // FailureRate
	over *window.Over // FailureRateOver, SlowRate
}

func newBook(rules []Rule, now int64, clock *vclock.Clock) *book {
	all := make([]tally, len(rules))
	flag := uint64(slowFlag)
	for i := range rules {
		r := &rules[i]
		all[i].Rule = r
		switch r.kind {
		case rate:
			all[i].last = window.NewLast(r.calls, r.failures())
		case slowRate:
			all[i].flag = flag
			flag <<= 1
			fallthrough
		case rateOver:
			all[i].over = window.NewOver(int64(r.span), now, clock)
		}
	}
	return &book{tallies: all}
}

// A match is what causes a transition: a rule that holds, with what it counted, or
// something else by its name.
type match struct {
	rule  string
	hits  int           // calls that failed, or were slow
	calls int           // of so many, 0 if hits are in a row
	slow  bool          // hits were slow
	span  time.Duration // in which the hits came
	err   error         // the last that had a part in it
	text  string        // of err
}

// String says what was counted, for people.
func (m match) String() string {
	if m.hits == 0 {
		return m.rule
	}
	return m.rule + ": " + m.counted()
}

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

// add counts a call with that token, which ended at the time now, and returns what
// the rule has counted with it and whether it holds. run and span are the failures
// in a row, with this one, and the time from the first to the last of them; of a
// call that did not fail both are 0. FailureRate is asked only about failures.
func (t *tally) add(now int64, token uint64, failed bool, run int, span time.Duration) (m match, holds bool) {
	switch t.kind {
	case silence:
		m.hits, m.span = run, span
		holds = run >= t.calls && span >= t.span
	case rate:
		m.hits = t.failures()
		m.calls, m.span, holds = t.last.Fail(now)
	default:
		hit := failed
		if m.slow = t.kind == slowRate; m.slow {
			hit = token&t.flag != 0
		}
		m.span = t.span
		m.hits, m.calls = t.over.Add(now, hit)
		holds = m.calls >= t.calls && 100*int64(m.hits) >= int64(t.percent)*int64(m.calls)
	}
	if holds {
		m.rule = t.String()
	}
	return m, holds
}

// count returns what the rule has counted by now, given the failures in a row, and
// the time in which the hits came.
func (t *tally) count(now int64, run int, span time.Duration) (hits, calls int, in time.Duration) {
	switch t.kind {
	case silence:
		return run, 0, span
	case rate:
		hits, calls, in, _ = t.last.Count(now)
		return hits, calls, in
	default:
		hits, calls = t.over.Count(now)
		return hits, calls, t.span
	}
}

// near reports whether the rule is more than half of the way to holding.
func (t *tally) near(now int64, run int, span time.Duration) bool {
	switch t.kind {
	case silence:
		return 2*run > t.calls && span < max(idleAfter, 2*t.span)
	case rate:
		hits, _, _, quiet := t.last.Count(now)
		return 2*hits > t.failures() && quiet < idleAfter
	default:
		hits, calls := t.over.Count(now)
		return 2*calls > t.calls && 200*int64(hits) > int64(t.percent)*int64(calls)
	}
}
