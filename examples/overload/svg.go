package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strings"
)

// The chart has a background of its own, so that it reads the same on a light and
// on a dark page. The two colours differ in lightness too, and one of the lines is
// broken, for who cannot tell them apart.
const (
	chartWidth  = 760
	chartHeight = 440
	plotLeft    = 76
	plotRight   = 728
	plotTop     = 120
	plotBottom  = 372
	plotMax     = 1.2 // of the capacity
	ink         = "#1f2328"
	faint       = "#59636e"
	grid        = "#d1d9e0"
	shade       = "#f3f6f9"
)

// line is how an arm is drawn.
type line struct {
	arm           arm
	colour, style string
	what          string
}

var lines = []line{
	{limited, "#0b5cad", `stroke="#0b5cad" stroke-width="2.5"`, "with limit: the default stack for servers"},
	{bare, "#b83d07", `stroke="#d1490c" stroke-width="2.5" stroke-dasharray="7 4"`, "bare: only the handler"},
}

// chart draws the goodput of both arms against the load.
func chart(r result) []byte {
	c := &canvas{most: 1}
	for _, p := range r.Phases {
		c.most = max(c.most, p.Load)
	}
	c.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" `+
		`font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif" font-size="13" fill="%s">`+"\n",
		chartWidth, chartHeight, ink)
	c.printf("<title>%s</title>\n", escape(summaryOf(r)))
	c.printf(`<rect width="%d" height="%d" rx="8" fill="#ffffff" stroke="%s"/>`+"\n", chartWidth, chartHeight, grid)
	c.text(plotLeft, 30, "start", 18, ink, "More is asked of a service than it can do. What does it still do?")
	under := fmt.Sprintf("Answers within %v, of %v of work each, on one core, measured over real HTTP", r.Plan.Patience, r.Plan.Work)
	if !r.valid() {
		under = "This run is void: something disturbed it"
	}
	c.text(plotLeft, 52, "start", 13, faint, under)
	c.legend()
	c.axes(r)
	for i := len(lines) - 1; i >= 0; i-- {
		c.line(r, lines[i])
	}
	c.printf("</svg>\n")
	return c.Bytes()
}

// summaryOf is for those who hear the chart instead of seeing it.
func summaryOf(r result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Goodput of a service that can do %.0f requests/s.", r.capacity())
	for _, p := range r.Phases {
		fmt.Fprintf(&b, " %.1f times that, %s: %.0f %% of it, p99 %s.", p.Load, armNames[p.Arm], 100*r.ofCapacity(p), latency(p.P99))
	}
	return b.String()
}

type canvas struct {
	bytes.Buffer
	most float64 // load at the right edge, nearly
}

func (c *canvas) printf(format string, args ...any) { fmt.Fprintf(c, format, args...) }

func (c *canvas) text(x, y float64, anchor string, size int, fill, s string) {
	c.printf(`<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" fill="%s">%s</text>`+"\n", x, y, anchor, size, fill, escape(s))
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

func (c *canvas) legend() {
	x := float64(plotLeft)
	for _, l := range lines {
		c.printf(`<line x1="%.0f" y1="76" x2="%.0f" y2="76" %s/>`+"\n", x, x+34, l.style)
		c.text(x+42, 80.5, "start", 13, ink, l.what)
		x += 345
	}
}

func (c *canvas) x(load float64) float64 {
	return plotLeft + load/(c.most*1.12)*(plotRight-plotLeft)
}

// y stays on the plot, whatever was measured.
func (c *canvas) y(share float64) float64 {
	return plotBottom - min(max(share, 0), plotMax)/plotMax*(plotBottom-plotTop)
}

func (c *canvas) axes(r result) {
	c.printf(`<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+"\n", plotLeft, plotTop, plotRight-plotLeft, plotBottom-plotTop, shade)
	for i := range 5 {
		y := c.y(float64(i) / 4)
		c.printf(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s"/>`+"\n", plotLeft, y, plotRight, y, grid)
		c.text(plotLeft-8, y+4, "end", 12, faint, fmt.Sprintf("%d %%", 25*i))
	}
	c.printf(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s" stroke-width="1.5" stroke-dasharray="2 3"/>`+"\n", plotLeft, c.y(1), plotRight, c.y(1), ink)
	c.text(plotLeft+8, plotTop+30, "start", 12, ink, fmt.Sprintf("capacity: %.0f requests/s", r.capacity()))
	c.text(plotLeft, plotTop-10, "start", 12, faint, "goodput, of capacity")
	var loads []float64
	for _, p := range r.Phases {
		if !slices.Contains(loads, p.Load) {
			loads = append(loads, p.Load)
		}
	}
	for _, load := range loads {
		x := c.x(load)
		c.printf(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>`+"\n", x, plotTop, x, plotBottom+5, grid)
		c.text(x, plotBottom+20, "middle", 12, ink, fmt.Sprintf("%gx", load))
	}
	c.text((plotLeft+plotRight)/2, chartHeight-22, "middle", 12, faint, "requests sent, in multiples of the capacity")
}

// line draws an arm, and what was measured at each of its points.
func (c *canvas) line(r result, l line) {
	var points []string
	labels := &canvas{} // on top of the line
	for _, p := range r.Phases {
		if p.Arm != l.arm {
			continue
		}
		x, y := c.x(p.Load), c.y(r.ofCapacity(p))
		points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
		labels.printf(`<circle cx="%.1f" cy="%.1f" r="4.5" fill="%s" stroke="#ffffff" stroke-width="1.5"/>`+"\n", x, y, l.colour)
		text := fmt.Sprintf("%.0f %%", 100*r.ofCapacity(p))
		if p.P99 > 0 {
			text += fmt.Sprintf(", p99 %.0f ms", milliseconds(p.P99))
		}
		// Lines that it crosses stop short of it.
		labels.printf(`<g paint-order="stroke" stroke="%s" stroke-width="4" stroke-linejoin="round">`, shade)
		labels.text(x, c.labelAt(r, p), "middle", 12, l.colour, text)
		labels.printf("</g>\n")
	}
	c.printf(`<polyline points="%s" fill="none" stroke-linejoin="round" %s/>`+"\n", strings.Join(points, " "), l.style)
	_, _ = labels.WriteTo(c)
}

// labelAt returns the height of the label of a point: above it, unless the point of
// the other arm is near and higher, then below, unless that is off the plot.
func (c *canvas) labelAt(r result, p phase) float64 {
	y, other := c.y(r.ofCapacity(p)), c.y(r.ofCapacity(r.find(bare+limited-p.Arm, p.Load)))
	switch {
	case math.Abs(other-y) > 40, y < other, y == other && p.Arm == limited:
		return y - 11
	case y+22 < plotBottom:
		return y + 22
	}
	return other - 28
}
