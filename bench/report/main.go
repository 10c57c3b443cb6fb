// Command report runs the benchmarks of package bench and prints their times
// beside the demands, which are multiples of references of the same run:
//
//	go run ./bench/report
//
// The command runs all benchmarks many times, briefly and in turn, and keeps the
// least time of each, because a disturbance only adds time. For benchmarks on all
// cores the command keeps the median: in the quickest run the cores did not meet.
//
// The command exits 1 if a demand is not met. On a machine that also does other
// work, -runs and -tolerance separate a regression from noise:
//
//	go run ./bench/report -runs 3 -tolerance 2
//
// exits 1 only if one and the same row takes more than twice its demand in each of
// three reports, and stops as soon as no such row is left.
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
	flag.IntVar(&o.passes, "passes", 20, "how many times to run all benchmarks, each time in a new process")
	flag.IntVar(&o.count, "count", 20, "how many times to run each benchmark in a pass")
	flag.StringVar(&o.benchtime, "benchtime", "5000x", "how long to run a benchmark each time, as for go test")
	flag.StringVar(&o.parallel, "parallel", "20ms", "how long to run a benchmark on all cores, once in a pass")
	flag.StringVar(&o.rows, "bench", ".", "report the rows that match this regular expression")
	flag.IntVar(&o.runs, "runs", 1, "fail only if the same row is over in each of this many reports")
	flag.Float64Var(&o.tolerance, "tolerance", 1, "a row is over if it takes more than this many times its demand")
	flag.BoolVar(&o.markdown, "markdown", false, "print Markdown")
	flag.Parse()
	over, err := report(os.Stdout, o, run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(2)
	}
	if len(over) > 0 {
		os.Exit(1)
	}
}

type options struct {
	passes, count       int
	benchtime, parallel string
	rows                string
	runs                int
	tolerance           float64
	markdown            bool
}

// measure runs the benchmarks that match pattern and returns their results by name,
// and the name of the processor.
type measure func(o options, pattern string) (results map[string]demand.Result, cpu string, err error)

// report prints up to o.runs reports and returns the rows that are over in each.
func report(w io.Writer, o options, measure measure) (over []string, err error) {
	demands, err := demandsOf(o.rows)
	if err != nil {
		return nil, err
	}
	if o.runs < 1 || !(o.tolerance >= 1) {
		return nil, fmt.Errorf("-runs is %d and -tolerance is %v: both must be at least 1", o.runs, o.tolerance)
	}
	for n := range o.runs {
		results, cpu, err := measure(o, pattern(demands))
		if err != nil {
			return nil, err
		}
		measured := make([]demand.Measured, len(demands))
		var now []string
		for i, d := range demands {
			m, err := d.Measure(results)
			if err != nil {
				return nil, err
			}
			measured[i] = m
			if !m.OK(o.tolerance) && (n == 0 || slices.Contains(over, m.Row)) {
				now = append(now, m.Row)
			}
		}
		over = now
		fmt.Fprintf(w, "%s, %d cores, %s, least of %d x %d runs of %s; in parallel median of %d of %s\n\n",
			cpu, runtime.NumCPU(), runtime.Version(), o.passes, o.count, o.benchtime, o.passes, o.parallel)
		if err := table.Write(w, cells(measured, results), o.markdown); err != nil {
			return nil, err
		}
		if o.runs > 1 {
			fmt.Fprintf(w, "\nover %v x the demand in each of %d reports: %d rows%s\n", o.tolerance, n+1, len(over), list(over))
		}
		if len(over) == 0 {
			break
		}
	}
	return over, nil
}

func list(rows []string) string {
	if len(rows) == 0 {
		return ""
	}
	return " (" + strings.Join(rows, ", ") + ")"
}

// demandsOf returns the demands on the rows that match the expression rows.
func demandsOf(rows string) ([]demand.Demand, error) {
	match, err := regexp.Compile(rows)
	if err != nil {
		return nil, fmt.Errorf("-bench: %w", err)
	}
	all := slices.Clone(demand.Table)
	for _, d := range demand.Table {
		all = append(all, d.InParallel())
	}
	demands := slices.DeleteFunc(all, func(d demand.Demand) bool { return !match.MatchString(d.Row) })
	if len(demands) == 0 {
		return nil, fmt.Errorf("no row matches %q", rows)
	}
	return demands, nil
}

// pattern returns the expression for go test -bench that runs the benchmarks of
// demands. The flag matches the levels of a name one by one and cannot select a
// list of whole names, so pattern selects groups.
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

// run is a measure: it returns the least time of each benchmark, or the median for
// benchmarks on all cores.
func run(o options, pattern string) (results map[string]demand.Result, cpu string, err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, "", err
	}
	defer os.RemoveAll(dir)
	// The binary is built once: go test would link it again in each pass.
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

// cells returns the table: the references and then the rows. The column "of demand"
// is the time of a row divided by the time that its demand allows.
func cells(rows []demand.Measured, results map[string]demand.Result) [][]string {
	all := [][]string{{"row", "ns", "multiple", "demand", "of demand", "allocs", "demand", ""}}
	for _, parallel := range []string{"", demand.Parallel} {
		for _, ref := range demand.References {
			if r, ok := results[parallel+ref]; ok {
				all = append(all, []string{parallel + ref, nanos(r.Nanos), "", "", "", strconv.Itoa(r.Allocs), "", ""})
			}
		}
	}
	for _, m := range rows {
		demand, share, verdict := "", "", ""
		if m.Most > 0 {
			demand, verdict = m.Times(m.Most), "ok"
			share = strconv.FormatFloat(m.Nanos/m.Allowed, 'f', 2, 64)
		}
		if !m.OK(1) {
			verdict = "OVER"
		}
		all = append(all, []string{
			m.Row, nanos(m.Nanos), m.Times(m.Multiple), demand, share,
			strconv.Itoa(m.Allocs), strconv.Itoa(m.MostAllocs), verdict,
		})
	}
	return all
}

func nanos(ns float64) string { return strconv.FormatFloat(ns, 'f', 1, 64) }
