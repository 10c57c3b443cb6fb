package debug

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// The size of a strip of states, in units of its SVG. Each span has a least width, so
// that a state of 50 ms can be seen beside one of hours.
const (
	stripWidth, stripHeight = 600.0, 24.0
	leastWidth              = 8.0
)

// strip shows the states of a policy over time.
type strip struct {
	Label string
	Spans []span
}

// span is one state for some time. The height tells the states apart too.
type span struct {
	X, Y, Width, Height float64
	State, Class, Title string

	from, to time.Time
}

// Strip returns the states since the first change that the policy remembers, nil if there
// is none.
func (c *card) Strip() *strip {
	if len(c.History) == 0 {
		return nil
	}
	first := c.History[0]
	spans := []span{{
		State: first.From, from: first.Time.Time, to: first.Time.Time,
		Title: fmt.Sprintf("%s before %v", first.From, first.Time),
	}}
	for i, s := range c.History {
		until := c.now
		if i+1 < len(c.History) {
			until = c.History[i+1].Time.Time
		}
		spans = append(spans, span{
			State: s.To, from: s.Time.Time, to: until,
			Title: fmt.Sprintf("%s from %v, for %v: %s", s.To, s.Time, seconds(elapsed(s.Time.Time, until)), s.Text()),
		})
	}
	c.layOut(spans)
	return &strip{Label: "States since " + first.Time.String() + ": " + sequence(spans), Spans: spans}
}

// layOut gives each span its least width and a share of the rest by its time. Spans that
// all last for no time are equally wide.
func (c *card) layOut(spans []span) {
	var total float64
	for _, s := range spans {
		total += elapsed(s.from, s.to).Seconds()
	}
	rest := stripWidth - leastWidth*float64(len(spans))
	x, classes := 0.0, c.looks()
	for i := range spans {
		s := &spans[i]
		s.X, s.Width = x, leastWidth+rest/float64(len(spans))
		if total > 0 {
			s.Width = leastWidth + rest*elapsed(s.from, s.to).Seconds()/total
		}
		s.Class = classes[s.State]
		s.Height = heights[s.Class]
		s.Y = stripHeight - s.Height
		x += s.Width
	}
}

// heights are the heights of the classes in a strip.
var heights = map[string]float64{"good": 4, "half": 14, "bad": stripHeight}

// looks returns the class of each state in the history. The present state looks as on the
// rest of the card, and a past one by the urgency in its latest step.
func (c *card) looks() map[string]string {
	classes := map[string]string{}
	for _, s := range c.History {
		switch {
		case s.level >= slog.LevelWarn:
			classes[s.To] = "bad"
		case s.level < slog.LevelInfo:
			classes[s.To] = "good"
		default:
			classes[s.To] = "half"
		}
	}
	classes[c.State] = c.Icon()
	if first := c.History[0].From; classes[first] == "" {
		classes[first] = "good" // no step leads back to it: the state that the policy began in
	}
	return classes
}

func sequence(spans []span) string {
	names := make([]string, len(spans))
	for i, s := range spans {
		names[i] = s.State
	}
	return strings.Join(names, ", ")
}
