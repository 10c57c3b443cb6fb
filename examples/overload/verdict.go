package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// The bounds of the verdict.
const (
	minGoodput  = 0.95  // of the capacity at twice the load, with limit
	minFlooded  = 0.9   // and at four times the load
	minCritical = 0.999 // of the critical requests
	fallenBelow = 0.5   // of the capacity, without
	p99Factor   = 5     // times the bare service's p99 below its capacity
)

// result is the outcome of a run.
type result struct {
	Plan          plan
	Rounds        int  // of hashing for a request
	Alone         bool // the load generator kept off the core of the service
	Before, After speed
	Phases        []phase
	Rejection     float64 // the CPU time of a rejection, as a share of an answer's; 0 if unknown
	Checks        []demo.Check
	Void          []string // what disturbed the run, which then shows nothing
}

// capacity is the mean of the capacities before and after everything else, so that a
// machine that slows down during the run favours neither arm.
func (r result) capacity() float64 { return (r.Before.Rate + r.After.Rate) / 2 }

// valid reports whether nothing disturbed the run.
func (r result) valid() bool { return len(r.Void) == 0 }

func (r result) passed() bool { return r.valid() && demo.Passed(r.Checks) }

// find returns the zero phase, in which nothing was answered, if there is none.
func (r result) find(l load) phase {
	for _, p := range r.Phases {
		if p.load == l {
			return p
		}
	}
	return phase{}
}

// ofCapacity is the goodput as a share of the capacity.
func (r result) ofCapacity(p phase) float64 {
	if r.capacity() == 0 {
		return 0
	}
	return p.Goodput / r.capacity()
}

// answer returns the CPU time of an answer, 0 if it is unknown.
func (r result) answer() time.Duration { return (r.Before.CPU + r.After.CPU) / 2 }

// rejection returns what it costs the service to reject a request of a phase, and whether
// that is known. It is the CPU time that the answers leave, and an answer costs what it
// cost while the capacity was measured. Abandoned requests are not counted, so that the
// true cost is not higher.
func (r result) rejection(p phase) (time.Duration, bool) {
	cpu := r.answer()
	if cpu == 0 || p.Core == 0 || p.Rejected == 0 {
		return 0, false
	}
	spare := p.Core - p.Worked*cpu.Seconds()
	return time.Duration(math.Round(max(0, spare) / p.Rejected * float64(time.Second))), true
}

// conclude fills in Checks and Void.
func (r *result) conclude() {
	r.Void = nil
	for _, p := range r.Phases {
		if p.Disturbed != "" {
			r.Void = append(r.Void, fmt.Sprintf("%v: %s", p.load, p.Disturbed))
		}
	}
	for when, s := range map[string]speed{"before": r.Before, "after": r.After} {
		if s.Core > 0 && s.Core < minCore {
			r.Void = append(r.Void, fmt.Sprintf("the service got only %.0f %% of its core while its capacity was measured %s", 100*s.Core, when))
		}
	}
	if drift := math.Abs(r.After.Rate-r.Before.Rate) / r.capacity(); !(drift <= maxDrift) {
		r.Void = append(r.Void, fmt.Sprintf("the service could do %.0f requests/s before and %.0f after", r.Before.Rate, r.After.Rate))
	}
	bound := p99Factor * r.find(calm).P99
	r.Checks = []demo.Check{
		r.goodput(overloaded, minGoodput), r.tail(overloaded, bound),
		r.goodput(attacked, minGoodput), r.tail(attacked, bound),
		r.goodput(flooded, minFlooded), r.critical(ranked, minCritical),
	}
	fell := r.find(fallen)
	r.Checks = append(r.Checks, demo.Check{
		What: fmt.Sprintf("%v: goodput", fallen),
		Want: fmt.Sprintf("< %.0f %% of capacity", 100*fallenBelow),
		Got:  fmt.Sprintf("%.1f %%", 100*r.ofCapacity(fell)),
		OK:   fell.Offered > 0 && r.ofCapacity(fell) < fallenBelow,
	})
}

// goodput checks that a load has at least a share of the capacity.
func (r *result) goodput(l load, least float64) demo.Check {
	got := r.ofCapacity(r.find(l))
	return demo.Check{
		What: fmt.Sprintf("%v: goodput", l),
		Want: fmt.Sprintf(">= %.0f %% of capacity", 100*least),
		Got:  fmt.Sprintf("%.1f %%", 100*got),
		OK:   got >= least,
	}
}

// critical checks that at least a share of the critical requests of a load is answered.
func (r *result) critical(l load, least float64) demo.Check {
	got := 0.0
	for _, p := range r.find(l).Routes {
		if p.Name == "critical" && p.Offered > 0 {
			got = p.Answered / p.Offered
		}
	}
	return demo.Check{
		What: fmt.Sprintf("%v: critical requests answered", l),
		Want: fmt.Sprintf(">= %.1f %%", 100*least),
		Got:  fmt.Sprintf("%.2f %%", 100*got),
		OK:   got >= least,
	}
}

// tail checks that the p99 of a load is within a bound.
func (r *result) tail(l load, bound time.Duration) demo.Check {
	got := r.find(l).P99
	return demo.Check{
		What: fmt.Sprintf("%v: p99", l),
		Want: fmt.Sprintf("<= %d x %.1f ms", p99Factor, milliseconds(bound/p99Factor)),
		Got:  latency(got),
		OK:   got > 0 && got <= bound,
	}
}

// conclusion puts the checks in a sentence.
func conclusion(r result) string {
	switch {
	case !r.valid():
		return "This run is void: the machine was too busy with something else, or too slow for the load.\n  " + strings.Join(r.Void, "\n  ")
	case !r.passed():
		return demo.NotShown(r.Checks)
	}
	return "The bare service fell, the one with limit stood."
}
