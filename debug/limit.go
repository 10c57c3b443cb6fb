package debug

import (
	"fmt"

	"github.com/resilience-go/resilience/internal/describe"
	"github.com/resilience-go/resilience/limit"
)

// What states of a limit are called in events.
const (
	normal   = "NORMAL"
	overload = "OVERLOAD"
)

// limitView is what is shown of a limit. One that keys are forked from has no State, no
// Limit and no Knee, and one of a key no Calls.
type limitView struct {
	common
	State    string      `json:"state,omitempty"`
	InFlight int         `json:"in_flight"`
	Limit    int         `json:"limit,omitempty"`
	Knee     float64     `json:"knee,omitempty"` // 0 if no test has found it yet
	Waiting  int         `json:"waiting"`
	Calls    *limitCalls `json:"calls,omitempty"`
}

// limitCalls is what a limit has counted, with its forks. In shadow mode what is
// Rejected has been handled as well.
type limitCalls struct {
	Useful    uint64  `json:"useful"`
	Gone      uint64  `json:"gone"`
	Canceled  uint64  `json:"canceled"`
	Rejected  reasons `json:"rejected"`
	Tests     reasons `json:"tests"`
	Overloads uint64  `json:"overloads"`
}

// readLimit reads l, which the keys of the group called of are forked from unless that
// is nil.
func readLimit(l *limit.Limit, of *string) *limitView {
	s := l.Stats()
	v := &limitView{
		common: common{Kind: "limit", Name: clip(l.Name()), Group: of},
		State:  normal, InFlight: s.InFlight, Limit: s.Limit, Knee: s.Knee, Waiting: s.Queued,
		Calls: &limitCalls{
			Useful: s.Useful, Gone: s.Abandoned, Canceled: s.Canceled, Overloads: s.Overloads,
			Rejected: reasons{{"shed", "shed", s.Shed}, {"queue_full", "queue full", s.QueueFull}},
			Tests: reasons{
				{"raised", "raised", s.Trials.Raised}, {"not_raised", "not raised", s.Trials.NotRaised},
				{"lowered", "lowered", s.Trials.Lowered}, {"not_lowered", "not lowered", s.Trials.NotLowered},
				{"abandoned", "abandoned", s.Trials.Inconclusive},
			},
		},
	}
	if s.Overload {
		v.State = overload
	}
	if of != nil { // each key has its own
		v.State, v.Limit, v.Knee = "", 0, 0
	}
	return v
}

// Overloaded reports whether it has proof of an overload.
func (v *limitView) Overloaded() bool { return v.State == overload }

// Measured is the knee for people, "" if there is none yet.
func (v *limitView) Measured() string {
	if v.Knee == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", v.Knee)
}

// Began says how often an overload has.
func (c *limitCalls) Began() string {
	if c.Overloads == 0 {
		return ""
	}
	return describe.Count(int(c.Overloads), "overload") + " so far"
}

// eachLimit calls do with the limits that have a state, those of keys included.
func (p *page) eachLimit(do func(*limitView)) {
	for _, l := range p.Limits {
		if l.State != "" {
			do(l)
		}
	}
	for _, g := range p.Groups {
		for _, k := range g.Keys {
			for _, l := range k.Limits {
				do(l)
			}
		}
	}
}

// limits counts the limits and adds to the text what it says of them: of those in an
// overload always, of others if there is nothing else to say.
func (s *summary) limits(p *page) {
	p.eachLimit(func(l *limitView) {
		s.Limits++
		if l.Overloaded() {
			s.Overloaded++
		}
	})
	var text string
	switch {
	case s.Overloaded == 1:
		text = fmt.Sprintf("1 of %s is in %s", describe.Count(s.Limits, "limit"), overload)
	case s.Overloaded > 1:
		text = fmt.Sprintf("%d of %d limits are in %s", s.Overloaded, s.Limits, overload)
	case s.Limits == 1:
		text = "The limit is " + normal
	case s.Limits > 1:
		text = fmt.Sprintf("All %d limits are %s", s.Limits, normal)
	}
	switch {
	case s.Breakers == 0 && s.Limits > 0:
		s.Text = text
	case s.Overloaded > 0:
		s.Text += "; " + text
	}
}
