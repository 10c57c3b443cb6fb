package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// ideal is a run in which everything is as it should be: the protected system
// loses nothing but the broken route, the unprotected one a fifth of the other.
func ideal() measured {
	var m measured
	s := theScript(time.Second)
	for i := range m.attempts {
		m.attempts[i] = make([]int, s.units())
	}
	for unit := range s.units() {
		f := s.Phases[s.phaseOf(unit)].Fault
		for n := range 100 {
			at := time.Duration(unit)*time.Second + time.Duration(n)*10*ms
			for system := range systemNames {
				for route := range routeNames {
					r := record{System: system, Route: route, At: at, Took: 22 * ms, Status: 200}
					if route == broken && f != noFault && (f != slow || n >= 20) || system == unprotected && f == hanging && n < 20 {
						r.Status = 503
					}
					m.records = append(m.records, r)
				}
			}
		}
		m.attempts[unprotected][unit] = 300
		m.attempts[protected][unit] = 5
	}
	return m
}

// spoil changes the records of a route in the seconds from, to (exclusive).
func (m measured) spoil(system, route, from, to int, change func(n int, r *record)) {
	n := 0
	for i := range m.records {
		r := &m.records[i]
		if second := int(r.At / time.Second); r.System == system && r.Route == route && second >= from && second < to {
			change(n, r)
			n++
		}
	}
}

// The checks of a verdict, in order.
const goodput, latency, whileSlow, amplified, recovered, fall, onTime = 0, 1, 2, 3, 4, 5, 6

type verdictCase struct {
	name  string
	spoil func(m *measured)
	fails []int // checks
}

// verdictCases has one case for each way to fail, just over the bound, and one
// just within.
func verdictCases() []verdictCase {
	status := func(code, of int) func(int, *record) {
		return func(n int, r *record) {
			if n < of {
				r.Status = code
			}
		}
	}
	took := func(d time.Duration, of int) func(int, *record) {
		return func(n int, r *record) {
			if n < of {
				r.Took = d
			}
		}
	}
	return []verdictCase{
		{"ideal", func(*measured) {}, nil},
		{"healthy route at 99 %", func(m *measured) { m.spoil(protected, healthy, 10, 15, status(503, 5)) }, nil},
		{"healthy route below 99 %", func(m *measured) { m.spoil(protected, healthy, 10, 15, status(503, 6)) }, []int{goodput}},
		{"below 99 % in the last phase", func(m *measured) { m.spoil(protected, healthy, 19, 25, status(0, 7)) }, []int{goodput}},
		{"healthy answers too late", func(m *measured) { m.spoil(protected, healthy, 5, 10, took(2100*ms, 6)) }, []int{goodput, latency}},
		{"no healthy answer in a phase", func(m *measured) { m.spoil(protected, healthy, 5, 10, status(503, 500)) }, []int{goodput, latency}},
		{"no healthy answer at first", func(m *measured) { m.spoil(protected, healthy, 0, 5, status(503, 500)) }, []int{goodput, latency}},
		{"p99 at 150 ms", func(m *measured) { m.spoil(protected, healthy, 5, 10, took(150*ms, 6)) }, nil},
		{"p99 above 150 ms", func(m *measured) { m.spoil(protected, healthy, 5, 10, took(151*ms, 6)) }, []int{latency}},
		{"p99 within 1.5 times the healthy one", func(m *measured) {
			m.spoil(protected, healthy, 0, 5, took(200*ms, 500))
			m.spoil(protected, healthy, 5, 10, took(310*ms, 6))
		}, nil},
		{"p99 above 1.5 times the healthy one", func(m *measured) {
			m.spoil(protected, healthy, 0, 5, took(200*ms, 500))
			m.spoil(protected, healthy, 5, 10, took(311*ms, 6))
		}, []int{latency}},
		{"less than half of what the slow service can do", func(m *measured) { m.spoil(protected, broken, 5, 10, status(503, 1)) }, []int{whileSlow}},
		{"0.3 attempts a request", func(m *measured) { m.attempts[protected][10] = 270 - 8*5 }, nil},
		{"more than 0.3 attempts a request", func(m *measured) { m.attempts[protected][10] = 271 - 8*5 }, []int{amplified}},
		{"recovery after 2 s", func(m *measured) { m.spoil(protected, broken, 19, 21, status(503, 200)) }, nil},
		{"recovery after 3 s", func(m *measured) { m.spoil(protected, broken, 19, 22, status(503, 300)) }, []int{recovered}},
		{"no recovery", func(m *measured) { m.spoil(protected, broken, 19, 25, status(503, 600)) }, []int{recovered}},
		{"the unprotected system stood", func(m *measured) { m.spoil(unprotected, healthy, 0, 25, status(200, 2500)) }, []int{fall}},
		{"it fell to 90 %", func(m *measured) {
			m.spoil(unprotected, healthy, 10, 15, func(n int, r *record) {
				if r.Status = 200; n < 50 {
					r.Status = 503
				}
			})
		}, []int{fall}},
		{"the generator was 50 ms late", func(m *measured) {
			m.spoil(unprotected, healthy, 0, 5, func(_ int, r *record) { r.Late = 50 * ms })
		}, nil},
		{"the generator fell behind", func(m *measured) {
			m.spoil(unprotected, healthy, 0, 5, func(_ int, r *record) { r.Late = 51 * ms })
		}, []int{onTime}},
		{"nothing was measured", func(m *measured) { m.records = nil }, []int{goodput, latency, whileSlow, amplified, recovered, fall, onTime}},
	}
}

// Each check fails just beyond its bound, and only then.
func TestVerdict(t *testing.T) {
	for _, tt := range verdictCases() {
		t.Run(tt.name, func(t *testing.T) {
			m := ideal()
			tt.spoil(&m)
			r := evaluate(theScript(time.Second), m)
			var fails []int
			for i, c := range r.Checks {
				if !c.OK {
					fails = append(fails, i)
				}
			}
			if !reflect.DeepEqual(fails, tt.fails) || r.passed() != (tt.fails == nil) {
				t.Errorf("failed checks %v, want %v: %+v", fails, tt.fails, r.Checks)
			}
		})
	}
	if (result{}).passed() {
		t.Error("a result without checks passes")
	}
}

// A result survives JSON, and values that do not exist are null.
func TestEncode_roundTrip(t *testing.T) {
	m := ideal()
	m.spoil(unprotected, broken, 19, 25, func(_ int, r *record) { r.Status = 503 }) // no recovery, no p99
	want := evaluate(theScript(time.Second), m)
	data, err := encode(want)
	if err != nil {
		t.Fatal(err)
	}
	var got result
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if !strings.Contains(string(data), `"recovery_s": null`) || !strings.Contains(string(data), `"p99_ms": null`) {
		t.Errorf("what does not exist is not null: %s", data)
	}
}

// The chart is well-formed and has both systems in three plots.
func TestChart(t *testing.T) {
	picture := chart(evaluate(theScript(time.Second), ideal()))
	if err := demo.WellFormed(picture); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"healthy", "slow", "hanging", "refusing", "recovered", "unprotected", "protected", "seconds since the start"} {
		if !strings.Contains(string(picture), want) {
			t.Errorf("the chart lacks %q", want)
		}
	}
	if n := strings.Count(string(picture), "<polyline"); n != 6 {
		t.Errorf("%d lines, want two in each of three plots", n)
	}
}
