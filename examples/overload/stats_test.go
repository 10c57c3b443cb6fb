package main

import (
	"math"
	"reflect"
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// Requests arrive at random instants, at the given rate, the same in every run.
func TestSchedule_poisson(t *testing.T) {
	const rate = 1000
	at := schedule(rate, 10*time.Second)
	if n := float64(len(at)); math.Abs(n-10*rate) > 4*math.Sqrt(10*rate) {
		t.Errorf("%.0f requests", n)
	}
	if !slices.IsSorted(at) || at[len(at)-1] >= 10*time.Second {
		t.Error("not in order, or after the end")
	}
	short := 0 // gaps below the median of an exponential distribution
	for i := 1; i < len(at); i++ {
		if (at[i]-at[i-1]).Seconds()*rate < math.Ln2 {
			short++
		}
	}
	if share := float64(short) / float64(len(at)); share < 0.47 || share > 0.53 {
		t.Errorf("%.2f of the gaps are short: not at random", share)
	}
	if !slices.Equal(at, schedule(rate, 10*time.Second)) {
		t.Error("the schedule changes from run to run")
	}
	if n := len(schedule(1, time.Millisecond)); n > 1 {
		t.Errorf("%d requests in a millisecond", n)
	}
}

// Only requests with an intended time in the measured part count.
func TestSummarize_warmUp(t *testing.T) {
	p := plan{Warm: time.Second, Measure: 2 * time.Second}
	got := summarize(load{Arm: limited, Times: 2}, []record{
		{At: time.Second - 1, End: answered, Took: 77 * ms, Late: 99 * ms}, // too early
		{At: time.Second, End: answered, Took: 30 * ms},
		{At: time.Second, End: answered, Took: 10 * ms, Late: 1 * ms},
		{At: 2 * time.Second, End: answered, Took: 20 * ms},
		{At: 2 * time.Second, End: rejected, Took: 90 * ms}, // no latency of an answer
		{At: 2 * time.Second, End: abandoned, Took: 500 * ms},
		{At: 3*time.Second - 1, End: abandoned, Took: 500 * ms},
		{At: 3*time.Second - 1, End: failed},
		{At: 3 * time.Second, End: rejected}, // too late
	}, p)
	want := phase{
		load: load{Arm: limited, Times: 2}, Offered: 3.5, Goodput: 1.5, Rejected: 0.5, Abandoned: 1, Failed: 0.5,
		P50: 20 * ms, P99: 30 * ms, Late: 1 * ms,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := summarize(calm, nil, p); !reflect.DeepEqual(got, phase{load: calm}) {
		t.Errorf("of nothing: %+v", got)
	}
}

// The routes of a load are summarized one by one, and only if it has two.
func TestSummarize_routes(t *testing.T) {
	p := plan{Measure: 2 * time.Second}
	got := summarize(ranked, []record{
		{End: answered, Took: 10 * ms, Critical: true},
		{End: answered, Took: 30 * ms, Critical: true},
		{End: rejected, Critical: true},
		{End: answered, Took: 40 * ms},
		{End: rejected},
	}, p)
	want := []route{{"critical", 1.5, 1, 30 * ms}, {"bulk", 1, .5, 40 * ms}}
	if got.Goodput != 1.5 || !slices.Equal(got.Routes, want) {
		t.Errorf("%+v", got)
	}
	if got := summarize(flooded, nil, p); got.Routes != nil {
		t.Errorf("%+v", got)
	}
}

// The share of critical requests is as asked for, and they are the same ones in every run.
func TestRoutes(t *testing.T) {
	critical := routes(10000, .3)
	n := 0
	for _, is := range critical {
		if is {
			n++
		}
	}
	if n < 2800 || n > 3200 {
		t.Errorf("%d of 10000", n)
	}
	if !slices.Equal(critical, routes(10000, .3)) {
		t.Error("they change from run to run")
	}
	if slices.Contains(routes(1000, 0), true) {
		t.Error("some of none")
	}
}

// The figures of the service are from the measured part.
func TestPhase_watch(t *testing.T) {
	start := time.Unix(100, 0)
	var past []moment
	for i := range 11 {
		past = append(past, moment{
			At: start.Add(time.Duration(i) * time.Second), CPU: time.Duration(i*i) * 10 * ms, Done: int64(i * i), Most: int64(i),
		})
	}
	var p phase
	p.watch(past, start.Add(2*time.Second), start.Add(6*time.Second+ms))
	if p.Worked != 8 || math.Abs(p.Core-0.08) > 1e-9 || p.Most != 6 {
		t.Errorf("%+v", p)
	}
	p = phase{}
	p.watch(past, start.Add(time.Hour), start.Add(2*time.Hour)) // too busy to report
	if p.Worked != 0 || p.Core != 0 || p.Most != 10 {
		t.Errorf("%+v", p)
	}
	p = phase{}
	p.watch(nil, start, start.Add(time.Second))
	if !reflect.DeepEqual(p, phase{}) {
		t.Errorf("%+v", p)
	}
}

// The cost of a request is the CPU time between two reports, if a request was done.
func TestCostsOf(t *testing.T) {
	past := []moment{{CPU: 1 * ms, Done: 5}, {CPU: 7 * ms, Done: 7}, {CPU: 8 * ms, Done: 7}, {CPU: 9 * ms, Done: 8}}
	if got, want := costsOf(past), []time.Duration{3 * ms, 1 * ms}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := costsOf(nil); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

// Each disturbance begins just beyond its bound, whatever the goodput.
func TestDisturbance_bounds(t *testing.T) {
	for _, tt := range []struct {
		name      string
		p         phase
		disturbed bool
	}{
		{"nothing", phase{load: fallen, Offered: 1000, Core: 1}, false},
		{"25 ms late", phase{load: fallen, Offered: 1000, Core: 1, Late: 25 * ms}, false},
		{"later", phase{load: fallen, Offered: 1000, Core: 1, Late: 26 * ms}, true},
		{"one in a hundred not sent", phase{load: fallen, Offered: 1000, Core: 1, Failed: 10}, false},
		{"more not sent", phase{load: fallen, Offered: 1000, Core: 1, Failed: 11}, true},
		{"95 % of its core", phase{load: fallen, Offered: 1000, Core: 0.95}, false},
		{"less of its core", phase{load: fallen, Offered: 1000, Core: 0.94}, true},
		{"less of its core, which it does not need", phase{load: calm, Offered: 1000, Core: 0.7}, false},
		{"a limit leaves it idle", phase{load: overloaded, Offered: 1000, Core: 0.5}, false},
		{"waited for its core for 5 %", phase{load: overloaded, Offered: 1000, Core: 0.95, Stolen: 0.05}, false},
		{"waited for longer", phase{load: overloaded, Offered: 1000, Core: 0.94, Stolen: 0.06}, true},
		{"waited while it was not busy", phase{load: calm, Offered: 1000, Core: 0.7, Stolen: 0.2}, false},
		{"nothing known of its core", phase{load: fallen, Offered: 1000}, false},
		{"rejected and abandoned", phase{load: fallen, Offered: 1000, Core: 1, Rejected: 500, Abandoned: 500}, false},
	} {
		if got := disturbance(tt.p); (got != "") != tt.disturbed {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}
