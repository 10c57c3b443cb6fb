package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
	"github.com/resilience-go/resilience/limit"
)

// phase is the result of a load. Rates are per second, and of the requests that were to
// be sent in the measured part, whenever they ended.
type phase struct {
	load
	Open      int // slow uploads that were open at the end
	Offered   float64
	Goodput   float64 // answered in time
	Rejected  float64
	Abandoned float64
	Failed    float64
	P50, P99  time.Duration // of the answers in time, from when they were to be sent; 0 without any
	Routes    []route       // if some requests are critical
	Late      time.Duration // p99 of sending late
	Sender    float64       // cores that the load generator needed; 0 if unknown
	// From the reports of the service.
	Worked    float64 // requests that the handler finished
	Core      float64 // of its core, 1 for all; 0 if unknown
	Stolen    float64 // the share of the time for which it waited for its core; 0 if unknown
	Most      int64   // requests in the handler at once, since the start
	Limit     *limit.Stats
	Disturbed string // by what, "" by nothing
}

// route is the part of a load that goes to one route.
type route struct {
	Name     string
	Offered  float64
	Answered float64 // in time
	P99      time.Duration
}

// summarize computes the figures of the callers.
func summarize(l load, records []record, p plan) phase {
	ph := summary(l, records, p)
	if l.Critical == 0 {
		return ph
	}
	for _, critical := range []bool{true, false} {
		some := slices.DeleteFunc(slices.Clone(records), func(r record) bool { return r.Critical != critical })
		part := summary(l, some, p)
		name := "bulk"
		if critical {
			name = "critical"
		}
		ph.Routes = append(ph.Routes, route{name, part.Offered, part.Goodput, part.P99})
	}
	return ph
}

func summary(l load, records []record, p plan) phase {
	ph := phase{load: l}
	var took, late []time.Duration
	var n [failed + 1]int
	for _, r := range records {
		if r.At < p.Warm || r.At >= p.Warm+p.Measure {
			continue
		}
		n[r.End]++
		late = append(late, r.Late)
		if r.End == answered {
			took = append(took, r.Took)
		}
	}
	perSecond := func(n int) float64 { return float64(n) / p.Measure.Seconds() }
	ph.Offered = perSecond(len(late))
	ph.Goodput, ph.Rejected = perSecond(n[answered]), perSecond(n[rejected])
	ph.Abandoned, ph.Failed = perSecond(n[abandoned]), perSecond(n[failed])
	ph.P50, ph.P99, ph.Late = demo.Percentile(took, 50), demo.Percentile(took, 99), demo.Percentile(late, 99)
	return ph
}

// watch computes the figures of the service from begin to end. They stay 0 if the
// service was too busy to report.
func (p *phase) watch(past []moment, begin, end time.Time) {
	if n := len(past); n > 0 {
		p.Most, p.Limit = past[n-1].Most, past[n-1].Limit
	}
	first, last, ok := ends(within(past, begin, end))
	if !ok {
		return
	}
	seconds := last.At.Sub(first.At).Seconds()
	p.Worked = float64(last.Done-first.Done) / seconds
	p.Core = (last.CPU - first.CPU).Seconds() / seconds
	p.Most, p.Limit = last.Most, last.Limit
}

// costsOf returns the CPU time for each request that is done, between any two reports.
func costsOf(past []moment) []time.Duration {
	var costs []time.Duration
	for i := 1; i < len(past); i++ {
		if n := past[i].Done - past[i-1].Done; n > 0 {
			costs = append(costs, (past[i].CPU-past[i-1].CPU)/time.Duration(n))
		}
	}
	return costs
}

// within returns the moments from begin to end.
func within(past []moment, begin, end time.Time) []moment {
	var some []moment
	for _, m := range past {
		if !m.At.Before(begin) && !m.At.After(end) {
			some = append(some, m)
		}
	}
	return some
}

// ends returns the first and the last moment, and whether time passed between them.
func ends(past []moment) (first, last moment, ok bool) {
	if len(past) < 2 {
		return first, last, false
	}
	first, last = past[0], past[len(past)-1]
	return first, last, last.At.After(first.At)
}

// The bounds of a disturbance.
const (
	maxLate   = 25 * time.Millisecond // p99 of sending late
	minCore   = 0.95                  // of its core that a service uses which is never idle
	maxStolen = 0.05                  // of the time for which the service waits for its core
	maxFailed = 0.01                  // of the requests, neither answered nor rejected nor abandoned
	maxDrift  = 0.1                   // between the capacities before and after
)

// disturbance returns what made a load differ from the intended one, "" for nothing.
func disturbance(p phase) string {
	busy := p.Times > 1 // a service that sleeps waits for its core when it wakes up
	switch {
	case p.Late > maxLate:
		return fmt.Sprintf("requests were sent %.0f ms late (p99)", milliseconds(p.Late))
	case p.Failed > maxFailed*p.Offered:
		return fmt.Sprintf("%.0f requests/s could not be sent", p.Failed)
	case busy && p.Stolen > maxStolen:
		return fmt.Sprintf("the service waited for its core for %.0f %% of the time", 100*p.Stolen)
	case busy && p.Arm == bare && p.Core > 0 && p.Core < minCore: // a limit may leave it idle
		return fmt.Sprintf("the service got only %.0f %% of its core", 100*p.Core)
	}
	return ""
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }
func microseconds(d time.Duration) float64 { return d.Seconds() * 1e6 }
