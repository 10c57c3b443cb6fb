package main

import (
	"fmt"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
	"github.com/resilience-go/resilience/limit"
)

// phase is what a load came to. Rates are by the second, and of the requests that
// were to be sent in the part that is measured, whenever they ended.
type phase struct {
	Arm      arm
	Load     float64 // in multiples of the capacity
	Offered  float64
	Goodput  float64 // answered in time
	Refused  float64
	Left     float64
	Failed   float64
	P50, P99 time.Duration // of the answers in time, from when they were to be sent; 0 without any
	Late     time.Duration // p99 of sending late
	Sender   float64       // cores that the load generator needed; 0 where it cannot be known
	// What the service says of itself.
	Worked    float64 // requests that it worked off
	Core      float64 // of its core, 1 for all; 0 where it cannot be known
	Most      int64   // requests in the handler at once, since the start
	Limit     *limit.Stats
	Disturbed string // by what, "" by nothing
}

// summarize works out what the callers saw.
func summarize(a arm, load float64, records []record, p plan) phase {
	ph := phase{Arm: a, Load: load}
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
	ph.Goodput, ph.Refused = perSecond(n[answered]), perSecond(n[refused])
	ph.Left, ph.Failed = perSecond(n[left]), perSecond(n[failed])
	ph.P50, ph.P99, ph.Late = demo.Percentile(took, 50), demo.Percentile(took, 99), demo.Percentile(late, 99)
	return ph
}

// watch works out what the service did from begin to end. Of a service that was too
// busy to tell, that is not known.
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

// ends reports whether there is a time between the first and the last moment.
func ends(past []moment) (first, last moment, ok bool) {
	if len(past) < 2 {
		return first, last, false
	}
	first, last = past[0], past[len(past)-1]
	return first, last, last.At.After(first.At)
}

// The bounds of what is a disturbance.
const (
	maxLate   = 25 * time.Millisecond // p99 of sending late
	minCore   = 0.95                  // of its core that a busy service gets
	maxFailed = 0.01                  // of the requests, neither answered nor refused nor left
	maxDrift  = 0.1                   // between the capacities before and after
)

// disturbance says what kept a load from being what it was meant to be, "" if
// nothing did.
func disturbance(p phase) string {
	switch {
	case p.Late > maxLate:
		return fmt.Sprintf("requests were sent %.0f ms late (p99)", milliseconds(p.Late))
	case p.Failed > maxFailed*p.Offered:
		return fmt.Sprintf("%.0f requests/s could not be sent", p.Failed)
	case p.Core > 0 && p.Load > 1 && p.Core < minCore:
		return fmt.Sprintf("the service got only %.0f %% of its core", 100*p.Core)
	}
	return ""
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }
func microseconds(d time.Duration) float64 { return d.Seconds() * 1e6 }
