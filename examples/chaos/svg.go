package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
)

// The chart has a background of its own, so that it reads the same on a light
// and on a dark page. The two colours differ in lightness too, and one of the
// lines is broken, for who cannot tell them apart.
const (
	chartWidth  = 900
	plotLeft    = 70
	plotRight   = 880
	plotHeight  = 140
	plotGap     = 70
	firstPlot   = 138
	ink         = "#1f2328"
	faint       = "#59636e"
	grid        = "#d1d9e0"
	faultShade  = "#fdebd3"
	normalShade = "#f3f6f9"
)

var lineStyles = [2]string{
	unprotected: `stroke="#d1490c" stroke-width="2.5" stroke-dasharray="7 4"`,
	protected:   `stroke="#0b5cad" stroke-width="2.5"`,
}

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
	c := &canvas{script: r.Script}
	c.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" `+
		`font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif" font-size="13" fill="%s">`+"\n",
		chartWidth, height, ink)
	c.printf("<title>%s</title>\n", escape(summaryOf(r)))
	c.printf(`<rect width="%d" height="%d" rx="8" fill="#ffffff" stroke="%s"/>`+"\n", chartWidth, height, grid)
	c.text(plotLeft, 30, "start", 18, ink, "One service breaks. What happens to the rest?")
	c.text(plotLeft, 52, "start", 13, faint, fmt.Sprintf(
		"Two copies of one system, each with %d requests/s on each of two routes, measured over real HTTP", r.Setup.Rate))
	c.legend()
	for i := range plots {
		plots[i].top = float64(firstPlot + i*(plotHeight+plotGap))
		c.plot(plots[i])
	}
	c.text((plotLeft+plotRight)/2, float64(height-12), "middle", 12, faint, "seconds since the start")
	c.printf("</svg>\n")
	return c.Bytes()
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

// summaryOf is for those who hear the chart instead of seeing it.
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
	bytes.Buffer
	script script
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
	x := 70.0
	for i, name := range []string{
		"unprotected: plain http.Client, 3 attempts",
		"protected: the default client stack",
	} {
		c.printf(`<line x1="%.0f" y1="72" x2="%.0f" y2="72" %s/>`+"\n", x, x+34, lineStyles[i])
		c.text(x+42, 76.5, "start", 13, ink, name)
		x += 345
	}
}

func (c *canvas) x(unit float64) float64 {
	return plotLeft + unit/float64(c.script.units())*(plotRight-plotLeft)
}

func (c *canvas) plot(p plot) {
	c.shade(p)
	c.text(plotLeft, p.top-24, "start", 13, ink, p.title)
	for i := range 5 {
		value := p.max * float64(i) / 4
		y := p.y(value)
		c.printf(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s" stroke-width="1"/>`+"\n", plotLeft, y, plotRight, y, grid)
		c.text(plotLeft-8, y+4, "end", 12, faint, fmt.Sprintf("%.0f%s", value, p.suffix))
	}
	// The broken line comes last, so that both can be seen where they agree.
	c.line(p, protected)
	c.line(p, unprotected)
}

// shade marks the phases, and the seconds at which they begin.
func (c *canvas) shade(p plot) {
	for i, ph := range c.script.Phases {
		from, to := c.x(float64(c.script.begin(i))), c.x(float64(c.script.begin(i+1)))
		fill := normalShade
		if ph.Fault != noFault {
			fill = faultShade
		}
		c.printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%d" fill="%s"/>`+"\n", from, p.top, to-from, plotHeight, fill)
		c.printf(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ffffff" stroke-width="2"/>`+"\n", to, p.top, to, p.top+plotHeight)
		c.text((from+to)/2, p.top-7, "middle", 12, faint, ph.Name)
		c.text(from, p.top+plotHeight+15, "middle", 11, faint, fmt.Sprintf("%.3g", c.script.Unit.Seconds()*float64(c.script.begin(i))))
	}
	c.text(plotRight, p.top+plotHeight+15, "middle", 11, faint, fmt.Sprintf("%.3g", c.script.length().Seconds()))
}

// line draws each value over the middle of its unit.
func (c *canvas) line(p plot, system int) {
	var points []string
	for unit, v := range p.values[system] {
		points = append(points, fmt.Sprintf("%.1f,%.1f", c.x(float64(unit)+0.5), p.y(v)))
	}
	c.printf(`<polyline points="%s" fill="none" stroke-linejoin="round" %s/>`+"\n", strings.Join(points, " "), lineStyles[system])
}

func (p plot) y(value float64) float64 { return p.top + plotHeight*(1-value/p.max) }
