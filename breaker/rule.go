package breaker

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience/internal/policykit"
)

// A Rule is a condition that opens a closed breaker: a Silence, a Consecutive, a
// Rate or a Slow. If every rule of a breaker is a Silence or a Consecutive, each of them
// opens HALF_OPEN too, after its first success. Only this package implements Rule.
type Rule interface {
	// String returns the rule as a Go literal, without the name of the package.
	String() string
	isRule()
}

// Silence opens the breaker when Failures calls in a row have failed and the last of
// them ended at least Span after the first. Any success starts the count again. So do ten
// seconds without a further failure, not counting the time of calls in flight. So a process
// that makes less than one call in ten seconds never opens its breaker by Silence.
//
// Silence{Failures: 7, Span: time.Second} is the default. In simulation it never
// opened while half of 50 calls a second failed. With fewer than about ten calls in a
// Span, random failures can open it, and it then stays open for about 50 ms.
type Silence struct {
	Failures int           // 1 to 65535
	Span     time.Duration // counted in microseconds
}

// Consecutive opens the breaker when Failures calls in a row have failed, however
// quickly. The count starts again as in a Silence.
type Consecutive struct {
	Failures int // 1 to 65535
}

// Rate opens the breaker when the share of failures reaches Failures/Of.
//
//	Rate{Failures: 50, Of: 100}                        // 50 of the last 100 calls
//	Rate{Failures: 2, Of: 3}                           // 2 of the last 3 calls
//	Rate{Failures: 6, Of: 10, Over: 10*time.Second}    // 60 % of the last 10 s
//
// Without Over, Rate looks at the last Of calls. It does not wait until Of calls
// have been made: the failure that makes Failures of them opens the breaker.
//
// With Over, Rate looks at all calls of that time up to now, which moves on in
// tenths. It opens the breaker only if there are at least AtLeast calls.
//
// Rate needs Config.OpenFor: the default open time follows a silence, and a rate
// measures none.
type Rate struct {
	Failures int           // 1 to Of
	Of       int           // 1 to 10000
	Over     time.Duration // 10 ms to 24 h; 0 looks at the last Of calls
	AtLeast  int           // calls in Over; the default is Of
}

// Slow opens the breaker when the share of slow calls in the time Over reaches
// Calls/Of and there are at least AtLeast calls. Failures can be slow too.
//
// The duration of a call ends when the operation returns: for HTTP, when the response
// headers arrive. In HALF_OPEN a slow call counts as a failure.
//
// A breaker can have at most four Slow rules. Slow needs Config.OpenFor, as Rate does.
// If every call succeeded, Rejection.Cause and Gauges.LastError are nil; the counts
// are in Rejection.Detail.
type Slow struct {
	LongerThan time.Duration // the duration above which a call is slow
	Calls      int           // 1 to Of
	Of         int           // 1 to 10000
	Over       time.Duration // 10 ms to 24 h
	AtLeast    int           // calls in Over; the default is Of
}

func (Silence) isRule()     {}
func (Consecutive) isRule() {}
func (Rate) isRule()        {}
func (Slow) isRule()        {}

// String implements Rule.
func (r Silence) String() string {
	return literal("Silence", field("Failures", r.Failures), field("Span", r.Span))
}

// String implements Rule.
func (r Consecutive) String() string {
	return literal("Consecutive", field("Failures", r.Failures))
}

// String implements Rule.
func (r Rate) String() string {
	return literal("Rate", field("Failures", r.Failures), field("Of", r.Of), field("Over", r.Over), field("AtLeast", r.AtLeast))
}

// String implements Rule.
func (r Slow) String() string {
	return literal("Slow", field("LongerThan", r.LongerThan), field("Calls", r.Calls), field("Of", r.Of), field("Over", r.Over), field("AtLeast", r.AtLeast))
}

// literal returns a struct literal of those fields that are not empty.
func literal(name string, fields ...string) string {
	set := fields[:0]
	for _, f := range fields {
		if f != "" {
			set = append(set, f)
		}
	}
	return name + "{" + strings.Join(set, ", ") + "}"
}

// field returns a field of a struct literal, or "" if v is zero.
func field[T int | time.Duration](name string, v T) string {
	if v == 0 {
		return ""
	}
	if d, ok := any(v).(time.Duration); ok {
		return name + ": " + goDuration(d)
	}
	return fmt.Sprintf("%s: %d", name, v)
}

// goDuration returns d as a Go expression in the largest unit that divides it.
func goDuration(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{
		{time.Hour, "time.Hour"}, {time.Minute, "time.Minute"}, {time.Second, "time.Second"},
		{time.Millisecond, "time.Millisecond"}, {time.Microsecond, "time.Microsecond"},
	} {
		switch n := d / u.unit; {
		case d%u.unit != 0:
		case n == 1:
			return u.name
		default:
			return fmt.Sprintf("%d*%s", n, u.name)
		}
	}
	return fmt.Sprintf("%d*time.Nanosecond", d)
}

const (
	// maxRun is how many failures in a row an episode can count.
	maxRun = 1<<runBits - 1
	// maxOf bounds Rate.Of and Slow.Of: each failure of a Rate without Over looks at
	// all the others that are among the last Of calls.
	maxOf = 10_000
	// minWindow and maxWindow bound Over: a tenth of a window is at least a millisecond
	// and the number of a tenth does not wrap.
	minWindow = 10 * time.Millisecond
	maxWindow = 24 * time.Hour
)

// A rule is a Rule with its defaults filled in, in the form that calls evaluate.
type rule struct {
	Rule
	text    string // Rule.String()
	kind    kind
	hits    int           // failures in a row, or failures or slow calls among of
	of      int           // rate, rateOver, slow
	atLeast int           // rateOver, slow: calls in the window
	span    time.Duration // of a silence, or the window
	slower  time.Duration // slow: the duration above which a call is slow
}

type kind uint8

const (
	silence  kind = iota + 1 // Silence and Consecutive
	rate                     // Rate without Over
	rateOver                 // Rate with Over
	slow
)

// compile returns r in the form that calls evaluate, or an error whose text follows
// the name of the field that holds r.
func compile(r Rule) (c rule, err error) {
	switch r := r.(type) {
	case Silence:
		c = rule{kind: silence, hits: r.Failures, span: r.Span}
		err = cmp.Or(
			within("Failures", r.Failures, maxRun, ""),
			positive("Span", r.Span, "for failures in a row however quickly, use Consecutive"))
	case Consecutive:
		c = rule{kind: silence, hits: r.Failures}
		err = within("Failures", r.Failures, maxRun, "")
	case Rate:
		c = rule{kind: rate, hits: r.Failures, of: r.Of, atLeast: r.AtLeast, span: r.Over}
		err = cmp.Or(
			within("Of", r.Of, maxOf, ""),
			within("Failures", r.Failures, r.Of, ", which is Of"))
		if r.Over == 0 && r.AtLeast != 0 && err == nil {
			err = fmt.Errorf("AtLeast is %d without Over: set Over, or leave AtLeast out", r.AtLeast)
		}
		if r.Over != 0 {
			c.kind = rateOver
			err = cmp.Or(err, c.checkWindow())
		}
	case Slow:
		c = rule{kind: slow, hits: r.Calls, of: r.Of, atLeast: r.AtLeast, span: r.Over, slower: r.LongerThan}
		err = cmp.Or(
			positive("LongerThan", r.LongerThan, "a call is slow if it takes longer"),
			within("Of", r.Of, maxOf, ""),
			within("Calls", r.Calls, r.Of, ", which is Of"),
			c.checkWindow())
	default: // nil, a pointer to a rule, or a type that embeds one
		return c, fmt.Errorf("is a %T: must be a value of type breaker.Silence, Consecutive, Rate or Slow", r)
	}
	if c.atLeast == 0 {
		c.atLeast = c.of
	}
	c.Rule, c.text = r, r.String()
	if err != nil {
		err = fmt.Errorf("is %s: %w", c.text, err)
	}
	return c, err
}

// checkWindow returns an error if the window of a Rate or Slow is out of its bounds.
func (r *rule) checkWindow() error {
	if r.span < minWindow || r.span > maxWindow {
		return fmt.Errorf("%s is %v: must be %v to %d h", "Over", r.span, minWindow, maxWindow/time.Hour)
	}
	if r.atLeast < 0 {
		return fmt.Errorf("AtLeast is %d: must be at least 1, or 0 for Of", r.atLeast)
	}
	return nil
}

// checkUnits returns an error if a duration of the rule has probably no unit.
func (r *rule) checkUnits(name, at string, c clock.Clock) error {
	span := "Span"
	if r.kind != silence {
		span = "Over"
	}
	return cmp.Or(
		policykit.CheckDuration(policy, name, at+"."+span, r.span, c),
		policykit.CheckDuration(policy, name, at+".LongerThan", r.slower, c))
}

// within returns an error unless n is 1 to most.
func within(field string, n, most int, which string) error {
	if n >= 1 && n <= most {
		return nil
	}
	return fmt.Errorf("%s is %d: must be 1 to %d%s", field, n, most, which)
}

// positive returns an error unless d is positive.
func positive(field string, d time.Duration, why string) error {
	if d > 0 {
		return nil
	}
	return fmt.Errorf("%s is %v: must be positive; %s", field, d, why)
}

// needsOpenFor reports whether the rule measures no silence that OPEN could follow.
func (r *rule) needsOpenFor() bool { return r.kind != silence }

// reached reports whether hits among calls are at least the share of the rule. The
// numbers are integers, so that the threshold is exact.
func (r *rule) reached(hits, calls int) bool {
	return int64(hits)*int64(r.of) >= int64(r.hits)*int64(calls)
}
