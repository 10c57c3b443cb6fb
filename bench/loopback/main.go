// Command loopback measures what httpmw and the default stacks cost a request over
// a real connection, as a ratio to the same request without them:
//
//	go run ./bench/loopback
//
// It runs an HTTP/1 server on the loopback interface and a client, in one process.
// The ratio covers the client and the server. For each row it measures
// pairs: the same number of requests without and with what the row is about, one
// directly after the other, and the next pair in the other order. README.md in the
// folder above says how to read the table.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"

	"github.com/resilience-go/resilience/bench/internal/pairs"
	"github.com/resilience-go/resilience/bench/internal/table"
)

func main() {
	var o options
	flag.IntVar(&o.pairs, "pairs", 20, "how many pairs to measure for each row")
	flag.IntVar(&o.requests, "requests", 10000, "how many requests to make in each half of a pair")
	flag.IntVar(&o.concurrency, "concurrency", 64, "how many goroutines make them")
	flag.StringVar(&o.row, "row", "", "measure only the row of this `NAME`")
	flag.BoolVar(&o.markdown, "markdown", false, "print Markdown")
	flag.Parse()
	if err := report(os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, "loopback:", err)
		os.Exit(2)
	}
}

// mostAtATime is what the warm-up can make room for in a bulkhead with room for 24.
const mostAtATime = 96

type options struct {
	pairs, requests, concurrency int
	row                          string // "" for all
	markdown                     bool
}

func (o options) validate() error {
	if o.pairs < 1 || o.requests < 1 || o.concurrency < 1 || o.concurrency > mostAtATime {
		return fmt.Errorf("-pairs and -requests must be at least 1, and -concurrency from 1 to %d", mostAtATime)
	}
	return nil
}

func report(w io.Writer, o options) error {
	if err := o.validate(); err != nil {
		return err
	}
	s, err := listen()
	if err != nil {
		return err
	}
	defer s.close()
	l := newLoad(o.concurrency)
	rows := rowsFor(l, s)
	if o.row != "" {
		rows = slices.DeleteFunc(rows, func(r pairs.Row) bool { return r.Name != o.row })
	}
	if len(rows) == 0 {
		return fmt.Errorf("there is no row %q", o.row)
	}
	if err := l.warmUp(rows, o.requests); err != nil {
		return err
	}
	dialed := l.dialed.Load()
	measured, err := pairs.Measure(rows, o.pairs, func(a pairs.Arm) (float64, error) { return l.half(a, o.requests) })
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%d cores, %s, %d pairs of 2 x %d requests, %d at a time; connections made while measuring: %d\n\n",
		runtime.GOMAXPROCS(0), runtime.Version(), o.pairs, o.requests, o.concurrency, l.dialed.Load()-dialed)
	return table.Write(w, pairs.Cells(measured), o.markdown)
}
