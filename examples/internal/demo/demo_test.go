package demo

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

const program Program = "demo"

// TestMain lets the test binary be the children of the tests. A child with the role
// "echo" reports all that it reads.
func TestMain(m *testing.M) {
	if program.Role() == "" {
		goleak.VerifyTestMain(m)
	}
	var first string
	in, ok := program.Configure(&first)
	if !ok || program.Role() != "echo" {
		os.Exit(1)
	}
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(first)
	ExitAtEnd(in, func(s string) { _ = out.Encode(s) })
}

// A child gets its configuration and later values, and its reports come in order. It
// ends when its input ends.
func TestStart_childReportsAndEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	reports, ended := make(chan string, 2), make(chan error, 1)
	p, err := Start(program, Spawn[string]{
		Name: "the echo", Role: "echo", Config: "one",
		Report: func(_ *Process, s string) { reports <- s },
		Ended:  func(_ *Process, err error) { ended <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Send("two"); err != nil {
		t.Error(err)
	}
	if a, b := <-reports, <-reports; a != "one" || b != "two" {
		t.Errorf("reported %q, %q", a, b)
	}
	Stop(time.Minute, p)
	if err := <-ended; err != nil || p.State().ExitCode() != 0 {
		t.Errorf("it ended with %v, %v", err, p.State())
	}
}

// A child that ends by itself is reported, with its exit code.
func TestStart_childEndsEarly(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ended := make(chan error, 1)
	p, err := Start(program, Spawn[string]{
		Name: "a child", Role: "none", Config: "",
		Report: func(*Process, string) {}, Ended: func(_ *Process, err error) { ended <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("no error")
	}
	Stop(0, p)
}

// Every send is called at every instant of the schedule, although earlier calls have
// not returned.
func TestOpenLoop_sendsOnSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().Add(time.Second)
		var mu sync.Mutex
		sent := map[int][]time.Duration{}
		send := func(i int, intended time.Time) {
			if !time.Now().Equal(intended) {
				t.Errorf("sent at %v, not at %v", time.Since(start), intended.Sub(start))
			}
			mu.Lock()
			sent[i] = append(sent[i], intended.Sub(start))
			mu.Unlock()
			time.Sleep(time.Minute)
		}
		err := OpenLoop(t.Context(), start, []time.Duration{0, 5, 7}, send, send)
		if took := time.Since(start); err != nil || took != time.Minute+7 {
			t.Errorf("%v after %v", err, took)
		}
		for i, want := range []time.Duration{0, 5, 7} {
			if !slices.Equal(sent[i], []time.Duration{want, want}) {
				t.Errorf("sent %v", sent)
			}
		}
	})
}

// OpenLoop sends nothing more when its context is done, and waits for what it sent.
func TestOpenLoop_contextDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		err := OpenLoop(ctx, time.Now(), []time.Duration{0, time.Second}, func(int, time.Time) {
			calls++
			cancel()
		})
		if !errors.Is(err, context.Canceled) || calls != 1 {
			t.Errorf("%v after %d calls", err, calls)
		}
	})
}

// A closed server refuses connections, and serves again at the same address.
func TestServer_closedAndReopened(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	s, err := Serve(Loopback, hello, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func() error {
		resp, err := client.Get("http://" + s.Addr.String())
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	reopen := s.Close()
	if err := get(); err == nil {
		t.Error("a closed server answers")
	}
	if err := reopen(); err != nil {
		t.Fatal(err)
	}
	defer s.http.Close()
	if err := get(); err != nil {
		t.Error(err)
	}
}

// Percentile sorts, and returns 0 without values.
func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[99-i] = time.Duration(i + 1) // 100 ... 1
	}
	for _, tt := range []struct {
		name   string
		values []time.Duration
		p      float64
		want   time.Duration
	}{
		{"none", nil, 99, 0},
		{"one", []time.Duration{7}, 99, 7},
		{"two", []time.Duration{9, 7}, 50, 7},
		{"three", []time.Duration{1, 3, 2}, 50, 2},
		{"p99 of a hundred", hundred, 99, 99},
		{"p100", hundred, 100, 100},
		{"p0", hundred, 0, 1},
	} {
		if got := Percentile(tt.values, tt.p); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// Median sorts, takes the mean of two middle values, and returns 0 without values.
func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}} {
		if got := Median(tt.values); got != tt.want {
			t.Errorf("median of %v: %v", tt.values, got)
		}
	}
}

// A verdict passes if it has checks and all are met; the others are named.
func TestPassed(t *testing.T) {
	good, bad := Check{What: "a", OK: true}, Check{What: "b"}
	if Passed(nil) || !Passed([]Check{good}) || Passed([]Check{good, bad}) {
		t.Error("wrong verdict")
	}
	if got := NotShown([]Check{bad, good, bad}); got != "Not shown: b; b." {
		t.Error(got)
	}
	if good.Mark() != "ok" || bad.Mark() != "FAIL" {
		t.Error(good.Mark(), bad.Mark())
	}
}

// A canvas escapes texts, and WellFormed finds what is wrong with a picture.
func TestCanvas_wellFormed(t *testing.T) {
	c := NewCanvas(10, 20, "a < b")
	c.Text(0, 0, "start", 12, Ink, `a < b & "c"`)
	c.Legend(1, 2, Key{BareLine, "<bare>"}, Key{GuardedLine, "guarded"})
	c.Polyline([]string{"1,2", "3,4"}, BareLine)
	if err := WellFormed(c.Finish()); err != nil {
		t.Errorf("%v:\n%s", err, c)
	}
	for _, bad := range []string{"<svg>", "<svg>NaN</svg>", "<svg>%!s</svg>"} {
		if WellFormed([]byte(bad)) == nil {
			t.Errorf("%s is well-formed", bad)
		}
	}
}

// Mistakes on the command line are printed with the usage before a run.
func TestParse_mistakes(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		args []string
		want string // part of the message, "" for none
	}{
		{"nothing", nil, ""},
		{"a file", []string{"-f", filepath.Join(dir, "a")}, ""},
		{"unknown flag", []string{"-g"}, "not defined"},
		{"stray argument", []string{"-f", "a", "now"}, `unexpected argument "now"`},
		{"flag without value", []string{"-f"}, "needs an argument"},
		{"no such directory", []string{"-f", filepath.Join(dir, "no", "b")}, "no such directory"},
		{"a directory", []string{"-f", dir}, "is a directory"},
	} {
		var errs strings.Builder
		fs := flag.NewFlagSet("demo", flag.ContinueOnError)
		file := fs.String("f", "", "a `FILE`")
		err := Parse(fs, "[-f FILE]", tt.args, &errs, func() error { return CheckFiles("", *file) })
		if (err != nil) != (tt.want != "") || !strings.Contains(errs.String(), tt.want) {
			t.Errorf("%s: %v, printed %q, want %q", tt.name, err, errs.String(), tt.want)
		}
		if err != nil && !strings.Contains(errs.String(), "usage: demo [-f FILE]") {
			t.Errorf("%s: no usage in %q", tt.name, errs.String())
		}
	}
}
