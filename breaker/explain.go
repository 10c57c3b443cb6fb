package breaker

import (
	"fmt"
	"strings"
	"time"

	"github.com/resilience-go/resilience/internal/describe"
)

// when is how times are written for people.
const when = "2006-01-02 15:04:05.000 MST"

// Why says, for people, what brought the breaker into its state.
func (x Explanation) Why() string {
	if len(x.History) == 0 {
		return "it has never opened"
	}
	last := x.History[len(x.History)-1]
	why := last.Reason()
	if last.Error != "" {
		why += ", after: " + last.Error
	}
	if last.To == Open && x.Stats.State == HalfOpen {
		why = openTimeOver + ", which began with " + why
	}
	return why
}

// Next says, for people, what the breaker does with calls and what changes that.
func (x Explanation) Next() string {
	s := &x.Stats
	switch s.Mode {
	case ForcedOpen:
		return "rejects every call until SetMode says otherwise"
	case Disabled:
		return "admits every call and learns nothing from it until SetMode says otherwise"
	}
	var next string
	switch s.State {
	case Closed:
		next = x.untilOpen()
	case Open:
		next = fmt.Sprintf("rejects every call until %s, in %v; the first call after that is the probe",
			s.RetryAt.Format(when), max(0, s.RetryAt.Sub(x.Time)).Round(time.Millisecond))
	default:
		next = x.untilClosed()
	}
	if s.Mode == MetricsOnly && s.State != Closed {
		next += "; in MetricsOnly it admits all the same what it would reject"
	}
	return next
}

func (x Explanation) untilOpen() string {
	var s strings.Builder
	s.WriteString("admits every call; opens on ")
	for i, r := range x.Rules {
		if i > 0 {
			s.WriteString(" or ")
		}
		if r.Calls == 0 && r.Rule.kind == silence {
			fmt.Fprintf(&s, "%s: %d in a row by now", r.Rule, r.Hits)
		} else {
			fmt.Fprintf(&s, "%s: %d of %d by now", r.Rule, r.Hits, r.Calls)
		}
	}
	return s.String()
}

func (x Explanation) untilClosed() string {
	s := &x.Stats
	if s.InFlight == 0 && s.Credit == 1 {
		return "the next call is the probe"
	}
	return fmt.Sprintf("admits %d at a time, %d in flight; closes at %s more than failures, opens when failures use up the credit",
		s.Credit, s.InFlight, describe.Count(x.closeAfter+1-s.Credit, "success"))
}

// String says it all, in several lines: the text may change.
func (x Explanation) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s%s since %s", describe.Policy(policy, x.Name, x.Key), x.Stats.State, x.Stats.Since.Format(when))
	if x.Stats.Mode != Auto {
		fmt.Fprintf(&s, ", in %s", x.Stats.Mode)
	}
	fmt.Fprintf(&s, "\nwhy:  %s\nnext: %s\n", x.Why(), x.Next())
	if len(x.History) > 0 {
		s.WriteString("history:\n")
	}
	for _, t := range x.History {
		fmt.Fprintf(&s, "  %s  %s\n", t.Time.Format(when), t)
	}
	return strings.TrimSuffix(s.String(), "\n")
}
