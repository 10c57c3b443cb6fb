package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// screen is where the program prints. On a terminal it redraws the live view,
// elsewhere it prints a line for each unit.
type screen struct {
	io.Writer
	live   bool
	colour bool
	drawn  int // lines of the live view that stand above the cursor
	unit   int // units printed so far
}

func newScreen(f *os.File) *screen {
	info, err := f.Stat()
	term := os.Getenv("TERM")
	live := err == nil && info.Mode()&os.ModeCharDevice != 0 && term != "" && term != "dumb"
	return &screen{Writer: f, live: live, colour: os.Getenv("NO_COLOR") == ""}
}

// view is a moment of the run.
type view struct {
	script  script
	now     time.Duration
	systems [2]systemView
}

type systemView struct {
	frontReport
	routes   [2]routeView
	attempts int   // towards the broken service in the last whole unit
	history  []int // goodput of the healthy route by whole unit, in percent
}

// routeView is about the requests that ended within the last unit.
type routeView struct {
	ended, good int
	p99         *float64
}

// view summarizes the run at an instant after the start.
func (m *monitor) view(now time.Duration) view {
	v := view{script: m.script, now: now}
	whole := int(now / m.script.Unit)
	for i := range v.systems {
		sys := systemView{frontReport: m.last[i]}
		if sys.Breaker == "" {
			sys.Breaker = "-"
		}
		for route := range sys.routes {
			records := where(m.records, i, route)
			sys.routes[route] = recent(records, now-m.script.Unit, now)
			if route == healthy {
				for _, t := range summarize(m.script, "", records).Units[:whole] {
					sys.history = append(sys.history, int(t.percent()))
				}
			}
		}
		if whole > 0 && whole <= len(sys.Attempts) {
			sys.attempts = sys.Attempts[whole-1]
		}
		v.systems[i] = sys
	}
	return v
}

func recent(records []record, from, to time.Duration) routeView {
	var some []record
	var out routeView
	for _, r := range records {
		if end := r.At + r.Took; end <= from || end > to {
			continue
		}
		some = append(some, r)
		out.ended++
		if r.good() {
			out.good++
		}
	}
	out.p99 = p99(some)
	return out
}

// show draws the view of an instant, or prints the lines that are due. The view is of
// a little earlier, for which all reports have come.
func (s *screen) show(m *monitor, now time.Duration) {
	at := min(now-2*reportEvery, m.script.length())
	switch {
	case at <= 0:
	case s.live:
		s.draw(m.view(at))
	default:
		for unit := s.unit + 1; time.Duration(unit)*m.script.Unit <= at; unit++ {
			if unit == 1 {
				fmt.Fprint(s, plainHead())
			}
			s.unit = unit
			fmt.Fprintln(s, plainLine(m.view(time.Duration(unit)*m.script.Unit), unit))
		}
	}
}

// settle restores the terminal below the last view.
func (s *screen) settle() {
	if s.drawn > 0 {
		fmt.Fprint(s, "\x1b[?7h\x1b[?25h")
	}
	if s.drawn > 0 || s.unit > 0 {
		fmt.Fprintln(s)
	}
	s.drawn, s.unit = 0, 0
}

func (s *screen) draw(v view) {
	var b strings.Builder
	if s.drawn == 0 {
		// No cursor, and no wrapping, which would move the lines.
		b.WriteString("\x1b[?25l\x1b[?7l")
	} else {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	lines := s.lines(v)
	for _, line := range lines {
		b.WriteString("\r" + line + "\x1b[K\n")
	}
	s.drawn = len(lines)
	_, _ = io.WriteString(s, b.String())
}

// lines are the live view, less than 80 columns wide.
func (s *screen) lines(v view) []string {
	u, p := v.systems[unprotected], v.systems[protected]
	row := func(name, left, right string) string {
		return fmt.Sprintf("  %-24s%s%s", name, pad(left, 26), right)
	}
	out := []string{s.phases(v), s.progress(v), "",
		row("", s.paint("1", systemNames[unprotected]), s.paint("1", systemNames[protected]))}
	for route, name := range routeNames {
		out = append(out,
			row(name+" route", s.throughput(u.routes[route]), s.throughput(p.routes[route])),
			row("  p99", p99Text(u.routes[route].p99), p99Text(p.routes[route].p99)))
	}
	return append(out,
		row("attempts to broken", fmt.Sprintf("%d/s", u.attempts), fmt.Sprintf("%d/s", p.attempts)),
		row("slots taken", s.busy(u.Busy), s.busy(p.Busy)),
		row("breaker to broken", s.breaker(u.Breaker), s.breaker(p.Breaker)),
		row("healthy route so far", s.sparkline(u.history), s.sparkline(p.history)))
}

func (s *screen) phases(v view) string {
	var names []string
	now := v.script.phaseOf(int(v.now / v.script.Unit))
	for i, p := range v.script.Phases {
		name := p.Name
		if i == now {
			name = s.paint("1;7", " "+strings.ToUpper(name)+" ")
		}
		names = append(names, name)
	}
	return "  " + strings.Join(names, "  ")
}

func (s *screen) progress(v view) string {
	const width = 50
	done := int(width * v.now / v.script.length())
	return fmt.Sprintf("  %s%s  %.0f of %.0f s", strings.Repeat("█", done), strings.Repeat("░", width-done),
		v.now.Seconds(), v.script.length().Seconds())
}

func (s *screen) throughput(r routeView) string {
	text := fmt.Sprintf("%d good of %d/s", r.good, r.ended)
	if r.ended > 0 && 100*r.good < fallenBelow*r.ended {
		return s.paint("31", text)
	}
	return text
}

func (s *screen) busy(n int) string {
	text := fmt.Sprintf("%d of %d", n, slots)
	if n >= slots {
		return s.paint("31", text)
	}
	return text
}

func (s *screen) breaker(state string) string {
	switch state {
	case "OPEN":
		return s.paint("33", state)
	case "HALF_OPEN":
		return s.paint("36", state)
	}
	return state
}

func (s *screen) sparkline(percent []int) string {
	bars := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, p := range percent {
		b.WriteRune(bars[min(p*len(bars)/100, len(bars)-1)])
	}
	return b.String()
}

func (s *screen) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// pad fills up to a width. Escape sequences have no width.
func pad(text string, width int) string {
	seen, escape := 0, false
	for _, r := range text {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			seen++
		}
	}
	return text + strings.Repeat(" ", max(width-seen, 0))
}

// plainHead explains the columns of plainLine.
func plainHead() string {
	two := func(left, right string) string { return fmt.Sprintf("%-42s%s\n", left, right) }
	routes := fmt.Sprintf("%-14s%s", "healthy route", "broken route")
	columns := fmt.Sprintf("%-14s%-14s%s", "good/s p99", "good/s p99", "breaker")
	return fmt.Sprintf("%18s", "") + two(systemNames[unprotected], systemNames[protected]) +
		fmt.Sprintf("%18s", "") + two(routes, routes) +
		fmt.Sprintf("%4s  %-12s", "s", "phase") + two(columns, columns)
}

func plainLine(v view, unit int) string {
	end := v.script.Unit * time.Duration(unit)
	line := fmt.Sprintf("%4.3g  %-12s", end.Seconds(), v.script.Phases[v.script.phaseOf(unit-1)].Name)
	for _, sys := range v.systems {
		for _, route := range sys.routes {
			line += fmt.Sprintf("%-7d%-7s", route.good, p99Text(route.p99))
		}
		line += fmt.Sprintf("%-14s", sys.Breaker)
	}
	return strings.TrimRight(line, " ")
}
