package main

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
	"github.com/resilience-go/resilience/limit"
)

// ideal is a run that passes with a margin.
func ideal() result {
	r := result{
		Plan: thePlan(), Rounds: 12345, Alone: true,
		Before: speed{Rate: 1010, CPU: ms, Held: true}, After: speed{Rate: 990, CPU: ms},
		Rejection: 0.04,
	}
	for _, l := range r.Plan.Loads {
		p := phase{load: l, Offered: 1000 * l.Times, Worked: 950, Core: 1}
		switch {
		case l.Times < 1:
			p.Goodput, p.Worked, p.Core, p.P50, p.P99 = 700, 700, 0.7, 2*ms, 6*ms
		case l.Arm == bare:
			p.Abandoned = p.Offered
		default:
			p.Goodput, p.Rejected, p.P50, p.P99, p.Most = 950, p.Offered-950, 8*ms, 20*ms, 6
		}
		if l.Critical > 0 {
			p.Routes = []route{{"critical", 1000, 999, 9 * ms}, {"bulk", 9000, 10, 9 * ms}}
		}
		if l.Arm == limited {
			p.Open, p.Limit = l.Uploads, &limit.Stats{Counters: limit.Counters{Shed: 4321}, Gauges: limit.Gauges{Limit: 6, Knee: 1.5, Overload: true}}
		}
		r.Phases = append(r.Phases, p)
	}
	r.conclude()
	return r
}

// The indices of the phases of ideal.
const (
	bareCalm    = 0
	bareAt2     = 2
	limitedAt2  = 3
	limitedAt4  = 6
	withUploads = 8
	withRoutes  = 9
)

// Each check fails just beyond its bound, and a disturbed run is void.
func TestVerdict(t *testing.T) {
	const goodput, tail, uploadGoodput, uploadTail, flood, critical, fall = 0, 1, 2, 3, 4, 5, 6
	for _, tt := range []struct {
		name  string
		spoil func(*result)
		fails []int
		void  bool
	}{
		{"ideal", func(*result) {}, nil, false},
		{"less than 95 % of capacity", func(r *result) { r.Phases[limitedAt2].Goodput = 949 }, []int{goodput}, false},
		{"p99 five times as long", func(r *result) { r.Phases[limitedAt2].P99 = 30 * ms }, nil, false},
		{"longer", func(r *result) { r.Phases[limitedAt2].P99 = 31 * ms }, []int{tail}, false},
		{"less with uploads", func(r *result) { r.Phases[withUploads].Goodput = 949 }, []int{uploadGoodput}, false},
		{"longer with uploads", func(r *result) { r.Phases[withUploads].P99 = 31 * ms }, []int{uploadTail}, false},
		{"90 % at 4x", func(r *result) { r.Phases[limitedAt4].Goodput = 900 }, nil, false},
		{"less at 4x", func(r *result) { r.Phases[limitedAt4].Goodput = 899 }, []int{flood}, false},
		{"no answer with limit", func(r *result) { r.Phases[limitedAt2].Goodput, r.Phases[limitedAt2].P99 = 0, 0 }, []int{goodput, tail}, false},
		{"no p99 to compare with", func(r *result) { r.Phases[bareCalm].P99 = 0 }, []int{tail, uploadTail}, false},
		{"it fell below 50 %", func(r *result) { r.Phases[bareAt2].Goodput = 499 }, nil, false},
		{"it fell to 50 %", func(r *result) { r.Phases[bareAt2].Goodput = 500 }, []int{fall}, false},
		{"no such load", func(r *result) { r.Phases = r.Phases[:2] }, []int{goodput, tail, uploadGoodput, uploadTail, flood, critical, fall}, false},
		{"a critical one too many lost", func(r *result) { r.Phases[withRoutes].Routes[0].Answered = 998 }, []int{critical}, false},
		{"no critical one", func(r *result) { r.Phases[withRoutes].Routes = nil }, []int{critical}, false},
		{"a phase was disturbed", func(r *result) { r.Phases[5].Disturbed = "noise" }, nil, true},
		{"a tenth of drift", func(r *result) { r.Before.Rate, r.After.Rate = 1045, 955 }, nil, false},
		{"no whole core for the capacity", func(r *result) { r.After.Core = 0.94 }, nil, true},
		{"nearly a whole core for it", func(r *result) { r.After.Core = 0.95 }, nil, false},
		{"more drift", func(r *result) { r.Before.Rate, r.After.Rate = 945, 1046 }, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := ideal()
			tt.spoil(&r)
			r.conclude()
			fails := map[int]bool{}
			for _, i := range tt.fails {
				fails[i] = true
			}
			for i, c := range r.Checks {
				if c.OK == fails[i] {
					t.Errorf("check %d: %+v", i, c)
				}
			}
			if r.valid() == tt.void || r.passed() != (len(fails) == 0 && !tt.void) {
				t.Errorf("valid %v, passed %v: %v", r.valid(), r.passed(), r.Void)
			}
			text := conclusion(r)
			if strings.Contains(text, "void") != tt.void || strings.Contains(text, "Not shown") != (len(fails) > 0 && !tt.void) {
				t.Error(text)
			}
		})
	}
	if (result{}).passed() {
		t.Error("a result without checks passes")
	}
}

// A rejection costs the CPU time that the answers leave.
func TestResult_rejection(t *testing.T) {
	r := ideal()
	// 950 answers of 1 ms leave 50 ms of a second to 1050 rejections.
	if got, ok := r.rejection(r.Phases[limitedAt2]); !ok || got.Round(time.Microsecond) != 48*time.Microsecond {
		t.Errorf("%v, %v", got, ok)
	}
	p := r.Phases[limitedAt2]
	p.Worked = 1100 // answers were cheaper than when the capacity was measured
	if got, ok := r.rejection(p); !ok || got != 0 {
		t.Errorf("%v, %v", got, ok)
	}
	for _, unknown := range []func(*result, *phase){
		func(_ *result, p *phase) { p.Rejected = 0 },
		func(_ *result, p *phase) { p.Core = 0 },
		func(r *result, _ *phase) { r.Before.CPU, r.After.CPU = 0, 0 },
	} {
		r, p := ideal(), ideal().Phases[limitedAt2]
		unknown(&r, &p)
		if _, ok := r.rejection(p); ok {
			t.Errorf("a cost out of nothing: %+v", p)
		}
	}
}

// All rows of a table have as many cells as its heading.
func TestTables(t *testing.T) {
	r := ideal()
	for _, tab := range []*table{figures(r), routesOf(r), rejections(r), limits(r), verdict(r)} {
		if len(tab.rows) < 3 {
			t.Errorf("%d rows: %v", len(tab.rows), tab)
		}
		for _, row := range tab.rows {
			if len(row) != len(tab.rows[0]) {
				t.Errorf("%d cells in a row of a table of %d columns: %q", len(row), len(tab.rows[0]), row)
			}
		}
	}
	var plain, markdown bytes.Buffer
	printResult(&plain, r)
	printMarkdown(&markdown, r)
	for _, want := range []string{
		"12345 rounds", "1000 requests/s (1010 before, 990 after)", "held to one core, and the load generator to the others",
		"2.0x  with limit                                            2000        950       95.0 %  8.0 ms  20.0 ms        1050            0 ",
		"an answer", "1000 µs", "40.0 µs", "4321", "The bare service fell, the one with limit stood.",
	} {
		if !strings.Contains(plain.String(), want) {
			t.Errorf("lacks %q:\n%s", want, &plain)
		}
	}
	for _, want := range []string{
		"| load | service | offered/s |", "|---|---|--:|", "| 2.0x | with limit | 2000 | 950 | 95.0 % | 8.0 ms | 20.0 ms | 1050 | 0 |",
	} {
		if !strings.Contains(markdown.String(), want) {
			t.Errorf("lacks %q:\n%s", want, &markdown)
		}
	}
	var escaped bytes.Buffer
	tab := &table{words: 1}
	tab.add("a", "b")
	tab.add("x|y", "µ")
	tab.markdown(&escaped)
	if got := escaped.String(); got != "| a | b |\n|---|--:|\n| x\\|y | µ |\n" {
		t.Errorf("%q", got)
	}
}

// The chart is well-formed, whatever was measured.
func TestChart(t *testing.T) {
	void := ideal()
	void.Void = []string{"noise"}
	beyond := ideal()
	beyond.Phases[limitedAt2].Goodput = 1e6
	for name, r := range map[string]result{"ideal": ideal(), "void": void, "empty": {}, "beyond": beyond} {
		picture := string(chart(r))
		if err := demo.WellFormed([]byte(picture)); err != nil {
			t.Error(err)
		}
		if n := strings.Count(picture, "<polyline"); n != 2 {
			t.Errorf("%s: %d lines", name, n)
		}
		if strings.Contains(picture, "void") != (name == "void") {
			t.Errorf("%s: says whether it is void, wrongly", name)
		}
	}
	picture := string(chart(ideal()))
	for _, want := range []string{"capacity: 1000 requests/s", "95 %, p99 20 ms", "0.7x", "2x", "4x", "only the handler", "<title>Goodput of a service"} {
		if !strings.Contains(picture, want) {
			t.Errorf("the chart lacks %q", want)
		}
	}
}

// The labels of the two lines stay on the plot and apart.
func TestCanvas_labels(t *testing.T) {
	c := &canvas{&demo.Canvas{}, 4}
	for _, share := range []float64{0, 0.01, 0.1, 0.5, 1, 1.1} {
		for _, other := range []float64{0, 0.01, 0.1, 0.5, 1, 1.1} {
			r := result{Before: speed{Rate: 100}, After: speed{Rate: 100}, Phases: []phase{
				{load: fallen, Goodput: 100 * share}, {load: overloaded, Goodput: 100 * other},
			}}
			a, b := c.labelAt(r, r.Phases[0]), c.labelAt(r, r.Phases[1])
			if math.Abs(a-b) < 14 || max(a, b) > plotBottom {
				t.Errorf("goodput %v and %v: labels at %.0f and %.0f", share, other, a, b)
			}
		}
	}
}
