package debug

import (
	"fmt"
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
	x := 0.0
	for i := range spans {
		s := &spans[i]
		s.X, s.Width = x, leastWidth+rest/float64(len(spans))
		if total > 0 {
			s.Width = leastWidth + rest*elapsed(s.from, s.to).Seconds()/total
		}
		s.Class, s.Height = c.look(s.State)
		s.Y = stripHeight - s.Height
		x += s.Width
	}
}

// heights are the heights of the classes in a strip.
var heights = map[string]float64{"good": 4, "half": 14, "bad": stripHeight}

// look returns the class and the height of a state. The present state looks as on the rest
// of the card. Past states of other modules are half as high as the strip, because a
// report does not say whether they needed attention.
func (c *card) look(state string) (class string, height float64) {
	switch state {
	case c.State:
		class = c.Icon()
	case "CLOSED", "NORMAL":
		class = "good"
	case "OPEN", "OVERLOAD":
		class = "bad"
	default:
		class = "half"
	}
	return class, heights[class]
}

func sequence(spans []span) string {
	names := make([]string, len(spans))
	for i, s := range spans {
		names[i] = s.State
	}
	return strings.Join(names, ", ")
}
