package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
	"go.uber.org/goleak"
)

// TestMain lets the test binary be the service of the tests.
func TestMain(m *testing.M) {
	if program.Role() != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

// short is a plan that shows nothing and takes little time.
func short() plan {
	const ms = time.Millisecond
	return plan{
		Work: ms / 5, Patience: 300 * ms, Callers: 2, Loads: []load{{Arm: bare, Times: 0.1}, {Arm: limited, Times: 0.1}, fallen, overloaded, {Arm: limited, Times: 2, Uploads: 2}, {Arm: limited, Times: 2, Critical: 0.3}},
		Warm: 50 * ms, Measure: 250 * ms, Capacity: 250 * ms, Tries: 1,
		Turns: 1, Turn: 300 * ms, Rejecting: 2,
	}
}

// A whole run ends, and prints its tables and its chart.
// It asserts nothing about speed: the machine may be busy.
func TestRun_whole(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	o := options{markdown: true, svg: filepath.Join(t.TempDir(), "f.svg")}
	var out, errs bytes.Buffer
	if code := run(t.Context(), o, short(), &out, &errs); code != 0 {
		t.Fatalf("exit code %d: %s\n%s", code, &errs, &out)
	}
	picture, err := os.ReadFile(o.svg)
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.WellFormed(picture); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"rounds of SHA-256", "| 0.1x | bare |", "| 2.0x | with limit |", "CPU of the service", "2.0x, bare: goodput", "2 slow uploads, 2 open at the end", "| 2.0x | critical |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
	if !strings.Contains(errs.String(), "What is the capacity of the service?") {
		t.Errorf("no progress is printed: %s", &errs)
	}
}

// An interrupted run exits with 1 and leaves no process.
func TestRun_interrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, err := start(ctx, config{Work: time.Millisecond, Rounds: 1, Life: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	s.stop()
	if s.State() == nil {
		t.Error("the service is still there")
	}
	if s.failure() == nil {
		t.Error("a service that has ended does not count as a failure")
	}
	var errs bytes.Buffer
	if code := run(ctx, options{}, short(), io.Discard, &errs); code != 1 || !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("exit code %d, printed %q", code, &errs)
	}
}

// The error of a service that cannot start reaches the caller of start.
func TestStart_reportsError(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	_, err := start(t.Context(), config{Arm: arm(-1), Work: 1, Rounds: 1, Life: time.Minute})
	if err == nil || !strings.Contains(err.Error(), "no such arm") {
		t.Errorf("got %v", err)
	}
}

// Every arm answers, and only the limited one has a limit.
func TestGuard_arms(t *testing.T) {
	for a, want := range map[arm]int{bare: 200, limited: 200, fixed: 200, closed: 503} {
		load := &workload{rounds: 3}
		h, stats, err := guard(a, load)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.Code != want {
			t.Errorf("%s: %d", armNames[a], w.Code)
		}
		if worked := load.most.Load() == 1; worked != (want == 200) || load.done.Load() != 1 {
			t.Errorf("%s: worked is %v, done %d", armNames[a], worked, load.done.Load())
		}
		if has := stats() != nil; has != (a == limited) {
			t.Errorf("%s: has a limit is %v", armNames[a], has)
		}
	}
}

// The work depends on every round, and is counted.
func TestWorkload(t *testing.T) {
	if hash(1) == hash(2) {
		t.Error("the result does not depend on the rounds")
	}
	if n := calibrate(50 * time.Microsecond); n < 1 {
		t.Errorf("%d rounds", n)
	}
	load := &workload{rounds: 1}
	for range 3 {
		load.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", strings.NewReader("body")))
	}
	if load.done.Load() != 3 || load.inside.Load() != 0 || load.most.Load() != 1 {
		t.Errorf("done %d, inside %d, most %d", load.done.Load(), load.inside.Load(), load.most.Load())
	}
}

// A report survives JSON.
func TestReport_roundTrip(t *testing.T) {
	load := &workload{}
	_, stats, err := guard(limited, load)
	if err != nil {
		t.Fatal(err)
	}
	want := report{Now: &moment{At: time.Unix(5, 7).UTC(), CPU: 3, Done: 2, Most: 1, Limit: stats()}}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got report
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if !got.Now.At.Equal(want.Now.At) || got.Now.CPU != 3 || got.Now.Done != 2 || got.Now.Most != 1 || *got.Now.Limit != *want.Now.Limit {
		t.Errorf("%s", data)
	}
}

// Mistakes on the command line are printed with the usage before a run.
func TestParse_mistakes(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name string
		args []string
		want string // part of the message, "" for none
	}{
		{"nothing", nil, ""},
		{"everything", []string{"-check", "-markdown", "-svg", filepath.Join(dir, "a")}, ""},
		{"unknown flag", []string{"-chekc"}, "not defined"},
		{"stray argument", []string{"-check", "now"}, `unexpected argument "now"`},
		{"flag without value", []string{"-svg"}, "needs an argument"},
		{"no such directory", []string{"-svg", filepath.Join(dir, "no", "b")}, "no such directory"},
		{"a directory", []string{"-svg", dir}, "is a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var errs strings.Builder
			_, err := parse(tt.args, &errs)
			if (err != nil) != (tt.want != "") || !strings.Contains(errs.String(), tt.want) {
				t.Errorf("parse(%q): %v, printed %q; want %q", tt.args, err, errs.String(), tt.want)
			}
			if err != nil && !strings.Contains(errs.String(), "usage: overload") {
				t.Errorf("no usage in %q", errs.String())
			}
		})
	}
}
