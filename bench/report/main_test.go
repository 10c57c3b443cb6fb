package main

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/resilience-go/resilience/bench/internal/demand"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		line, name string
		want       demand.Result
		ok         bool
	}{
		{"BenchmarkRetry/first_try-2 \t 2059465\t        12.3 ns/op\t       0 B/op\t       3 allocs/op\n", "Retry/first_try", demand.Result{Nanos: 12.3, Allocs: 3}, true},
		{"BenchmarkLayer/plain/5 \t 1\t 7 ns/op\n", "Layer/plain/5", demand.Result{Nanos: 7}, true},
		{"BenchmarkRetry/first_try-2\n", "", demand.Result{}, false},
		{"PASS\n", "", demand.Result{}, false},
	} {
		name, got, ok := parse(c.line)
		if ok != c.ok || ok && (name != c.name || got != c.want) {
			t.Errorf("parse(%q) = %q, %v, %v", c.line, name, got, ok)
		}
	}
}

func TestDemand_measure(t *testing.T) {
	d := demand.Demand{Row: "x", Of: "x/5", Less: "x/1", Share: 4, Unit: demand.Call, Most: 2, Beside: demand.Clock, MostAllocs: 1}
	results := map[string]demand.Result{
		"x/5": {Nanos: 150, Allocs: 1}, "x/1": {Nanos: 30}, demand.Call: {Nanos: 5}, demand.Clock: {Nanos: 20},
	}
	m, err := d.Measure(results)
	if err != nil {
		t.Fatal(err)
	}
	if m.Nanos != 30 || m.Multiple != 2 || m.Allowed != 30 || m.Allocs != 1 || !m.OK(1) {
		t.Errorf("30 ns are 2 calls of 5 ns and a clock of 20 ns with one allocation, got %+v", m)
	}
	if got := d.Times(2); got != "2 call + 1 clock" {
		t.Errorf("the demand reads %q", got)
	}
	d.Most = 1.9
	if m, _ = d.Measure(results); m.OK(1) {
		t.Error("2 calls are more than 1.9")
	}
	delete(results, "x/1")
	if _, err := d.Measure(results); err == nil {
		t.Error("a benchmark that did not run is an error")
	}
}

// A tolerance is on the whole time that a demand allows, and not on allocations.
func TestMeasured_tolerance(t *testing.T) {
	m := demand.Measured{Demand: demand.Demand{Most: 1, MostAllocs: 1}, Allowed: 30}
	for _, c := range []struct {
		nanos  float64
		allocs int
		want   bool
	}{{60, 1, true}, {61, 1, false}, {10, 2, false}} {
		m.Result = demand.Result{Nanos: c.nanos, Allocs: c.allocs}
		if got := m.OK(2); got != c.want {
			t.Errorf("%v ns and %d allocations are ok at tolerance 2: %v", c.nanos, c.allocs, got)
		}
	}
}

// exactly returns results in which each row takes times its demand, and no row
// allocates more than its demand.
func exactly(times map[string]float64) map[string]demand.Result {
	results := map[string]demand.Result{}
	all := slices.Clone(demand.Table)
	for _, d := range demand.Table {
		all = append(all, d.InParallel())
	}
	for _, d := range all {
		for _, name := range d.Benchmarks() {
			results[name] = demand.Result{}
		}
	}
	for name := range results {
		if strings.Contains(name, "Ref/") {
			results[name] = demand.Result{Nanos: 10}
		}
	}
	for _, d := range all {
		m, _ := d.Measure(results)
		if factor := times[d.Row]; factor > 0 {
			results[d.Benchmark()] = demand.Result{Nanos: factor * m.Allowed * float64(max(1, d.Share))}
		}
	}
	return results
}

// The report fails only if one row is over its tolerance in every run, and it makes
// no further run once no such row is left.
func TestReport_overInEachRun(t *testing.T) {
	const a, b = "Retry/first_try", "Parallel/Breaker/default/open"
	type run = map[string]float64
	for _, c := range []struct {
		name      string
		runs      int
		tolerance float64
		takes     []run
		over      []string
		made      int
	}{
		{"a plain report", 1, 1, []run{{a: 0.99, b: 0.99}}, nil, 1},
		{"a plain report, one row over", 1, 1, []run{{a: 1.01}}, []string{a}, 1},
		{"over three times", 3, 2, []run{{a: 2.1, b: 2.1}, {a: 2.1}, {a: 9}}, []string{a}, 3},
		{"within twice", 3, 2, []run{{a: 1.9, b: 1.9}}, nil, 1},
		{"another row each time", 3, 2, []run{{a: 2.1}, {b: 2.1}}, nil, 2},
		{"quick in the third", 3, 2, []run{{a: 2.1}, {a: 2.1}, {a: 1.9}}, nil, 3},
		{"over again after a quick run", 3, 2, []run{{a: 2.1}, {a: 1}, {a: 2.1}}, nil, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			made := 0
			over, err := report(&out, options{rows: ".", runs: c.runs, tolerance: c.tolerance}, func(options, string) (map[string]demand.Result, string, error) {
				made++
				return exactly(c.takes[made-1]), "cpu", nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(over, c.over) || made != c.made {
				t.Errorf("over %q after %d runs, want %q after %d", over, made, c.over, c.made)
			}
			if n := strings.Count(out.String(), "of demand"); n != made {
				t.Errorf("%d tables are printed for %d runs", n, made)
			}
		})
	}
}

func TestReport_errors(t *testing.T) {
	boom := errors.New("boom")
	fails := func(options, string) (map[string]demand.Result, string, error) { return nil, "", boom }
	none := func(options, string) (map[string]demand.Result, string, error) { return nil, "", nil }
	for name, c := range map[string]struct {
		o       options
		measure measure
	}{
		"no run":              {options{rows: ".", tolerance: 1}, none},
		"a tolerance below 1": {options{rows: ".", runs: 1, tolerance: 0.5}, none},
		"no such row":         {options{rows: "nothing", runs: 1, tolerance: 1}, none},
		"not an expression":   {options{rows: "(", runs: 1, tolerance: 1}, none},
		"benchmarks fail":     {options{rows: ".", runs: 1, tolerance: 1}, fails},
		"a row did not run":   {options{rows: ".", runs: 1, tolerance: 1}, none},
	} {
		if _, err := report(&strings.Builder{}, c.o, c.measure); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The table in README.md is the output of the command for the demands of today.
func TestReport_readme(t *testing.T) {
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range demand.Table {
		for _, d := range []demand.Demand{d, d.InParallel()} {
			_, line, ok := strings.Cut(string(page), "\n| "+d.Row+" | ")
			line, _, _ = strings.Cut(line, "\n")
			if want := d.Times(d.Most); !ok || d.Most > 0 && !strings.Contains(line, "| "+want+" |") {
				t.Errorf("the row %s reads %q, want the demand %q: run the command again", d.Row, line, want)
			}
		}
	}
}
