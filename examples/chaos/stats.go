package main

import (
	"math"
	"slices"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// tally counts requests by how they ended.
type tally struct {
	Requests int `json:"requests"`
	Good     int `json:"good"` // 2xx within goodUntil of the intended time
}

// percent is the goodput. Of no requests at all none is good.
func (t tally) percent() float64 {
	if t.Requests == 0 {
		return 0
	}
	return 100 * float64(t.Good) / float64(t.Requests)
}

// atLeast compares without rounding.
func (t tally) atLeast(percent int) bool {
	return t.Requests > 0 && 100*t.Good >= percent*t.Requests
}

func (t *tally) add(r record) {
	t.Requests++
	if r.good() {
		t.Good++
	}
}

// figure is a route in one phase.
type figure struct {
	Phase string `json:"phase"`
	tally
	Goodput float64 `json:"goodput_percent"`
	// P99 is over the answers with success, late ones included, in
	// milliseconds; nil if there was none.
	P99 *float64 `json:"p99_ms"`
}

// routeResult is a route of one system. Requests belong to the time at which
// they were to be sent, whenever they ended.
type routeResult struct {
	Name   string   `json:"route"`
	Phases []figure `json:"phases"`
	Units  []tally  `json:"per_second"`
}

// p99 is over those requests that were answered with success.
func p99(records []record) *float64 {
	var took []time.Duration
	for _, r := range records {
		if r.ok() {
			took = append(took, r.Took)
		}
	}
	if len(took) == 0 {
		return nil
	}
	ms := milliseconds(demo.Percentile(took, 99))
	return &ms
}

// milliseconds rounds to a hundredth of one.
func milliseconds(d time.Duration) float64 {
	return math.Round(d.Seconds()*1e5) / 100
}

// where returns the records of one route of one system.
func where(records []record, system, route int) []record {
	var some []record
	for _, r := range records {
		if r.System == system && r.Route == route {
			some = append(some, r)
		}
	}
	return some
}

// summarize works out a route of a system.
func summarize(s script, name string, records []record) routeResult {
	out := routeResult{Name: name, Units: make([]tally, s.units())}
	phases := make([][]record, len(s.Phases))
	for _, r := range records {
		if unit, ok := s.unitOf(r.At); ok {
			out.Units[unit].add(r)
			i := s.phaseOf(unit)
			phases[i] = append(phases[i], r)
		}
	}
	for i, p := range s.Phases {
		f := figure{Phase: p.Name, P99: p99(phases[i])}
		for _, r := range phases[i] {
			f.add(r)
		}
		f.Goodput = math.Round(f.percent()*100) / 100
		out.Phases = append(out.Phases, f)
	}
	return out
}

// amplification is the number of attempts at the broken service for each request of
// its route, while it is down. It is 0 without requests.
func amplification(s script, attempts []int, requests []tally) float64 {
	sent, asked := 0, 0
	for unit := range s.units() {
		if s.Phases[s.phaseOf(unit)].Fault.down() {
			sent += attempts[unit]
			asked += requests[unit].Requests
		}
	}
	if asked == 0 {
		return 0
	}
	return float64(sent) / float64(asked)
}

// recovery is the time from the end of the last fault to the start of the first
// whole unit in which a route is as good as new; ok is false if there is none.
func recovery(s script, requests []tally) (d time.Duration, ok bool) {
	end := 0
	for i, p := range s.Phases {
		if p.Fault != noFault {
			end = s.begin(i + 1)
		}
	}
	for unit := end; unit < s.units(); unit++ {
		if requests[unit].atLeast(99) {
			return time.Duration(unit-end) * s.Unit, true
		}
	}
	return 0, false
}

// lateness is how well the load generator kept its schedule.
type lateness struct {
	Requests int     `json:"requests"`
	P99      float64 `json:"sent_late_p99_ms"` // in the phase in which it was largest
	Max      float64 `json:"sent_late_max_ms"`
}

func lateOf(s script, records []record) lateness {
	out := lateness{Requests: len(records)}
	phases := make([][]time.Duration, len(s.Phases))
	for _, r := range records {
		if unit, ok := s.unitOf(r.At); ok {
			i := s.phaseOf(unit)
			phases[i] = append(phases[i], r.Late)
		}
	}
	for _, late := range phases {
		if len(late) > 0 {
			out.P99 = max(out.P99, milliseconds(demo.Percentile(late, 99)))
			out.Max = max(out.Max, milliseconds(slices.Max(late)))
		}
	}
	return out
}
