package main

import (
	"testing"

	"github.com/resilience-go/resilience/bench/internal/demand"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		line, name string
		want       demand.Result
		ok         bool
	}{
		{"BenchmarkRetry/first_try-2 \t 2059465\t        12.3 ns/op\t       0 B/op\t       3 allocs/op\n", "Retry/first_try", demand.Result{Nanos: 12.3, Allocs: 3}, true},
		{"BenchmarkLayer/plain/5 \t 1\t 7 ns/op\n", "Layer/plain/5", demand.Result{Nanos: 7}, true},
		{"BenchmarkRetry/first_try-2\n", "", demand.Result{}, false},
		{"PASS\n", "", demand.Result{}, false},
	} {
		name, got, ok := parse(c.line)
		if ok != c.ok || ok && (name != c.name || got != c.want) {
			t.Errorf("parse(%q) = %q, %v, %v", c.line, name, got, ok)
		}
	}
}

func TestMeasure(t *testing.T) {
	d := demand.Demand{Row: "x", Of: "x/5", Less: "x/1", Share: 4, Unit: demand.Add, Most: 2, Beside: demand.Clock, MostAllocs: 1}
	results := map[string]demand.Result{
		"x/5": {Nanos: 150, Allocs: 1}, "x/1": {Nanos: 30}, demand.Add: {Nanos: 5}, demand.Clock: {Nanos: 20},
	}
	m, err := d.Measure(results)
	if err != nil {
		t.Fatal(err)
	}
	if m.Nanos != 30 || m.Multiple != 2 || m.Allocs != 1 || !m.OK() {
		t.Errorf("30 ns are 2 adds of 5 ns and a clock of 20 ns with one allocation, got %+v", m)
	}
	d.Most = 1.9
	if m, _ = d.Measure(results); m.OK() {
		t.Error("2 adds are more than 1.9")
	}
	delete(results, "x/1")
	if _, err := d.Measure(results); err == nil {
		t.Error("a benchmark that did not run is an error")
	}
}
