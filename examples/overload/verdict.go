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
	minGoodput  = 0.9 // of the capacity, with limit
	fallenBelow = 0.5 // of the capacity, without
	p99Factor   = 10  // times the bare service's p99 below its capacity
)

// result is the outcome of a run.
type result struct {
	Plan          plan
	Rounds        int  // of hashing for a request
	Alone         bool // the load generator kept off the core of the service
	Before, After speed
	Phases        []phase
	Closed        phase // every request was rejected
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
func (r result) find(a arm, load float64) phase {
	for _, p := range r.Phases {
		if p.Arm == a && p.Load == load {
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

// rejection returns what it costs the service to reject a request of a phase, and whether
// that is known. It is the CPU time that the answers leave, and an answer costs what it
// cost while the capacity was measured. Abandoned requests are not counted, so that the
// true cost is not higher.
func (r result) rejection(p phase) (time.Duration, bool) {
	cpu := (r.Before.CPU + r.After.CPU) / 2
	if cpu == 0 || p.Core == 0 || p.Rejected == 0 {
		return 0, false
	}
	spare := p.Core - p.Worked*cpu.Seconds()
	return time.Duration(math.Round(max(0, spare) / p.Rejected * float64(time.Second))), true
}

// conclude fills in Checks and Void.
func (r *result) conclude() {
	r.Void = nil
	for _, p := range append(r.Phases[:len(r.Phases):len(r.Phases)], r.Closed) {
		if p.Disturbed != "" {
			r.Void = append(r.Void, fmt.Sprintf("%.1fx, %s: %s", p.Load, armNames[p.Arm], p.Disturbed))
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
	calm, over, fallen := r.find(bare, r.Plan.Loads[0]), r.find(limited, checked), r.find(bare, checked)
	bound := p99Factor * calm.P99
	r.Checks = []demo.Check{
		{
			What: "with limit: goodput at 2x",
			Want: fmt.Sprintf(">= %.0f %% of capacity", 100*minGoodput),
			Got:  fmt.Sprintf("%.1f %%", 100*r.ofCapacity(over)),
			OK:   r.ofCapacity(over) >= minGoodput,
		},
		{
			What: "with limit: p99 at 2x",
			Want: fmt.Sprintf("<= %d x %.1f ms", p99Factor, milliseconds(calm.P99)),
			Got:  latency(over.P99),
			OK:   over.P99 > 0 && over.P99 <= bound,
		},
		{
			What: "bare: goodput at 2x",
			Want: fmt.Sprintf("< %.0f %% of capacity", 100*fallenBelow),
			Got:  fmt.Sprintf("%.1f %%", 100*r.ofCapacity(fallen)),
			OK:   fallen.Offered > 0 && r.ofCapacity(fallen) < fallenBelow,
		},
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
