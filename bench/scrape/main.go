// Command scrape measures what it costs calls that their policies are scraped by
// Prometheus, and what a scrape itself costs:
//
//	go run ./bench/scrape
//
// Each row compares two arms in pairs of halves, one directly after the other, the
// next pair in the other order. README.md in the folder above says how to read the
// table.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bench/internal/pairs"
	"github.com/resilience-go/resilience/bench/internal/table"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/metrics"
	"github.com/resilience-go/resilience/retry"
)

func main() {
	var o options
	flag.IntVar(&o.pairs, "pairs", 40, "how many pairs to measure for each row")
	flag.DurationVar(&o.half, "half", 50*time.Millisecond, "how long each half of a pair takes")
	flag.DurationVar(&o.every, "every", 10*time.Millisecond, "how often to scrape while calls are measured")
	flag.BoolVar(&o.markdown, "markdown", false, "print Markdown")
	flag.Parse()
	ok, err := report(os.Stdout, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "scrape:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

type options struct {
	pairs       int
	half, every time.Duration
	markdown    bool
}

const (
	// goal is what calls may take while they are scraped, in calls that are not.
	goal = 1.02
	// demand is what a scrape of keyed breakers may take, in scrapes of as many plain
	// gauges.
	demand = 3
	keys   = 1000
	// calls are so many that looking at the clock between them is nothing.
	calls = 1000
)

// The names of the rows.
const (
	nullRow   = "1000 calls, null"
	callsRow  = "1000 calls, scraped"
	closedRow = "scrape of 1000 keyed breakers, CLOSED"
	openRow   = "scrape of 1000 keyed breakers, OPEN"
)

// report prints the table and returns whether the demands are met; a goal is none.
func report(w io.Writer, o options) (ok bool, err error) {
	if o.pairs < 1 || o.half <= 0 || o.every <= 0 {
		return false, errors.New("-pairs must be at least 1, and -half and -every positive")
	}
	rows, scraped, err := newRows()
	if err != nil {
		return false, err
	}
	measured, err := pairs.Measure(rows, o.pairs, func(a pairs.Arm) (float64, error) {
		if a.Name == callsRow {
			defer background(o.every, scraped)()
		}
		return half(a, o.half)
	})
	if err != nil {
		return false, err
	}
	fmt.Fprintf(w, "%d cores, %s, %d pairs of 2 x %v, scraped every %v\n\n",
		runtime.GOMAXPROCS(0), runtime.Version(), o.pairs, o.half, o.every)
	ok = true
	for _, m := range measured {
		ok = ok && (m.Goal != demand || m.Ratios().Median <= demand)
	}
	return ok, table.Write(w, pairs.Cells(measured), o.markdown)
}

// newRows returns the rows and what scrapes the policy that callsRow calls.
func newRows() (rows []pairs.Row, scraped func() error, err error) {
	var stacks [3]resilience.Policy // the same, each in a place of its own
	for i := range stacks {
		stacks[i] = resilience.Compose(
			resilience.Must(retry.New(retry.Config{})),
			resilience.Must(breaker.New(breaker.Config{})),
			resilience.Must(bulkhead.New(bulkhead.Config{})),
		)
	}
	if scraped, err = scrape(metrics.NewCollector(stacks[2])); err != nil {
		return nil, nil, err
	}
	gauges := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "plain", Help: "A plain gauge."}, []string{"key"})
	for i := range keys {
		gauges.WithLabelValues(key(i)).Set(float64(i))
	}
	plain, err := scrape(gauges, nil)
	if err != nil {
		return nil, nil, err
	}
	closed, err := scrape(metrics.NewCollector(group(nil)))
	if err != nil {
		return nil, nil, err
	}
	open, err := scrape(metrics.NewCollector(group(errors.New("down"))))
	if err != nil {
		return nil, nil, err
	}
	alone := pairs.Arm{Name: "1000 calls", Do: call(stacks[0])}
	gauge := pairs.Arm{Name: "scrape of 1000 gauges", Do: plain}
	return []pairs.Row{
		{Name: nullRow, Base: alone, Ours: pairs.Arm{Name: nullRow, Do: call(stacks[1])}},
		{Name: callsRow, Base: alone, Ours: pairs.Arm{Name: callsRow, Do: call(stacks[2])}, Goal: goal},
		{Name: closedRow, Base: gauge, Ours: pairs.Arm{Name: closedRow, Do: closed}, Goal: demand},
		{Name: openRow, Base: gauge, Ours: pairs.Arm{Name: openRow, Do: open}, Goal: demand},
	}, scraped, nil
}

func key(i int) string { return fmt.Sprintf("https://host-%d.example.com:443", i) }

// group returns breakers for all keys, each of which has seen a call that ended with
// err, and opened if that is an error.
func group(err error) *keyed.Group {
	b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Hour}))
	g := resilience.Must(keyed.New(b, keyed.Config{}))
	for i := range keys {
		_ = resilience.Run(context.Background(), g.For(key(i)), func(context.Context) error { return err })
	}
	return g
}

// call returns a func that makes calls with p, which succeed.
func call(p resilience.Policy) func() error {
	op := resilience.Func(func(context.Context) error { return nil })
	return func() error {
		for range calls {
			if err := resilience.RunOperation(context.Background(), p, op); err != nil {
				return err
			}
		}
		return nil
	}
}

// scrape returns a func that does what a scrape does: it gathers what c has and
// encodes it as text.
func scrape(c prometheus.Collector, err error) (func() error, error) {
	if err != nil {
		return nil, err
	}
	reg := prometheus.NewRegistry()
	if err := reg.Register(c); err != nil {
		return nil, err
	}
	return func() error {
		families, err := reg.Gather()
		if err != nil {
			return err
		}
		e := expfmt.NewEncoder(io.Discard, expfmt.NewFormat(expfmt.TypeTextPlain))
		for _, f := range families {
			if err := e.Encode(f); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// background scrapes again and again until stop is called.
func background(every time.Duration, scrape func() error) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if err := scrape(); err != nil {
					panic(err) // a registry that has gathered before
				}
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// half does a for so long and returns what doing it once took in nanoseconds. Garbage
// from before is collected first and not measured.
func half(a pairs.Arm, long time.Duration) (nanos float64, err error) {
	runtime.GC()
	begun, n := time.Now(), 0
	for ; n == 0 || time.Since(begun) < long; n++ {
		if err := a.Do(); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(begun)) / float64(n), nil
}
