package breaker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/internal/vclock"
)

// An Explanation says why a breaker is in its state and what happens next. All of it
// is from one moment, except the counters in Stats, which may be newer.
type Explanation struct {
	Name, Key string    // as in a resilience.Rejection
	Time      time.Time // of the explanation, by the clock of the breaker
	Stats     Stats
	Rules     []RuleStats // as Breaker.Rules returns them
	// History has the last transitions, at most 16, the oldest first.
	History []Transition
	// Began is the transition by which a rule opened the breaker, however many
	// transitions came after it. It is zero if the breaker has closed since.
	Began Transition

	closeAfter int
	under      State // ForcedOpen, Disabled: the state that resumes after them
}

// Why returns, as text, what brought the breaker into its state.
func (x Explanation) Why() string {
	if m := x.Stats.Mode; m == ForcedOpen || m == Disabled {
		return setModeTo(m)
	}
	if len(x.History) == 0 {
		return "it has never opened"
	}
	last := x.History[len(x.History)-1]
	why, newer := last.reasonAndError(), false
	if last.To == Open && x.Stats.State == HalfOpen { // and no call has been made since
		why, newer = CauseOpenTimeOver, true
	}
	if x.Stats.State == Closed || x.Began.Time.IsZero() || last == x.Began && !newer {
		return why
	}
	return fmt.Sprintf("%s; it opened %v ago on %s", why, rounded(vclock.Age(x.Began.Time, x.Time)), x.Began.reasonAndError())
}

// Next returns, as text, what the breaker does with calls and what changes that.
func (x Explanation) Next() string {
	s := &x.Stats
	switch s.Mode {
	case ForcedOpen:
		return fmt.Sprintf("rejects every call until SetMode(Auto), which resumes %s", x.under)
	case Disabled:
		return fmt.Sprintf("admits every call and counts no failures until SetMode(Auto), which resumes %s", x.under)
	}
	admits, rejects, but := "admits", "rejects", ""
	if s.Mode == MetricsOnly {
		admits, rejects, but = "would admit", "would reject", "; MetricsOnly admits them"
	}
	switch {
	case s.State == Closed:
		return "admits every call; opens on " + x.counts()
	case s.State == Open:
		return fmt.Sprintf("%s every call for another %v%s; the next call after that is the probe",
			rejects, rounded(max(0, s.RetryAt.Sub(x.Time))), but)
	case s.Credit == 1 && s.InFlight == 0:
		return fmt.Sprintf("%s the next call as the probe and %s others until it has ended%s", admits, rejects, but)
	}
	opens := fmt.Sprintf("failures that use up the credit of %d open it", s.Credit)
	if len(x.Rules) > 0 {
		opens = "opens on " + x.counts()
	}
	if slices.ContainsFunc(x.Rules, func(r RuleStats) bool { _, ok := r.Rule.(Silence); return ok }) {
		opens += fmt.Sprintf("; without its Span, if %d or more failed in a row and the last timed out", s.Credit)
	}
	return fmt.Sprintf("%s %s at a time, of which %d in flight, and %s others%s; %s, %s",
		admits, policykit.Count(s.Credit, "call"), s.InFlight, rejects, but, x.untilClosed(), opens)
}

// counts returns the rules and their counts as text.
func (x Explanation) counts() string {
	var s strings.Builder
	for i, r := range x.Rules {
		if i > 0 {
			s.WriteString(" or ")
		}
		fmt.Fprintf(&s, "%s (%s)", r.Rule, r.counted())
	}
	return s.String()
}

// counted returns the counts as text.
func (r RuleStats) counted() string {
	isSlow := false
	switch r.Rule.(type) {
	case Slow:
		isSlow = true
	case Rate:
	default:
		return match{hits: r.Hits}.counted() + " so far"
	}
	if r.Calls == 0 {
		return "no calls so far"
	}
	return match{hits: r.Hits, calls: r.Calls, slow: isSlow}.counted() + " so far"
}

func (x Explanation) untilClosed() string {
	if n := x.closeAfter + 1 - x.Stats.Credit; n != 1 {
		return fmt.Sprintf("%d more successes close it", n)
	}
	return "1 more success closes it"
}

// since returns the time of the last change of the state. SetMode may have been called
// since.
func (x Explanation) since() time.Time {
	if m := x.Stats.Mode; len(x.History) > 0 && (m == Auto || m == MetricsOnly) {
		if last := x.History[len(x.History)-1]; last.To == x.Stats.State {
			return last.Time
		}
	}
	return x.Stats.Since
}

// String returns the whole explanation in several lines. The text may change.
func (x Explanation) String() string {
	var s strings.Builder
	since := x.since()
	fmt.Fprintf(&s, "%s%s for %v, since %s", policykit.Describe(policy, x.Name, x.Key), x.Stats.State,
		rounded(vclock.Age(since, x.Time)), policykit.FormatTime(since))
	if x.Stats.Mode != Auto {
		fmt.Fprintf(&s, ", in %s", x.Stats.Mode)
	}
	fmt.Fprintf(&s, "\nwhy:  %s\nnext: %s\n", x.Why(), x.Next())
	if len(x.History) > 0 {
		s.WriteString("history:\n")
	}
	for _, t := range x.History {
		fmt.Fprintf(&s, "  %s  %s\n", policykit.FormatTime(t.Time), t)
	}
	return strings.TrimSuffix(s.String(), "\n")
}

// rounded returns d with about three digits.
func rounded(d time.Duration) time.Duration {
	unit := time.Microsecond
	switch {
	case d >= time.Hour:
		unit = time.Minute
	case d >= time.Minute:
		unit = time.Second
	case d >= 10*time.Second:
		unit = 100 * time.Millisecond
	case d >= time.Second:
		unit = 10 * time.Millisecond
	case d >= 10*time.Millisecond:
		unit = time.Millisecond
	}
	return d.Round(unit)
}
