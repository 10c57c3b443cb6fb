package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
	"go.uber.org/goleak"
)

// TestMain lets the test binary be a replica of the tests.
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
		replicas: 3, work: ms, attempt: 200 * ms, patience: 2 * time.Second,
		instances: 2, perSec: 10, lead: 100 * ms, trouble: 400 * ms, recovery: 200 * ms,
	}
}

// A whole run ends and prints a row for each phase. It asserts nothing about success: the
// machine may be busy.
func TestRun_whole(t *testing.T) {
	if testing.Short() || runtime.GOOS == "windows" {
		t.Skip("starts and pauses processes")
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), options{markdown: true}, short(), &out, &errs); code != 0 {
		t.Fatalf("exit code %d: %s\n%s", code, &errs, &out)
	}
	want := []string{"| HTTP/2 with endpoints |"}
	for _, ph := range phases() {
		want = append(want, "| "+ph.name+" | ")
	}
	for _, w := range want {
		if !strings.Contains(out.String(), w) {
			t.Errorf("the output lacks %q:\n%s", w, &out)
		}
	}
	if rows := strings.Count(out.String(), "\n"); rows != 2+len(phases()) {
		t.Errorf("%d lines", rows)
	}
}

// An interrupted run exits with 1.
func TestRun_interrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var errs bytes.Buffer
	if code := run(ctx, options{}, short(), io.Discard, &errs); code != 1 || !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("exit code %d, printed %q", code, &errs)
	}
}

// A replica that was killed answers at its old addresses after its restart.
func TestFleet_restart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	f, err := startFleet(t.Context(), short())
	if err != nil {
		t.Fatal(err)
	}
	defer f.stop()
	web := func(c config) string { return c.HTTP }
	before := f.addresses(web)
	if err := f.kill(broken); err != nil {
		t.Fatal(err)
	}
	if err := f.restart(t.Context(), broken); err != nil {
		t.Fatal(err)
	}
	if after := f.addresses(web); !slices.Equal(before, after) {
		t.Errorf("the addresses were %v and are %v", before, after)
	}
}

// The error of a replica that cannot listen reaches the caller of start.
func TestStart_reportsError(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	if _, err := start(t.Context(), config{HTTP: "127.0.0.1:-1", GRPC: demo.Loopback}); err == nil || !strings.Contains(err.Error(), "a replica: ") {
		t.Errorf("got %v", err)
	}
}

// A row shows 100.0 % only if all calls succeeded.
func TestFloor(t *testing.T) {
	for percent, want := range map[float64]float64{100: 100, 99.99: 99.9, 0: 0, 66.66: 66.6} {
		if got := floor(percent); got != want {
			t.Errorf("floor(%v) is %v, want %v", percent, got, want)
		}
	}
}

// Mistakes on the command line are printed with the usage before a run.
func TestParse_mistakes(t *testing.T) {
	for want, args := range map[string][]string{
		"not defined":               {"-chekc"},
		`unexpected argument "now"`: {"-check", "now"},
	} {
		var errs strings.Builder
		if _, err := parse(args, &errs); err == nil || !strings.Contains(errs.String(), want) || !strings.Contains(errs.String(), "usage: endpoints") {
			t.Errorf("parse(%q): %v, printed %q", args, err, errs.String())
		}
	}
	if o, err := parse([]string{"-check", "-markdown"}, io.Discard); err != nil || !o.check || !o.markdown {
		t.Errorf("got %+v, %v", o, err)
	}
}
