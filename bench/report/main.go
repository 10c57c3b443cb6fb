// Command report runs the benchmarks of package bench and prints what they took
// beside what is demanded, in multiples of the references of the same run:
//
//	go run ./bench/report
//
// It runs all of them many times over, one after the other and briefly, and keeps
// the least time of each: what a call takes when nothing else disturbs it. Of
// those that run on all cores it keeps the median: the least would be that of a
// run in which the cores did not meet. It exits 1 if a demand is not met.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/resilience-go/resilience/bench/internal/demand"
	"github.com/resilience-go/resilience/bench/internal/table"
)

func main() {
	var o options
	flag.IntVar(&o.passes, "passes", 20, "how often to run all benchmarks, each time in a new process")
	flag.IntVar(&o.count, "count", 20, "how often to run each of them in a pass")
	flag.StringVar(&o.benchtime, "benchtime", "5000x", "how long to run it each time, as for go test")
	flag.StringVar(&o.parallel, "parallel", "20ms", "how long to run those on all cores, once in a pass")
	flag.StringVar(&o.rows, "bench", ".", "report the rows that match this regular expression")
	flag.BoolVar(&o.markdown, "markdown", false, "print Markdown")
	flag.Parse()
	ok, err := report(os.Stdout, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

type options struct {
	passes, count       int
	benchtime, parallel string
	rows                string
	markdown            bool
}

func report(w io.Writer, o options) (ok bool, err error) {
	match, err := regexp.Compile(o.rows)
	if err != nil {
		return false, fmt.Errorf("-bench: %w", err)
	}
	var demands []demand.Demand
	all := slices.Clone(demand.Table)
	for _, d := range demand.Table {
		all = append(all, d.InParallel())
	}
	for _, d := range all {
		if match.MatchString(d.Row) {
			demands = append(demands, d)
		}
	}
	if len(demands) == 0 {
		return false, fmt.Errorf("no row matches %q", o.rows)
	}
	results, cpu, err := run(o, pattern(demands))
	if err != nil {
		return false, err
	}
	var measured []demand.Measured
	ok = true
	for _, d := range demands {
		m, err := d.Measure(results)
		if err != nil {
			return false, err
		}
		measured = append(measured, m)
		ok = ok && m.OK()
	}
	fmt.Fprintf(w, "%s, %d cores, %s, least of %d x %d runs of %s; in parallel median of %d of %s\n\n",
		cpu, runtime.NumCPU(), runtime.Version(), o.passes, o.count, o.benchtime, o.passes, o.parallel)
	return ok, table.Write(w, cells(measured, results), o.markdown)
}

// pattern returns what go test needs to run the benchmarks of demands. It matches
// the levels of a name one by one, so it cannot ask for a whole name: it asks for
// the groups.
func pattern(demands []demand.Demand) string {
	groups := map[string]bool{}
	var list []string
	for _, d := range demands {
		for _, name := range d.Benchmarks() {
			group, _, _ := strings.Cut(name, "/")
			if !groups[group] {
				groups[group] = true
				list = append(list, group)
			}
		}
	}
	return "^Benchmark(" + strings.Join(list, "|") + ")$"
}

// run runs the benchmarks that match pattern and returns the least that each took,
// and the name of the processor.
func run(o options, pattern string) (results map[string]demand.Result, cpu string, err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, "", err
	}
	defer os.RemoveAll(dir)
	// Built once: go test would link it anew in each pass.
	binary := filepath.Join(dir, "bench.test")
	build := exec.Command("go", "test", "-c", "-o", binary, "github.com/resilience-go/resilience/bench")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, "", fmt.Errorf("go test -c: %w", err)
	}
	runs := map[string][]demand.Result{}
	for pass := range o.passes {
		fmt.Fprintf(os.Stderr, "\rpass %d of %d", pass+1, o.passes)
		alone := exec.Command(binary, "-test.run=^$", "-test.bench="+pattern, "-test.skip=^BenchmarkParallel$",
			"-test.benchtime="+o.benchtime, "-test.count="+strconv.Itoa(o.count))
		together := exec.Command(binary, "-test.run=^$", "-test.bench="+pattern, "-test.skip=^Benchmark[^P]",
			"-test.benchtime="+o.parallel)
		for _, test := range []*exec.Cmd{alone, together} {
			out, err := test.CombinedOutput()
			if err != nil {
				return nil, "", fmt.Errorf("the benchmarks: %w\n%s", err, out)
			}
			for line := range strings.Lines(string(out)) {
				if name, ok := strings.CutPrefix(line, "cpu: "); ok {
					cpu = strings.TrimSpace(name)
				}
				if name, r, ok := parse(line); ok {
					runs[name] = append(runs[name], r)
				}
			}
		}
	}
	fmt.Fprint(os.Stderr, "\r                    \r")
	results = map[string]demand.Result{}
	for name, of := range runs {
		slices.SortFunc(of, func(a, b demand.Result) int { return cmp.Compare(a.Nanos, b.Nanos) })
		results[name] = of[0]
		if strings.HasPrefix(name, demand.Parallel) {
			results[name] = of[len(of)/2]
		}
	}
	return results, cpu, nil
}

var cores = regexp.MustCompile(`-\d+$`)

// parse reads a line such as
//
//	BenchmarkRetry/first_try-2   2059465   12.3 ns/op   0 B/op   0 allocs/op
func parse(line string) (name string, r demand.Result, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
		return "", r, false
	}
	name = cores.ReplaceAllString(strings.TrimPrefix(fields[0], "Benchmark"), "")
	for i := 2; i+1 < len(fields); i += 2 {
		value, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return "", r, false
		}
		switch fields[i+1] {
		case "ns/op":
			r.Nanos, ok = value, true
		case "allocs/op":
			r.Allocs = int(value)
		}
	}
	return name, r, ok
}

// cells returns the table: the references, and then the rows.
func cells(rows []demand.Measured, results map[string]demand.Result) [][]string {
	all := [][]string{{"row", "ns", "multiple", "demand", "allocs", "demand", ""}}
	for _, ref := range []string{demand.Add, demand.ContendedAdd, demand.Clock, demand.Timeout, demand.AllocClient, demand.AllocServer} {
		if r, ok := results[ref]; ok {
			all = append(all, []string{ref, nanos(r.Nanos), "", "", strconv.Itoa(r.Allocs), "", ""})
		}
	}
	for _, m := range rows {
		demand, verdict := "", ""
		if m.Most > 0 {
			demand, verdict = m.Times(m.Most), "ok"
		}
		if !m.OK() {
			verdict = "OVER"
		}
		all = append(all, []string{
			m.Row, nanos(m.Nanos), m.Times(round(m.Multiple)), demand,
			strconv.Itoa(m.Allocs), strconv.Itoa(m.MostAllocs), verdict,
		})
	}
	return all
}

func nanos(ns float64) string { return strconv.FormatFloat(ns, 'f', 1, 64) }

func round(x float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'f', 2, 64), 64)
	return r
}
