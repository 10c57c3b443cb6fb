package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// TestMain lets the test binary be the children of the smoke tests.
func TestMain(m *testing.M) {
	if role := program.Role(); role != "" {
		os.Exit(child(role))
	}
	os.Exit(m.Run())
}

// A whole run ends, accounts for every request, and writes its files.
//
// It asserts nothing about speed: the machine may be busy.
func TestRun_whole(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	o := options{json: filepath.Join(dir, "f.json"), svg: filepath.Join(dir, "f.svg")}
	s := theScript(80 * time.Millisecond)
	var out, errs bytes.Buffer
	if code := run(t.Context(), o, s, &screen{Writer: &out}, &errs); code != 0 {
		t.Fatalf("exit code %d: %s\n%s", code, &errs, &out)
	}
	data, err := os.ReadFile(o.json)
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	for route := range routeNames {
		want := len(schedule(route, s.length()))
		for _, sys := range r.Systems {
			got := 0
			for _, f := range sys.Routes[route].Phases {
				got += f.Requests
			}
			if got != want {
				t.Errorf("%s, route %s: %d requests are accounted for, %d were due", sys.Name, routeNames[route], got, want)
			}
		}
	}
	picture, err := os.ReadFile(o.svg)
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.WellFormed(picture); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"128 slots", "refusing", "attempts per request", "load generator"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
}

// With -check the program exits with 1 if a check fails.
//
// The run is so short that the breaker, which opens after a second of silence, cannot
// have opened.
func TestRun_checkFails(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	var out bytes.Buffer
	if code := run(t.Context(), options{check: true}, theScript(30*time.Millisecond), &screen{Writer: &out}, &out); code != 1 {
		t.Errorf("exit code %d\n%s", code, &out)
	}
	if !strings.Contains(out.String(), "Not shown: ") {
		t.Errorf("does not say what was not shown:\n%s", &out)
	}
}

// An interrupted run exits with 1 and leaves no process.
func TestRun_interrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := newCrew()
	if _, _, err := assemble(ctx, c, theScript(time.Second), options{}); err != nil {
		t.Fatal(err)
	}
	cancel()
	c.stop()
	for _, p := range c.all {
		if state := p.State(); state == nil || !state.Exited() || state.ExitCode() != 0 {
			t.Errorf("%s: %v", p.Name, state)
		}
	}
	var errs bytes.Buffer
	if code := run(ctx, options{}, theScript(time.Second), &screen{Writer: &errs}, &errs); code != 1 {
		t.Errorf("exit code of an interrupted run: %d", code)
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
		{"everything", []string{"-check", "-json", filepath.Join(dir, "a"), "-svg", filepath.Join(dir, "b")}, ""},
		{"unknown flag", []string{"-chekc"}, "not defined"},
		{"stray argument", []string{"-check", "now"}, `unexpected argument "now"`},
		{"flag without value", []string{"-json"}, "needs an argument"},
		{"no such directory", []string{"-svg", filepath.Join(dir, "no", "b")}, "no such directory"},
		{"a directory", []string{"-json", dir}, "is a directory"},
		{"pages", []string{"-listen", ":6060", "-wait"}, ""},
		{"wait for what", []string{"-wait"}, "add -listen"},
		{"port alone", []string{"-listen", "6060"}, "write it as"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var errs strings.Builder
			_, err := parse(tt.args, &errs)
			if (err != nil) != (tt.want != "") || !strings.Contains(errs.String(), tt.want) {
				t.Errorf("parse(%q): %v, printed %q; want %q", tt.args, err, errs.String(), tt.want)
			}
			if err != nil && !strings.Contains(errs.String(), "usage: chaos") {
				t.Errorf("no usage in %q", errs.String())
			}
		})
	}
}
