package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// table has a heading and rows. The first cells of a row are words, the others numbers.
type table struct {
	words int        // cells
	rows  [][]string // the first is the heading
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) widths() []int {
	var w []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(w) {
				w = append(w, 0)
			}
			w[i] = max(w[i], utf8.RuneCountInString(cell))
		}
	}
	return w
}

func (t *table) print(w io.Writer) {
	widths := t.widths()
	for _, row := range t.rows {
		var b strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i < t.words {
				b.WriteString(cell + pad + "  ")
			} else {
				b.WriteString(pad + cell + "  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

func (t *table) markdown(w io.Writer) {
	for i, row := range t.rows {
		cells := make([]string, len(row))
		for j, cell := range row {
			cells[j] = strings.ReplaceAll(cell, "|", `\|`)
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
		if i == 0 {
			fmt.Fprintln(w, "|"+strings.Repeat("---|", t.words)+strings.Repeat("--:|", len(row)-t.words))
		}
	}
}

// figures has a row for each load and arm.
func figures(r result) *table {
	t := &table{words: 2}
	t.add("load", "service", "offered/s", "goodput/s", "of capacity", "p50", "p99", "rejected/s", "abandoned/s", "worked/s", "core")
	for _, p := range r.Phases {
		t.add(
			fmt.Sprintf("%.1fx", p.Times), p.service(),
			fmt.Sprintf("%.0f", p.Offered), fmt.Sprintf("%.0f", p.Goodput), fmt.Sprintf("%.1f %%", 100*r.ofCapacity(p)),
			latency(p.P50), latency(p.P99),
			fmt.Sprintf("%.0f", p.Rejected), fmt.Sprintf("%.0f", p.Abandoned), fmt.Sprintf("%.0f", p.Worked), percent(p.Core),
		)
	}
	return t
}

// service describes the arm of a phase, and what is open besides its requests.
func (p phase) service() string {
	switch {
	case p.Critical > 0:
		return armNames[p.Arm] + ", critical and bulk"
	case p.Uploads == 0:
		return armNames[p.Arm]
	}
	return fmt.Sprintf("%s, %d slow uploads, %d open at the end", armNames[p.Arm], p.Uploads, p.Open)
}

// latency formats a percentile of the answers in time, "-" without answers.
func latency(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", milliseconds(d))
}

// percent formats a share of a core, "-" if it is unknown.
func percent(share float64) string {
	if share == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100*share)
}

// routesOf has a row for each route of the loads that have two.
func routesOf(r result) *table {
	t := &table{words: 2}
	t.add("load", "route", "offered/s", "answered/s", "share", "p99")
	for _, p := range r.Phases {
		for _, x := range p.Routes {
			t.add(fmt.Sprintf("%.1fx", p.Times), x.Name, fmt.Sprintf("%.0f", x.Offered), fmt.Sprintf("%.0f", x.Answered),
				fmt.Sprintf("%.2f %%", 100*x.Answered/x.Offered), latency(x.P99))
		}
	}
	return t
}

// rejections has the cost of an answer and of a rejection.
func rejections(r result) *table {
	t := &table{words: 2}
	t.add("CPU of the service", "", "each")
	cpu := r.answer()
	if cpu > 0 {
		t.add("an answer", "while the capacity was measured", fmt.Sprintf("%.0f µs", microseconds(cpu)))
	}
	if cost := r.Rejection * microseconds(cpu); cost > 0 {
		t.add("a rejection", "by a policy that rejects every request", fmt.Sprintf("%.1f µs", cost))
	}
	for _, p := range r.Phases {
		if cost, ok := r.rejection(p); ok && p.Times > 1 && p.alone() {
			t.add("a rejection", fmt.Sprintf("%s at %.1fx, with everything else that is not an answer", armNames[p.Arm], p.Times), fmt.Sprintf("%.0f µs", microseconds(cost)))
		}
	}
	return t
}

// limits has the state and the counters of the limit.
func limits(r result) *table {
	t := &table{words: 3}
	t.add("load", "service", "at the end", "limit", "knee", "in flight", "most in the handler", "queued", "shed", "queue full", "abandoned", "trials", "overloads")
	for _, p := range r.Phases {
		s := p.Limit
		if s == nil {
			continue
		}
		state := "no overload"
		if s.Overload {
			state = "overload"
		}
		x := s.Trials
		t.add(
			fmt.Sprintf("%.1fx", p.Times), p.service(), state,
			fmt.Sprint(s.Limit), fmt.Sprintf("%.1f", s.Knee), fmt.Sprint(s.InFlight), fmt.Sprint(p.Most), fmt.Sprint(s.Queued),
			fmt.Sprint(s.Shed), fmt.Sprint(s.QueueFull), fmt.Sprint(s.Canceled),
			fmt.Sprint(x.Raised+x.NotRaised+x.Lowered+x.NotLowered+x.Inconclusive), fmt.Sprint(s.Overloads),
		)
	}
	return t
}

func verdict(r result) *table {
	t := &table{words: 4}
	t.add("", "check", "wanted", "got")
	for _, c := range r.Checks {
		t.add(c.Mark(), c.What, c.Want, c.Got)
	}
	return t
}

// setting describes the conditions of the measurement.
func setting(r result) string {
	p := r.Plan
	where := "The service had one core by GOMAXPROCS=1 only"
	if r.Before.Held {
		where = "The service was held to one core"
	}
	if r.Alone {
		where += ", and the load generator to the others"
	}
	var late time.Duration
	most, sender := 0.0, ""
	for _, p := range r.Phases {
		late, most = max(late, p.Late), max(most, p.Sender)
	}
	if most > 0 {
		sender = fmt.Sprintf(", and took the load generator %.0f %% of a core", 100*most)
	}
	return fmt.Sprintf("A request is %d rounds of SHA-256, %v of work. Capacity: %.0f requests/s (%.0f before, %.0f after).\n"+
		"%s. Callers leave after %v.\n"+
		"Each load was sent for %v, and measured after the first %v. Requests were sent at most %.1f ms late (p99 of each load)%s.\n",
		r.Rounds, p.Work, r.capacity(), r.Before.Rate, r.After.Rate, where, p.Patience, p.Warm+p.Measure, p.Warm, milliseconds(late), sender)
}

func printResult(w io.Writer, r result) {
	fmt.Fprintln(w, setting(r))
	for _, t := range []*table{figures(r), routesOf(r), rejections(r), limits(r), verdict(r)} {
		t.print(w)
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, conclusion(r))
}

func printMarkdown(w io.Writer, r result) {
	fmt.Fprintln(w, setting(r))
	for _, t := range []*table{figures(r), routesOf(r), rejections(r), limits(r), verdict(r)} {
		t.markdown(w)
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, conclusion(r))
}
