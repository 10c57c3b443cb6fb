package retry_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
)

// trap is an error whose methods run user code.
type trap struct {
	onOutcome, onRetryable, onRetryAfter, onTimeout, onIs func()
}

func call(f func()) {
	if f != nil {
		f()
	}
}

func (e *trap) Error() string               { return "trap" }
func (e *trap) Outcome() resilience.Outcome { call(e.onOutcome); return resilience.Failure }
func (e *trap) Retryable() bool             { call(e.onRetryable); return true }
func (e *trap) RetryAfter() time.Duration   { call(e.onRetryAfter); return 0 }
func (e *trap) Timeout() bool               { call(e.onTimeout); return false }
func (e *trap) Is(error) bool               { call(e.onIs); return false }

type discarded struct {
	resilience.Func
	onDiscard func()
}

func (d discarded) Hold(resilience.Moment, resilience.Settler, uint64) bool { return false }
func (d discarded) Discard()                                                { d.onDiscard() }

// unwinding returns a test for each point at which user code runs and may not return.
func unwinding(boom func()) map[string]struct {
	config retry.Config
	op     resilience.Operation
} {
	fail := func(err error) resilience.Func { return func(context.Context) error { return err } }
	type c = struct {
		config retry.Config
		op     resilience.Operation
	}
	at := func(n int) resilience.Func {
		return func(ctx context.Context) error {
			if resilience.Attempt(ctx) == n {
				boom()
			}
			return errBoom
		}
	}
	return map[string]c{
		"operation, attempt 1": {retry.Config{}, at(1)},
		"operation, attempt 2": {retry.Config{}, at(2)},
		"operation, attempt 3": {retry.Config{}, at(3)},
		"Backoff":              {retry.Config{Backoff: func(int) time.Duration { boom(); return 0 }}, fail(errBoom)},
		"Retryable":            {retry.Config{Retryable: func(error) bool { boom(); return true }}, fail(errBoom)},
		"Outcome of the error": {retry.Config{}, fail(&trap{onOutcome: boom})},
		"Retryable of it":      {retry.Config{}, fail(&trap{onRetryable: boom})},
		"RetryAfter of it":     {retry.Config{}, fail(&trap{onRetryAfter: boom})},
		"Timeout of it":        {retry.Config{}, fail(&trap{onTimeout: boom})},
		"Is of it":             {retry.Config{}, fail(&trap{onIs: boom})},
		"Discard":              {retry.Config{}, discarded{fail(errBoom), boom}},
	}
}

// A panic or Goexit of user code continues unchanged and is counted as one aborted call.
func TestRetry_unwinds(t *testing.T) {
	for kind, how := range testkit.Aborts(errBoom) {
		for name, test := range unwinding(how.Abort) {
			t.Run(name+"/"+kind, func(t *testing.T) {
				r := must(t, quick(test.config))
				e := testkit.Unwind(func() error { return resilience.RunOperation(context.Background(), r, test.op) })
				if e != how {
					t.Fatalf("ended with %+v", e)
				}
				s := r.Stats()
				if s.Aborted != 1 || total(s) != 1 {
					t.Errorf("counted %+v, want one aborted call", s)
				}
				if paid := s.Spent - s.Refunded; paid != int64(5*s.Retries) {
					t.Errorf("paid %d for %d retries", paid, s.Retries)
				}
				usable(t, r)
			})
		}
	}
}

// usable checks that r still works and holds no lock.
func usable(t *testing.T, r *retry.Retry) {
	t.Helper()
	if err := run(r, func(context.Context) error { return nil }); err != nil {
		t.Errorf("a call after it: %v", err)
	}
	if s := r.Stats(); s.FirstTry != 1 {
		t.Errorf("counted %+v after a success", s)
	}
}

// A panic of the observer is dropped.
func TestRetry_observerPanics(t *testing.T) {
	r := must(t, quick(retry.Config{Observer: testkit.Observer(func(resilience.Event) { panic(errBoom) })}))
	op, runs := script(errBoom)
	e := testkit.Unwind(func() error { return run(r, op) })
	if e.Panic != nil || runs() != 3 || total(r.Stats()) != 1 {
		t.Fatalf("ended with %+v after %d runs", e, runs())
	}
}

// A Goexit of the observer counts the call once.
func TestRetry_observerExits(t *testing.T) {
	for _, kind := range []string{retry.EventRetrying, retry.EventGaveUp} {
		t.Run(kind, func(t *testing.T) {
			r := must(t, quick(retry.Config{Observer: testkit.Observer(func(e resilience.Event) {
				if e.Kind == kind {
					runtime.Goexit()
				}
			})}))
			op, _ := script(errBoom)
			if e := testkit.Unwind(func() error { return run(r, op) }); !e.Goexit {
				t.Fatalf("ended with %+v", e)
			}
			s := r.Stats()
			if s.Aborted != 1 || total(s) != 1 {
				t.Errorf("counted %+v", s)
			}
			if paid := s.Spent - s.Refunded; paid != int64(5*s.Retries) {
				t.Errorf("paid %d for %d retries", paid, s.Retries)
			}
			usable(t, r)
		})
	}
}

// If a call panics, each of its failed attempts counts once for the streak.
func TestRetry_panicCountsAttempts(t *testing.T) {
	at := func(n int) func() { // panics in its nth call
		called := 0
		return func() {
			if called++; called == n {
				panic(errBoom)
			}
		}
	}
	fails := func(context.Context) error { return errBoom }
	operation := func(boom func()) resilience.Func {
		return func(context.Context) error { boom(); return errBoom }
	}
	retryable := func(boom func()) retry.Config {
		return retry.Config{Retryable: func(error) bool { boom(); return true }}
	}
	for name, test := range map[string]struct {
		config retry.Config
		op     resilience.Func
		failed int
	}{
		"the first attempt":           {retry.Config{}, operation(at(1)), 1},
		"the second":                  {retry.Config{}, operation(at(2)), 2},
		"Retryable, after the first":  {retryable(at(1)), fails, 1},
		"Retryable, after the second": {retryable(at(2)), fails, 2},
		"Outcome of the error":        {retry.Config{}, func(context.Context) error { return &trap{onOutcome: at(1)} }, 1},
		"Outcome of the second error": {retry.Config{}, attempts(errBoom, &trap{onOutcome: at(1)}), 2},
	} {
		t.Run(name, func(t *testing.T) {
			c := quick(test.config)
			c.MaxAttempts = 5
			r := must(t, c)
			if e := testkit.Unwind(func() error { return run(r, test.op) }); e.Panic != any(errBoom) {
				t.Fatalf("ended with %+v", e)
			}
			op, runs := script(errBoom) // until five attempts in a row have failed
			wantReason(t, run(r, op), retry.AllFailing)
			if n := 5 - runs(); n != test.failed {
				t.Errorf("%d attempts were counted, want %d", n, test.failed)
			}
		})
	}
}

func attempts(errs ...error) resilience.Func {
	fn, _ := script(errs...)
	return fn
}

// A panic of the Clock leaves no lock behind.
func TestRetry_clockPanics(t *testing.T) {
	c := testkit.NewClock()
	r := must(t, quick(retry.Config{Clock: c}))
	c.OnSince = func() { panic(errBoom) }
	op, _ := script(errBoom)
	testkit.Unwind(func() error { return run(r, op) })
	testkit.Unwind(func() error { r.Stats(); return nil })
	c.OnSince = nil
	usable(t, r)
}
