package breaker

import (
	"fmt"
	"strings"
	"time"

	"github.com/resilience-go/resilience/internal/describe"
)

// Why says, for people, what brought the breaker into its state.
func (x Explanation) Why() string {
	if m := x.Stats.Mode; m == ForcedOpen || m == Disabled {
		return setMode + "(" + m.String() + ")"
	}
	if len(x.History) == 0 {
		return "it has never opened"
	}
	last := x.History[len(x.History)-1]
	why := last.cause()
	if last.To == Open && x.Stats.State == HalfOpen { // and no call has come since
		why = openTimeOver
	}
	if x.Stats.State == Closed || x.Began.Time.IsZero() || last == x.Began && why == last.cause() {
		return why
	}
	return fmt.Sprintf("%s; not CLOSED since %s, when it opened on %s", why, describe.Time(x.Began.Time), x.Began.cause())
}

// cause is the reason of t with the error.
func (t Transition) cause() string {
	if t.Error == "" {
		return t.Reason()
	}
	return t.Reason() + ", after: " + t.Error
}

// Next says, for people, what the breaker does with calls and what changes that.
func (x Explanation) Next() string {
	s := &x.Stats
	switch s.Mode {
	case ForcedOpen:
		return fmt.Sprintf("rejects every call until SetMode says otherwise; underneath it is %s", x.under)
	case Disabled:
		return fmt.Sprintf("admits every call and learns nothing from it until SetMode says otherwise; underneath it is %s", x.under)
	}
	admits, rejects, but := "admits", "rejects", ""
	if s.Mode == MetricsOnly {
		admits, rejects, but = "would admit", "would reject", "; MetricsOnly admits them all the same"
	}
	switch {
	case s.State == Closed:
		return x.untilOpen()
	case s.State == Open:
		return fmt.Sprintf("%s every call until %s, in %v; the first one after that is the probe%s",
			rejects, describe.Time(s.RetryAt), rounded(max(0, s.RetryAt.Sub(x.Time))), but)
	case s.Credit == 1 && s.InFlight == 0:
		return fmt.Sprintf("%s the next call, the probe, and %s others until it has ended%s", admits, rejects, but)
	}
	return fmt.Sprintf("%s %s at a time, of which %d in flight, and %s others%s; %s, failures that use up the credit of %d open it",
		admits, describe.Count(s.Credit, "call"), s.InFlight, rejects, but, x.untilClosed(), s.Credit)
}

func (x Explanation) untilOpen() string {
	var s strings.Builder
	s.WriteString("admits every call; opens on ")
	for i, r := range x.Rules {
		if i > 0 {
			s.WriteString(" or ")
		}
		m := match{hits: r.Hits, calls: r.Calls, slow: r.Rule.kind == slowRate}
		if r.Calls == 0 && r.Rule.kind != silence {
			fmt.Fprintf(&s, "%s (no calls by now)", r.Rule)
		} else {
			fmt.Fprintf(&s, "%s (%s by now)", r.Rule, m.counted())
		}
	}
	return s.String()
}

func (x Explanation) untilClosed() string {
	if n := x.closeAfter + 1 - x.Stats.Credit; n != 1 {
		return fmt.Sprintf("%d more successes close it", n)
	}
	return "1 more success closes it"
}

// rounded is d as people like to read it.
func rounded(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

// since is when the state that the breaker is in began, whatever SetMode did within it.
func (x Explanation) since() time.Time {
	if m := x.Stats.Mode; len(x.History) > 0 && (m == Auto || m == MetricsOnly) {
		if last := x.History[len(x.History)-1]; last.To == x.Stats.State {
			return last.Time
		}
	}
	return x.Stats.Since
}

// String says it all, in several lines: the text may change.
func (x Explanation) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s%s since %s", describe.Policy(policy, x.Name, x.Key), x.Stats.State, describe.Time(x.since()))
	if x.Stats.Mode != Auto {
		fmt.Fprintf(&s, ", in %s", x.Stats.Mode)
	}
	fmt.Fprintf(&s, "\nwhy:  %s\nnext: %s\n", x.Why(), x.Next())
	if len(x.History) > 0 {
		s.WriteString("history:\n")
	}
	for _, t := range x.History {
		fmt.Fprintf(&s, "  %s  %s\n", describe.Time(t.Time), t)
	}
	return strings.TrimSuffix(s.String(), "\n")
}
