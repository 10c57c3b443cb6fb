package retry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
)

// fixed is a Backoff that always waits for d.
func fixed(d time.Duration) func(int) time.Duration {
	return func(int) time.Duration { return d }
}

// There is no wait after the last attempt.
func TestRetry_noWaitAfterLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := must(t, retry.Config{Backoff: fixed(time.Second)})
		op, runs := script(errBoom)
		start := time.Now()
		err := run(r, op)
		wantReason(t, err, retry.OutOfAttempts)
		if took := time.Since(start); runs() != 3 || took != 2*time.Second {
			t.Fatalf("%d attempts took %v, want 3 and the two waits of 1s", runs(), took)
		}
	})
}

// Retry gives up at once if the wait would end at the deadline or after it.
func TestRetry_noWaitPastDeadline(t *testing.T) {
	for name, test := range map[string]struct {
		left time.Duration
		runs int
	}{
		"ends before the deadline": {time.Second + time.Nanosecond, 2},
		"ends at the deadline":     {time.Second, 1},
		"ends after the deadline":  {time.Second - time.Nanosecond, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := must(t, retry.Config{MaxAttempts: 2, Backoff: fixed(time.Second)})
				ctx, cancel := context.WithTimeout(t.Context(), test.left)
				defer cancel()
				op, runs := script(errBoom)
				start := time.Now()
				err := resilience.Run(ctx, r, op)
				if runs() != test.runs {
					t.Fatalf("%d attempts, want %d", runs(), test.runs)
				}
				if test.runs == 1 {
					wantReason(t, err, retry.PastDeadline)
					if took := time.Since(start); took != 0 {
						t.Fatalf("gave up after %v, want at once", took)
					}
				}
			})
		})
	}
}

// The error is the last attempt's only.
func TestRetry_lastError(t *testing.T) {
	first, last := errors.New("first"), errors.New("last")
	op, _ := script(first, last)
	err := run(must(t, quick(retry.Config{MaxAttempts: 2})), op)
	if !errors.Is(err, last) || errors.Is(err, first) {
		t.Fatalf("error %v, want the last attempt's only", err)
	}
}

// If the context ends during a wait, Retry returns at once, with the cause and the last
// error.
func TestRetry_canceledWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := errors.New("the caller left")
		r := must(t, retry.Config{Backoff: fixed(time.Second)})
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(300*time.Millisecond, func() { cancel(left) })
		op, runs := script(errBoom)
		start := time.Now()
		err := resilience.Run(ctx, r, op)
		if took := time.Since(start); took != 300*time.Millisecond || runs() != 1 {
			t.Fatalf("%d attempts, returned after %v", runs(), took)
		}
		wantReason(t, err, retry.ContextDone)
		for _, want := range []error{left, context.Canceled, errBoom} {
			if !errors.Is(err, want) {
				t.Errorf("errors.Is(%v, %v) is false", err, want)
			}
		}
		if s := r.Stats(); s.Level != s.Capacity || s.Retries != 0 {
			t.Errorf("a retry that was not made was not refunded: %+v", s)
		}
	})
}

// If the context ends during an attempt, the error has the attempt's error and the
// cause.
func TestRetry_canceledWhileRunning(t *testing.T) {
	left := errors.New("the caller left")
	for name, test := range map[string]struct {
		err       error
		untouched bool
	}{
		"an echo of the context": {context.Canceled, false},
		"the cause":              {left, true},
		"an error of its own":    {errBoom, false},
		"an error not to retry":  {retry.Permanent(errBoom), false},
		"a rejection":            {rejection(), false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			runs := 0
			err := resilience.Run(ctx, must(t, quick(retry.Config{})), func(context.Context) error {
				runs++
				cancel(left)
				return test.err
			})
			if runs != 1 || !errors.Is(err, left) || !errors.Is(err, test.err) {
				t.Fatalf("%d runs, error %v", runs, err)
			}
			if got := err == test.err; got != test.untouched {
				t.Fatalf("error %v untouched: %v", err, got)
			}
		})
	}
}

// If the context ends at the instant the timer fires, there is no further attempt.
func TestRetry_canceledAtTimer(t *testing.T) {
	for range 100 { // a select takes any of two ready channels
		ctx, cancel := context.WithCancel(t.Context())
		r := must(t, retry.Config{Backoff: fixed(time.Second), Clock: testkit.InstantClock{Mock: clock.NewMock(), OnTimer: cancel}})
		op, runs := script(errBoom)
		err := resilience.Run(ctx, r, op)
		wantReason(t, err, retry.ContextDone)
		if runs() != 1 {
			t.Fatalf("%d attempts", runs())
		}
	}
}

// One Retry serves a hundred goroutines.
func TestRetry_concurrency(t *testing.T) {
	r := must(t, quick(retry.Config{Budget: retry.NoBudget}))
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			for range 20 {
				fails, want := i%3, fmt.Errorf("call %d", i)
				runs := 0
				err := run(r, func(ctx context.Context) error {
					runs++
					if n := resilience.Attempt(ctx); n != runs {
						t.Errorf("attempt %d says it is number %d", runs, n)
					}
					if runs <= fails {
						return want
					}
					return nil
				})
				if err != nil || runs != fails+1 {
					t.Errorf("error %v after %d attempts, want none after %d", err, runs, fails+1)
				}
			}
		})
	}
	all.Wait()
	s := r.Stats()
	if s.FirstTry != 34*20 || s.Recovered != 66*20 || total(s) != 2000 || s.Retries != 20*(33+2*33) {
		t.Fatalf("counted %+v", s)
	}
}

// A call that is itself a retry is not retried.
func TestRetry_inherited(t *testing.T) {
	for _, inherited := range []int{2, 3, 1000} {
		op, runs := script(errBoom)
		err := resilience.Run(resilience.WithAttempt(t.Context(), inherited), must(t, quick(retry.Config{})), op)
		wantReason(t, err, retry.Inherited)
		if runs() != 1 {
			t.Fatalf("%d attempts under attempt %d of a caller", runs(), inherited)
		}
	}
}

// A call that is the first attempt of a caller is retried.
func TestRetry_inheritedFirst(t *testing.T) {
	for _, inherited := range []int{-1, 0, 1} {
		op, runs := script(errBoom)
		_ = resilience.Run(resilience.WithAttempt(t.Context(), inherited), must(t, quick(retry.Config{})), op)
		if runs() != 3 {
			t.Fatalf("%d attempts under attempt %d of a caller", runs(), inherited)
		}
	}
}

// Nested retries add attempts and do not multiply them.
func TestRetry_nested(t *testing.T) {
	p := resilience.Compose(must(t, quick(retry.Config{Budget: retry.NoBudget})), must(t, quick(retry.Config{Budget: retry.NoBudget})))
	op, runs := script(errBoom)
	err := run(p, op)
	// The inner retry makes three attempts under the outer retry's first attempt, and one
	// under each of the others.
	if runs() != 5 || !errors.Is(err, errBoom) {
		t.Fatalf("%d runs, error %v", runs(), err)
	}
}

// The context of each attempt has its number and the caller's values.
func TestRetry_attemptInContext(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "kept")
	var seen []int
	_ = resilience.Run(ctx, must(t, quick(retry.Config{MaxAttempts: 4})), func(ctx context.Context) error {
		if ctx.Value(key{}) != "kept" {
			t.Error("the context does not derive from the caller's")
		}
		seen = append(seen, resilience.Attempt(ctx))
		return errBoom
	})
	if fmt.Sprint(seen) != "[1 2 3 4]" {
		t.Fatalf("attempts %v", seen)
	}
}

// If the context is already done, Apply runs and counts nothing.
func TestRetry_contextDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := must(t, retry.Config{})
	// Apply is called directly, because resilience.Run checks the context itself.
	err := r.Apply(ctx, resilience.Next{})
	if !errors.Is(err, context.Canceled) || total(r.Stats()) != 0 {
		t.Fatalf("error %v, counted %+v", err, r.Stats())
	}
}

// The observer is called with each retry and with the end.
func TestRetry_events(t *testing.T) {
	var got []string
	r := must(t, quick(retry.Config{Name: "users", MaxAttempts: 3, Observer: testkit.Observer(func(e resilience.Event) {
		got = append(got, fmt.Sprintln(e.Policy, e.Name, e.Kind, e.Attempt, e.Reason, e.Err))
	})}))
	op, _ := script(errBoom)
	_ = run(r, op)
	want := "[retry users retrying 2  boom retry users retrying 3  boom retry users gave up retrying 3 out of attempts boom]"
	if strings.ReplaceAll(fmt.Sprint(got), "\n", "") != want {
		t.Fatalf("observed %v, want %v", got, want)
	}
}

// A success makes no event.
func TestRetry_noEventOnSuccess(t *testing.T) {
	r := must(t, retry.Config{Observer: testkit.Observer(func(e resilience.Event) { t.Errorf("observed %+v", e) })})
	if err := run(r, func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

// A success at the first attempt allocates nothing.
func TestRetry_firstTryAllocs(t *testing.T) {
	r := must(t, retry.Config{})
	fork := r.Fork("")
	ctx, op := context.Background(), resilience.Func(func(context.Context) error { return nil })
	for name, p := range map[string]resilience.Policy{"root": r, "fork": fork} {
		if n := testing.AllocsPerRun(1000, func() { _ = resilience.RunOperation(ctx, p, op) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Stats has all reasons from the start.
func TestRetry_Stats_reasons(t *testing.T) {
	s := must(t, retry.Config{}).Stats()
	for _, reason := range retry.Reasons() {
		if n, ok := s.Stopped[reason]; !ok || n != 0 {
			t.Errorf("%v: %d, %v", reason, n, ok)
		}
	}
	if len(retry.Reasons()) != len(s.Stopped) {
		t.Errorf("%d and %d reasons", len(s.Stopped), len(retry.Reasons()))
	}
}

// A reason with "_" for " " is a metric label.
func TestReasons_labels(t *testing.T) {
	seen := map[string]bool{}
	for _, reason := range retry.Reasons() {
		if seen[reason] || reason == "" || strings.Trim(reason, "abcdefghijklmnopqrstuvwxyz ") != "" {
			t.Errorf("reason %q", reason)
		}
		seen[reason] = true
	}
}

// GaveUp and Calls add up the counters.
func TestCounters_Calls(t *testing.T) {
	s := retry.Stats{Counters: retry.Counters{FirstTry: 1, Recovered: 2, Aborted: 4, Stopped: map[string]uint64{retry.Rejected: 8, retry.OutOfBudget: 16}}}
	if s.GaveUp() != 24 || s.Calls() != 31 {
		t.Errorf("%d of %d calls gave up", s.GaveUp(), s.Calls())
	}
}

// Each call is counted once.
func TestRetry_Stats_countsOnce(t *testing.T) {
	r := must(t, quick(retry.Config{Budget: retry.NoBudget, MaxAttempts: 2}))
	for i, errs := range [][]error{
		{nil}, {errBoom, nil}, {errBoom}, {rejection()}, {errBoom, rejection()}, {retry.Permanent(errBoom)},
		{retry.After(errBoom, time.Hour)}, {errBoom, retry.Permanent(errBoom)},
	} {
		op, _ := script(errs...)
		_ = run(r, op)
		if n := total(r.Stats()); n != uint64(i+1) {
			t.Fatalf("%d calls counted after %d: %+v", n, i+1, r.Stats())
		}
	}
}
