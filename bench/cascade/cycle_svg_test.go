package cascade_test

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

const (
	cycleFrom, cycleTo = -150 * ms, 1000 * ms
	barTime            = 50 * ms // of a bar

	picWidth            = 760
	picLeft, picRight   = 68, 724
	limitTop, limitBase = 126, 286 // limit and in flight
	usefulTop, usefulAt = 326, 416 // useful completions
	lineTop, lineBase   = 456, 526 // who waits
	legendTop           = 580
	legendRow           = 19

	inkColour    = "#1f2328"
	faintColour  = "#59636e"
	gridColour   = "#d1d9e0"
	paperColour  = "#f3f6f9"
	trialColour  = "#fdf0c9"
	limitColour  = "#0b5cad"
	flightColour = "#c2410c"
	usefulColour = "#3f8f6b"
	lineColour   = "#8a6fb5"
)

// A moment has a number in the picture, and a line of text below it.
type moment struct {
	at   time.Duration
	text string
}

// picture draws a film. It has a background of its own, so that it reads the same on a
// light and on a dark page.
type picture struct {
	bytes.Buffer
	film
	moments []moment
}

func drawCycle(f film) []byte {
	p := &picture{film: f, moments: momentsOf(f)}
	height := legendTop + legendRow*len(p.moments) + 8
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" `+
		`font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif" font-size="13" fill="%s">`+"\n",
		picWidth, height, inkColour)
	p.printf("<title>%s</title>\n", escaped(p.title()))
	p.printf(`<rect width="%d" height="%d" rx="8" fill="#ffffff" stroke="%s"/>`+"\n", picWidth, height, gridColour)
	p.text(24, 32, "start", 18, inkColour, "A limit in an overload")
	o := cycled.withDefaults()
	p.text(24, 54, "start", 13, faintColour, fmt.Sprintf("%d workers, %v for a request on average; %.0f requests/s arrive, then %.0f. Simulated.",
		o.workers, o.mean, normal*o.capacity(), o.load(0)*o.capacity()))
	p.trialBands()
	p.numbers()
	p.limits()
	p.useful()
	p.waiting()
	p.times()
	p.printf("</svg>\n")
	return p.Bytes()
}

// momentsOf is what happens in f.
func momentsOf(f film) (all []moment) {
	add := func(at time.Duration, format string, args ...any) {
		all = append(all, moment{at, fmt.Sprintf(format, args...)})
	}
	add(0, "twice the load that the service can handle begins")
	if x := f.first(func(x *frame) bool { return x.Queued > 0 }); x != nil {
		add(x.at, "requests take over twice as long as before, and more arrive than are answered: no more than %d enter", x.Limit)
	}
	trials := f.trials()
	for i, x := range trials {
		var came string
		switch x.outcome() {
		case "lowered":
			came = "the throughput stays, so the others were queued in the handler"
		case "raised":
			came = "the throughput rises with it, so the limit is too low"
		case "not raised":
			came = "the throughput stays, so a higher limit does not help"
		case "not lowered":
			came = fmt.Sprintf("the throughput falls to %.2f of what it was: the knee is at %d / %.2f = %.1f", float64(x.level)/x.after.Knee, x.level, float64(x.level)/x.after.Knee, x.after.Knee)
		default:
			came = "given up"
		}
		add(x.from, "a trial of %d: %s", x.level, came)
		if i == len(trials)-1 {
			add(x.to, "the limit is %d, and trials pause", x.after.Limit)
		}
	}
	if x := f.first(func(x *frame) bool { return x.Overload }); x != nil {
		add(x.at, "the limit is proven. Requests that were queued for too long are rejected from now on")
	}
	slices.SortStableFunc(all, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	return all
}

// title is for those who hear the picture instead of seeing it.
func (p *picture) title() string {
	var b strings.Builder
	b.WriteString("A limit in an overload.")
	for _, m := range p.moments {
		fmt.Fprintf(&b, " After %d ms: %s.", m.at.Milliseconds(), m.text)
	}
	return b.String()
}

func (p *picture) printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

func (p *picture) text(x, y float64, anchor string, size int, fill, s string) {
	p.printf(`<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" fill="%s">%s</text>`+"\n", x, y, anchor, size, fill, escaped(s))
}

// onTop is text that lines which it crosses stop short of.
func (p *picture) onTop(x, y float64, anchor string, size int, fill, s string) {
	p.printf(`<g paint-order="stroke" stroke="#ffffff" stroke-width="4" stroke-linejoin="round">`)
	p.text(x, y, anchor, size, fill, s)
	p.printf("</g>\n")
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

func (p *picture) x(at time.Duration) float64 {
	return picLeft + float64(at-cycleFrom)/float64(cycleTo-cycleFrom)*(picRight-picLeft)
}

// height is where v is on a panel from top to base that ends at most.
func height(v, most float64, top, base int) float64 {
	return float64(base) - min(max(v/most, 0), 1)*float64(base-top)
}

// panel draws the frame of one, with marks on its axis.
func (p *picture) panel(top, base int, most float64) {
	p.printf(`<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="%s"/>`+"\n", picLeft, top, picRight-picLeft, base-top, gridColour)
	step := math.Pow(10, math.Floor(math.Log10(most))) / 5
	for i := 0; most/step > 4; i++ {
		step *= []float64{2.5, 2, 2}[i%3]
	}
	for m := 0.; m <= most; m += step {
		y := height(m, most, top, base)
		p.printf(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s"/>`+"\n", picLeft, y, picRight, y, gridColour)
		p.text(picLeft-8, y+4, "end", 12, faintColour, fmt.Sprint(m))
	}
}

// trialBands are the times of tests, behind all panels.
func (p *picture) trialBands() {
	for _, panel := range [][2]int{{limitTop, limitBase}, {usefulTop, usefulAt}, {lineTop, lineBase}} {
		p.printf(`<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+"\n", picLeft, panel[0], picRight-picLeft, panel[1]-panel[0], paperColour)
		for _, x := range p.trials() {
			p.printf(`<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s" stroke="#ffffff"/>`+"\n", p.x(x.from), panel[0], p.x(x.to)-p.x(x.from), panel[1]-panel[0], trialColour)
		}
	}
}

// path draws a value of each frame, as steps if these are kept until they change.
func (p *picture) path(value func(*frame) float64, steps bool, style string) {
	var points []string
	last := math.NaN()
	for i := range p.film {
		f := &p.film[i]
		x, y := p.x(f.at), value(f)
		if steps && y != last && i > 0 {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x, last))
		}
		if y != last || i == len(p.film)-1 || !steps && i%2 == 0 {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
		}
		last = y
	}
	p.printf(`<polyline points="%s" fill="none" stroke-linejoin="round" %s/>`+"\n", strings.Join(points, " "), style)
}

// limits draws the limit in force and the requests in the handler.
func (p *picture) limits() {
	most := 0.
	for i := range p.film {
		most = max(most, 1.15*float64(p.film[i].Limit))
	}
	p.panel(limitTop, limitBase, most)
	at := func(v float64) float64 { return height(v, most, limitTop, limitBase) }
	p.path(func(f *frame) float64 { return at(float64(f.InFlight)) }, false, fmt.Sprintf(`stroke="%s" stroke-width="1.5"`, flightColour))
	p.path(func(f *frame) float64 { return at(float64(f.Limit)) }, true, fmt.Sprintf(`stroke="%s" stroke-width="2.5"`, limitColour))
	p.onTop(picLeft, limitTop-10, "start", 12, limitColour, "limit in force")
	p.onTop(picLeft+86, limitTop-10, "start", 12, faintColour, "and")
	p.onTop(picLeft+112, limitTop-10, "start", 12, flightColour, "requests in the handler")
	last := p.film[len(p.film)-1]
	if y := at(last.Knee); last.Knee > 0 {
		p.printf(`<line x1="%.1f" y1="%.1f" x2="%d" y2="%.1f" stroke="%s" stroke-dasharray="3 3"/>`+"\n", p.x(p.knee()), y, picRight, y, inkColour)
		p.onTop(picRight-6, y+17, "end", 12, inkColour, fmt.Sprintf("knee: %.1f", last.Knee))
	}
	level := 0
	for i := range p.film {
		if f := &p.film[i]; f.Limit != level {
			level = f.Limit
			p.onTop(p.x(f.at)+5, at(float64(level))-6, "start", 12, limitColour, fmt.Sprint(level))
		}
	}
}

// knee is when the knee that is known at the end was found.
func (p *picture) knee() time.Duration {
	last := p.film[len(p.film)-1].Knee
	return p.first(func(f *frame) bool { return f.Knee == last }).at
}

// useful draws how many requests a second were of use.
func (p *picture) useful() {
	able := cycled.withDefaults().capacity()
	most := 1.4 * able
	p.panel(usefulTop, usefulAt, most)
	for i := int(barTime / ms); i < len(p.film); i += int(barTime / ms) {
		from, to := &p.film[i-int(barTime/ms)], &p.film[i]
		y := height(float64(to.Useful-from.Useful)/barTime.Seconds(), most, usefulTop, usefulAt)
		p.printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", p.x(from.at)+1, y, p.x(to.at)-p.x(from.at)-2, usefulAt-y, usefulColour)
	}
	y := height(able, most, usefulTop, usefulAt)
	p.printf(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s" stroke-width="1.5" stroke-dasharray="2 3"/>`+"\n", picLeft, y, picRight, y, inkColour)
	p.onTop(picLeft, usefulTop-8, "start", 12, usefulColour, fmt.Sprintf("useful requests/s, a bar for %v", barTime))
	p.onTop(picRight, usefulTop-8, "end", 12, faintColour, fmt.Sprintf("dotted: all that the service can handle, %.0f/s", able))
}

// waiting draws how many requests wait in front of the handler.
func (p *picture) waiting() {
	most := 0.
	for i := range p.film {
		most = max(most, 1.15*float64(p.film[i].Queued))
	}
	p.panel(lineTop, lineBase, most)
	var points []string
	for i := 0; i < len(p.film); i += 2 {
		points = append(points, fmt.Sprintf("%.1f,%.1f", p.x(p.film[i].at), height(float64(p.film[i].Queued), most, lineTop, lineBase)))
	}
	p.printf(`<polygon points="%d,%d %s %d,%d" fill="%s" fill-opacity="0.55" stroke="%[6]s"/>`+"\n", picLeft, lineBase, strings.Join(points, " "), picRight, lineBase, lineColour)
	p.onTop(picLeft, lineTop-8, "start", 12, lineColour, "queued requests")
}

// times draws the axis.
func (p *picture) times() {
	for at := 0 * ms; at <= cycleTo; at += 200 * ms {
		p.printf(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>`+"\n", p.x(at), lineBase, p.x(at), lineBase+5, faintColour)
		p.text(p.x(at), lineBase+20, "middle", 12, faintColour, fmt.Sprintf("%d ms", at.Milliseconds()))
	}
}

// numbers marks the moments, in as many rows as they need not to touch, and says what
// they are.
func (p *picture) numbers() {
	const size, row = 8.5, 20
	var ends [2]float64 // of the rows
	for i, m := range p.moments {
		x, y := p.x(m.at), 84.
		if x-ends[0] < 2*size+3 && x-ends[1] > x-ends[0] {
			y -= row
			ends[1] = x
		} else {
			ends[0] = x
		}
		p.printf(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%d" stroke="%s" stroke-dasharray="2 3"/>`+"\n", x, y+size, x, lineBase, faintColour)
		p.number(x, y, size, i+1)
		below := float64(legendTop + legendRow*i)
		p.number(34, below-4.5, size, i+1)
		p.text(50, below, "start", 13, inkColour, m.text)
	}
}

func (p *picture) number(x, y, size float64, n int) {
	p.printf(`<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s"/>`+"\n", x, y, size, inkColour)
	p.text(x, y+4, "middle", 11, "#ffffff", fmt.Sprint(n))
}
