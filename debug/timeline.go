package debug

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The strip of states is so wide and high, and each span at least so wide, or what
// lasts for 50 ms would not be seen beside what lasts for hours.
const (
	stripWidth, stripHeight = 600.0, 24.0
	leastWidth              = 8.0
)

// strip is the states of a breaker over time.
type strip struct {
	Label string
	Spans []span
}

// span is one state for some time. The height of a state tells it apart too.
type span struct {
	X, Y, Width, Height float64
	State, Title        string

	from, to time.Time
}

var heights = map[string]float64{closed: 4, halfOpen: 14, open: stripHeight}

// Strip returns the states since before the first transition that the breaker
// remembers, nil if it has made none.
func (s *standing) Strip() *strip {
	if len(s.History) == 0 {
		return nil
	}
	first := s.History[0]
	spans := []span{{
		State: first.From, from: first.Time.Time, to: first.Time.Time,
		Title: fmt.Sprintf("%s before %v", first.From, first.Time),
	}}
	for i, t := range s.History {
		until := s.now
		if i+1 < len(s.History) {
			until = s.History[i+1].Time.Time
		}
		if over := t.Time.Add(time.Duration(t.OpenFor)); i+1 == len(s.History) && t.To == open && s.State == halfOpen {
			spans = append(spans, newSpan(open, t, over))
			t = step{Time: stamp{over}, To: halfOpen, Reason: "open time is over"}
		}
		spans = append(spans, newSpan(t.To, t, until))
	}
	layOut(spans)
	return &strip{
		Label: "States since " + first.Time.String() + ": " + sequence(spans),
		Spans: spans,
	}
}

func newSpan(state string, t step, until time.Time) span {
	return span{
		State: state, from: t.Time.Time, to: until,
		Title: fmt.Sprintf("%s from %v, for %v: %s", state, t.Time, seconds(max(0, until.Sub(t.Time.Time))), t.Reason),
	}
}

// layOut gives each span its least width and a share of the rest by its time. A clock
// that was set back has spans that last for less than nothing.
func layOut(spans []span) {
	var total float64
	for _, s := range spans {
		total += max(0, s.to.Sub(s.from).Seconds())
	}
	rest := stripWidth - leastWidth*float64(len(spans))
	x := 0.0
	for i := range spans {
		s := &spans[i]
		s.X, s.Width = x, leastWidth
		if total > 0 {
			s.Width += rest * max(0, s.to.Sub(s.from).Seconds()) / total
		}
		s.Height = heights[s.State]
		s.Y = stripHeight - s.Height
		x += s.Width
	}
}

func sequence(spans []span) string {
	names := make([]string, len(spans))
	for i, s := range spans {
		names[i] = s.State
	}
	return strings.Join(names, ", ")
}

// Outage is how long ago a rule opened it, 0 if it has closed since or that is what
// Since says.
func (s *standing) Outage() seconds {
	if s.Began == nil || s.Began.Time.Equal(s.Since.Time) {
		return 0
	}
	return seconds(max(0, s.now.Sub(s.Began.Time.Time)))
}

// Latest is the history with the latest transition first.
func (s *standing) Latest() []step {
	latest := slices.Clone(s.History)
	slices.Reverse(latest)
	return latest
}
