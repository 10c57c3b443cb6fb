package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/resilience-go/resilience"
	"google.golang.org/grpc/status"
)

// row is what became of the calls that ended since the row before.
type row struct {
	at                  time.Duration // since the start
	server              fault
	ok, failed, refused int
	median              time.Duration // that a call took
	attempts            int64         // that reached the server
	breaker             string        // its state
}

// table prints rows, and between them what happens. It observes the policies.
type table struct {
	w     io.Writer
	start time.Time

	mu      sync.Mutex // for what follows, and for w
	now     row
	took    []time.Duration // by the calls of now
	rows    []row
	breaker string
	errors  map[string]int // that callers got, by what they say
}

func (t *table) begin() {
	t.start = time.Now()
	t.errors = map[string]int{}
	t.breaker = "CLOSED"
	fmt.Fprintln(t.w, "    s  server          ok  failed  refused     median  attempts  breaker")
}

// record adds a call that ended.
func (t *table) record(took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.took = append(t.took, took)
	switch {
	case err == nil:
		t.now.ok++
	case errors.Is(err, resilience.ErrRejected):
		t.now.refused++
		t.errors[fmt.Sprintf("%v, and errors.Is says resilience.ErrRejected", status.Code(err))]++
	default:
		t.now.failed++
		t.errors[status.Code(err).String()]++
	}
}

// row ends a row and prints it.
func (t *table) row(server fault, attempts int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.now
	r.at, r.server, r.attempts, r.breaker, r.median = time.Since(t.start), server, attempts, t.breaker, median(t.took)
	t.rows = append(t.rows, r)
	t.now, t.took = row{}, t.took[:0]
	fmt.Fprintf(t.w, "%5.1f  %-11s %6d  %6d  %7d  %6.2f ms  %8d  %s\n",
		r.at.Seconds(), r.server, r.ok, r.failed, r.refused, milliseconds(r.median), r.attempts, r.breaker)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// note prints what happened.
func (t *table) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.print(format, args...)
}

func (t *table) print(format string, args ...any) {
	fmt.Fprintf(t.w, "%5.1f  * %s\n", time.Since(t.start).Seconds(), fmt.Sprintf(format, args...))
}

// Observe implements resilience.Observer. Each probe that fails opens the breaker
// again: only the first time is news.
func (t *table) Observe(_ context.Context, e resilience.Event) {
	if e.To == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.breaker = e.To
	switch {
	case e.From == "CLOSED":
		t.print("the breaker opens: %d attempts in a row have failed, %s", e.Failures, e.Reason)
	case e.To == "CLOSED":
		t.print("the breaker closes")
	}
}

// summary prints the sums of the rows and of what came after the last one.
func (t *table) summary(attempts int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := t.now
	sum.attempts = attempts
	var down row
	for _, r := range t.rows {
		if r.server == hanging || r.server == unavailable {
			down.refused += r.refused
			down.attempts += r.attempts
		}
		sum.ok += r.ok
		sum.failed += r.failed
		sum.refused += r.refused
		sum.attempts += r.attempts
	}
	fmt.Fprintf(t.w, "\n%5s  %-11s %6d  %6d  %7d  %9s  %8d\n", "", "in all", sum.ok, sum.failed, sum.refused, "", sum.attempts)
	fmt.Fprint(t.w, "\nThe errors that callers got:\n")
	for _, what := range slices.Sorted(maps.Keys(t.errors)) {
		fmt.Fprintf(t.w, "%5d  %s\n", t.errors[what], what)
	}
	fmt.Fprintf(t.w, "\nWhile the server was down %d attempts reached it, and %d calls were refused at once\nthat would have waited for it or bothered it.\n", down.attempts, down.refused)
}
