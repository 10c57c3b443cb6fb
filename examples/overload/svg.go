package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

const (
	chartWidth  = 760
	chartHeight = 440
	plotLeft    = 76
	plotRight   = 728
	plotTop     = 120
	plotBottom  = 372
	plotMax     = 1.2 // of the capacity
)

// line is how an arm is drawn.
type line struct {
	arm           arm
	colour, style string
	what          string
}

var lines = []line{
	{limited, "#0b5cad", demo.GuardedLine, "with limit: the default stack for servers"},
	{bare, "#b83d07", demo.BareLine, "bare: only the handler"},
}

// chart draws the goodput of both arms against the load.
func chart(r result) []byte {
	c := &canvas{demo.NewCanvas(chartWidth, chartHeight, summaryOf(r)), 1}
	for _, p := range r.Phases {
		c.most = max(c.most, p.Times)
	}
	c.Text(plotLeft, 30, "start", 18, demo.Ink, "More is asked of a service than it can do. What does it still do?")
	under := fmt.Sprintf("Answers within %v, of %v of work each, on one core, measured over real HTTP", r.Plan.Patience, r.Plan.Work)
	if !r.valid() {
		under = "This run is void: something disturbed it"
	}
	c.Text(plotLeft, 52, "start", 13, demo.Faint, under)
	c.Legend(plotLeft, 76, demo.Key{Style: lines[0].style, What: lines[0].what}, demo.Key{Style: lines[1].style, What: lines[1].what})
	c.axes(r)
	for i := len(lines) - 1; i >= 0; i-- {
		c.line(r, lines[i])
	}
	return c.Finish()
}

// summaryOf is the text that a screen reader reads aloud instead of the chart.
func summaryOf(r result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Goodput of a service with a capacity of %.0f requests/s.", r.capacity())
	for _, p := range r.Phases {
		fmt.Fprintf(&b, " %.1f times that, %s: %.0f %% of it, p99 %s.", p.Times, p.service(), 100*r.ofCapacity(p), latency(p.P99))
	}
	return b.String()
}

type canvas struct {
	*demo.Canvas
	most float64 // load at the right edge, nearly
}

func (c *canvas) x(load float64) float64 {
	return plotLeft + load/(c.most*1.12)*(plotRight-plotLeft)
}

// y stays on the plot, whatever was measured.
func (c *canvas) y(share float64) float64 {
	return plotBottom - min(max(share, 0), plotMax)/plotMax*(plotBottom-plotTop)
}

func (c *canvas) axes(r result) {
	c.Printf(`<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+"\n", plotLeft, plotTop, plotRight-plotLeft, plotBottom-plotTop, demo.Shade)
	for i := range 5 {
		y := c.y(float64(i) / 4)
		c.Printf(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s"/>`+"\n", plotLeft, y, plotRight, y, demo.Grid)
		c.Text(plotLeft-8, y+4, "end", 12, demo.Faint, fmt.Sprintf("%d %%", 25*i))
	}
	c.Printf(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s" stroke-width="1.5" stroke-dasharray="2 3"/>`+"\n", plotLeft, c.y(1), plotRight, c.y(1), demo.Ink)
	c.Text(plotLeft+8, plotTop+30, "start", 12, demo.Ink, fmt.Sprintf("capacity: %.0f requests/s", r.capacity()))
	c.Text(plotLeft, plotTop-10, "start", 12, demo.Faint, "goodput, of capacity")
	var loads []float64
	for _, p := range r.Phases {
		if p.alone() && !slices.Contains(loads, p.Times) {
			loads = append(loads, p.Times)
		}
	}
	for _, load := range loads {
		x := c.x(load)
		c.Printf(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>`+"\n", x, plotTop, x, plotBottom+5, demo.Grid)
		c.Text(x, plotBottom+20, "middle", 12, demo.Ink, fmt.Sprintf("%gx", load))
	}
	c.Text((plotLeft+plotRight)/2, chartHeight-22, "middle", 12, demo.Faint, "requests sent, in multiples of the capacity")
}

// alone reports whether a load is bulk requests and nothing else. The chart is about these.
func (l load) alone() bool { return l.Uploads == 0 && l.Critical == 0 }

// line draws an arm, with a label at each of its points.
func (c *canvas) line(r result, l line) {
	var points []string
	labels := &demo.Canvas{} // on top of the line
	for _, p := range r.Phases {
		if p.Arm != l.arm || !p.alone() {
			continue
		}
		x, y := c.x(p.Times), c.y(r.ofCapacity(p))
		points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
		labels.Printf(`<circle cx="%.1f" cy="%.1f" r="4.5" fill="%s" stroke="#ffffff" stroke-width="1.5"/>`+"\n", x, y, l.colour)
		text := fmt.Sprintf("%.0f %%", 100*r.ofCapacity(p))
		if p.P99 > 0 {
			text += fmt.Sprintf(", p99 %.0f ms", milliseconds(p.P99))
		}
		// The outline hides the lines that the label crosses.
		labels.Printf(`<g paint-order="stroke" stroke="%s" stroke-width="4" stroke-linejoin="round">`, demo.Shade)
		labels.Text(x, c.labelAt(r, p), "middle", 12, l.colour, text)
		labels.Printf("</g>\n")
	}
	c.Polyline(points, l.style)
	_, _ = labels.WriteTo(c)
}

// labelAt returns the height of the label of a point. It is above the point. If the other
// arm's point is near and higher, it is below, unless that is off the plot.
func (c *canvas) labelAt(r result, p phase) float64 {
	y, other := c.y(r.ofCapacity(p)), c.y(r.ofCapacity(r.find(load{Arm: bare + limited - p.Arm, Times: p.Times})))
	switch {
	case math.Abs(other-y) > 40, y < other, y == other && p.Arm == limited:
		return y - 11
	case y+22 < plotBottom:
		return y + 22
	}
	return other - 28
}
