package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

const (
	chartWidth = 900
	plotLeft   = 70
	plotRight  = 880
	plotHeight = 140
	plotGap    = 70
	firstPlot  = 138
	faultShade = "#fdebd3"
)

var lineStyles = [2]string{unprotected: demo.BareLine, protected: demo.GuardedLine}

// plot is one of the panels of the chart.
type plot struct {
	title  string
	top    float64 // y of its upper edge
	max    float64 // value there
	suffix string  // of the labels of the axis
	values [2][]float64
}

// chart draws both systems over time.
func chart(r result) []byte {
	plots := plotsOf(r)
	height := firstPlot + len(plots)*(plotHeight+plotGap) - 14
	c := &canvas{demo.NewCanvas(chartWidth, height, summaryOf(r)), r.Script}
	c.Text(plotLeft, 30, "start", 18, demo.Ink, "One service breaks. What happens to the rest?")
	c.Text(plotLeft, 52, "start", 13, demo.Faint, fmt.Sprintf(
		"Two copies of one system, each with %d requests/s on each of two routes, measured over real HTTP", r.Setup.Rate))
	c.Legend(70, 72,
		demo.Key{Style: lineStyles[unprotected], What: "unprotected: plain http.Client, 3 attempts"},
		demo.Key{Style: lineStyles[protected], What: "protected: the default client stack"})
	for i := range plots {
		plots[i].top = float64(firstPlot + i*(plotHeight+plotGap))
		c.plot(plots[i])
	}
	c.Text((plotLeft+plotRight)/2, float64(height-12), "middle", 12, demo.Faint, "seconds since the start")
	return c.Finish()
}

func plotsOf(r result) []plot {
	plots := []plot{
		{title: "Goodput of the route to the healthy service", max: 100, suffix: " %"},
		{title: "Goodput of the route to the broken service", max: 100, suffix: " %"},
		{title: "Attempts towards the broken service, per second", suffix: ""},
	}
	for i, sys := range r.Systems {
		for route := range sys.Routes {
			for _, t := range sys.Routes[route].Units {
				plots[route].values[i] = append(plots[route].values[i], t.percent())
			}
		}
		for _, n := range sys.Attempts {
			plots[2].values[i] = append(plots[2].values[i], float64(n)/r.Script.Unit.Seconds())
		}
	}
	most := slices.Max(append(slices.Concat(plots[2].values[0], plots[2].values[1]), 1))
	for plots[2].max = 400; plots[2].max < most; {
		plots[2].max += 200
	}
	return plots
}

// summaryOf is the text that a screen reader reads aloud instead of the chart.
func summaryOf(r result) string {
	var b strings.Builder
	b.WriteString("Two systems while one service breaks.")
	for _, sys := range r.Systems {
		worst := worstPhase(sys.Routes[healthy].Phases)
		fmt.Fprintf(&b, " %s: the goodput of the healthy route is %.0f %% at its worst (%s), %.2f attempts per request while the broken service is down.",
			sys.Name, worst.percent(), worst.Phase, sys.Amplification)
	}
	return b.String()
}

type canvas struct {
	*demo.Canvas
	script script
}

func (c *canvas) x(unit float64) float64 {
	return plotLeft + unit/float64(c.script.units())*(plotRight-plotLeft)
}

func (c *canvas) plot(p plot) {
	c.shade(p)
	c.Text(plotLeft, p.top-24, "start", 13, demo.Ink, p.title)
	for i := range 5 {
		value := p.max * float64(i) / 4
		y := p.y(value)
		c.Printf(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s" stroke-width="1"/>`+"\n", plotLeft, y, plotRight, y, demo.Grid)
		c.Text(plotLeft-8, y+4, "end", 12, demo.Faint, fmt.Sprintf("%.0f%s", value, p.suffix))
	}
	// The dashed line comes last, so that both are visible where they agree.
	c.line(p, protected)
	c.line(p, unprotected)
}

// shade marks the phases, and the seconds at which they begin.
func (c *canvas) shade(p plot) {
	for i, ph := range c.script.Phases {
		from, to := c.x(float64(c.script.begin(i))), c.x(float64(c.script.begin(i+1)))
		fill := demo.Shade
		if ph.Fault != noFault {
			fill = faultShade
		}
		c.Printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%d" fill="%s"/>`+"\n", from, p.top, to-from, plotHeight, fill)
		c.Printf(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ffffff" stroke-width="2"/>`+"\n", to, p.top, to, p.top+plotHeight)
		c.Text((from+to)/2, p.top-7, "middle", 12, demo.Faint, ph.Name)
		c.Text(from, p.top+plotHeight+15, "middle", 11, demo.Faint, fmt.Sprintf("%.3g", c.script.Unit.Seconds()*float64(c.script.begin(i))))
	}
	c.Text(plotRight, p.top+plotHeight+15, "middle", 11, demo.Faint, fmt.Sprintf("%.3g", c.script.length().Seconds()))
}

// line draws each value over the middle of its unit.
func (c *canvas) line(p plot, system int) {
	var points []string
	for unit, v := range p.values[system] {
		points = append(points, fmt.Sprintf("%.1f,%.1f", c.x(float64(unit)+0.5), p.y(v)))
	}
	c.Polyline(points, lineStyles[system])
}

func (p plot) y(value float64) float64 { return p.top + plotHeight*(1-value/p.max) }
