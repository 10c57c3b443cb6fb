package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// table prints a row for each phase as soon as it is over.
type table struct {
	out      io.Writer
	markdown bool
}

// head prints the columns, in the order of clients.
func (t *table) head() {
	cells := []string{"succeeded, p99"}
	for _, how := range []string{"", " with endpoints"} {
		for _, p := range protocols {
			cells = append(cells, p+how)
		}
	}
	t.print(cells)
	if t.markdown {
		fmt.Fprintln(t.out, "|---"+strings.Repeat("|---:", len(cells)-1)+"|")
	}
}

func (t *table) row(phase string, results []*result) {
	cells := []string{phase}
	for _, r := range results {
		p99 := demo.Percentile(r.succeeded, 99).Round(time.Millisecond)
		cells = append(cells, fmt.Sprintf("%.1f %%, %v", floor(r.success()), p99))
	}
	t.print(cells)
}

// floor rounds a percentage down to a tenth, so that 100.0 means that no call failed.
func floor(percent float64) float64 { return float64(int(percent*10)) / 10 }

func (t *table) print(cells []string) {
	if t.markdown {
		fmt.Fprintf(t.out, "| %s |\n", strings.Join(cells, " | "))
		return
	}
	fmt.Fprintf(t.out, "%-24s", cells[0])
	for _, c := range cells[1:] {
		fmt.Fprintf(t.out, " %22s", c)
	}
	fmt.Fprintln(t.out)
}
