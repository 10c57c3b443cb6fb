package cascade_test

import (
	"fmt"
	"strings"
	"testing"
)

// sparse are processes with so few calls that their numbers say little.
var sparse = fleet{processes: 10, rate: 2}

// seedsOf returns how often s is run with each choice. The successes and the load of one
// process in an overload vary much, because the waits of its retries are random.
func (s *replicated) seedsOf(f fleet) uint64 {
	switch {
	case brief():
		return 1
	case s.asStack && f == alone:
		return 8
	}
	return 3
}

// replicaTrials has what has come of scenarios with replicas, so that several demands can
// use it.
type replicaTrials map[replicaTrial]*outcome

type replicaTrial struct {
	s      *replicated
	n      int
	fleet  string
	choice string
}

// of returns the outcome of s with n replicas.
func (r replicaTrials) of(t *testing.T, s *replicated, n int, f fleet, c choice) *outcome {
	key := replicaTrial{s, n, f.String(), c.name}
	o := r[key]
	if o == nil {
		o = new(outcome)
		for seed := range s.seedsOf(f) {
			s.run(t, n, f, c, seed, o)
		}
		r[key] = o
	}
	return o
}

// faults returns what the stack with endpoints does worse than s demands.
func (r replicaTrials) faults(t *testing.T, s *replicated, n int, f fleet) (all []string) {
	o := r.of(t, s, n, f, stackChoosing)
	fault := func(bad bool, format string, args ...any) {
		if bad {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	fault(o.success() < s.atLeast, "%.3f %% succeed, at least %v %% wanted", o.success(), s.atLeast)
	if s.asStack {
		stack := r.of(t, s, n, f, stackRandom)
		fault(o.success() < stack.success()-1.5, "%.2f %% succeed, %.2f %% without endpoints", o.success(), stack.success())
		// A process with few calls needs six attempts to see that none of many replicas answers,
		// and the load of one process varies by more than the demand.
		fault(f != alone && (f.rate >= 50 || n < 20) && o.load() > stack.load()+0.1, "%.3f requests for each call, %.3f without endpoints", o.load(), stack.load())
	}
	if f.rate < 50 {
		return all
	}
	fault(s.share > 0 && o.share(0, trouble) > s.share, "replica 0 gets %.2f %% of the requests, at most %v %% wanted", o.share(0, trouble), s.share)
	if s.p99 > 0 {
		healthy := r.of(t, healthyReplicas, n, f, stackChoosing).quantile(.99)
		fault(o.quantile(.99) > s.p99*healthy, "99th percentile %.0f ms, in good health %.0f ms", o.quantile(.99), healthy)
	}
	if s.ofOracle > 0 && (s.speed == nil || n < 20) { // of twenty, both random choices are slow too often
		oracle := r.of(t, s, n, f, stackOracle).quantile(.99)
		fault(o.quantile(.99) > s.ofOracle*oracle, "99th percentile %.0f ms, of the oracle %.0f ms", o.quantile(.99), oracle)
	}
	return all
}

// row is a line of the table.
func (r replicaTrials) row(t *testing.T, s *replicated, n int, f fleet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | %d | ", s.name, n)
	cells := func(format string, value func(*outcome) any, choices ...choice) {
		for _, c := range choices {
			fmt.Fprintf(&b, format+" | ", value(r.of(t, s, n, f, c)))
		}
	}
	ours, pair := []choice{stackChoosing}, []choice{stackRandom, stackChoosing}
	cells("%.2f", func(o *outcome) any { return o.success() }, choices...)
	cells("%.0f", func(o *outcome) any { return o.quantile(.5) }, pair...)
	cells("%.0f", func(o *outcome) any { return o.quantile(.99) }, choices...)
	cells("%.0f", func(o *outcome) any { return o.quantile(.999) }, pair...)
	cells("%.2f", func(o *outcome) any { return o.share(0, trouble) }, stackChoosing, stackOracle)
	cells("%.2f", func(o *outcome) any { return float64(o.attempts.Load()) / float64(o.offered) }, pair...)
	cells("%.2f", func(o *outcome) any { return o.load() }, pair...)
	cells("%d", func(o *outcome) any { return o.ejections }, ours...)
	cells("%d", func(o *outcome) any { return o.probes }, ours...)
	cells("%.2f", func(o *outcome) any { return o.imbalance() }, ours...)
	return strings.TrimSpace(b.String())
}

// runs reports whether the demands on s are checked with n replicas and that fleet.
// Without -table, that is only where they say something.
func (s *replicated) runs(n int, f fleet) bool {
	switch {
	case s.half && n < 4:
		return false // that is one that is down
	case *printTable:
		return n == 3 || f == few || n == 20 && f != sparse || n == 2 && f == many
	case brief(): // of single runs the demands on the others say little
		return n == 3 && f == few && s.share > 0
	default:
		return f != sparse && (n == 3 || f == few && n != 5)
	}
}

// A replica that is down, fails or is slow costs nothing. The demands on each scenario are
// in troubles.
func TestEndpoints_badReplicaCostsNothing(t *testing.T) {
	done := replicaTrials{}
	for _, f := range []fleet{few, many, alone, sparse} {
		rows := []string{
			fmt.Sprintf("| %v | replicas | ok %%: none | naive | stack | endpoints | oracle | p50 ms: stack | endpoints | p99 ms: none | naive | stack | endpoints | oracle | p999 ms: stack | endpoints | share %%: endpoints | oracle | attempts: stack | endpoints | load: stack | endpoints | ejections | probes | imbalance |", f),
			"|" + strings.Repeat("---|", 25),
		}
		for _, n := range []int{2, 3, 5, 20} {
			for _, s := range troubles {
				if !s.runs(n, f) {
					continue
				}
				t.Run(fmt.Sprintf("%s, %d replicas, %v", s.name, n, f), func(t *testing.T) {
					for _, fault := range done.faults(t, s, n, f) {
						t.Error(fault)
					}
					if *printTable {
						rows = append(rows, done.row(t, s, n, f))
					}
				})
			}
		}
		if *printTable {
			show(t, rows)
		}
	}
	// A healthy endpoint is ejected at most once in 100 000 calls.
	calls, ejections := 0, uint64(0)
	for key, o := range done {
		if key.choice == stackChoosing.name && key.s.well {
			calls += o.calls
			ejections += o.ejections
		}
	}
	t.Logf("%d ejections in %d calls without a bad replica", ejections, calls)
	if ejections > max(1, uint64(calls/100_000)) {
		t.Errorf("%d ejections in %d calls without a bad replica, at most one in 100000 wanted", ejections, calls)
	}
}
