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

// trap is an error whose methods run code of the user.
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

// unwinding are all places at which code of the user runs and may not return.
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

func TestPanicAndGoexitGoOnUnchangedAndAreCounted(t *testing.T) {
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

// usable checks that r still works and nothing of it is locked.
func usable(t *testing.T, r *retry.Retry) {
	t.Helper()
	if err := run(r, func(context.Context) error { return nil }); err != nil {
		t.Errorf("a call after it: %v", err)
	}
	if s := r.Stats(); s.FirstTry != 1 {
		t.Errorf("counted %+v after a success", s)
	}
}

func TestAPanickingObserverIsDropped(t *testing.T) {
	r := must(t, quick(retry.Config{Observer: testkit.Observer(func(resilience.Event) { panic(errBoom) })}))
	op, runs := script(errBoom)
	e := testkit.Unwind(func() error { return run(r, op) })
	if e.Panic != nil || runs() != 3 || total(r.Stats()) != 1 {
		t.Fatalf("ended with %+v after %d runs", e, runs())
	}
}

func TestGoexitInTheObserverCountsTheCallOnce(t *testing.T) {
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

func TestWhichAttemptsOfACallThatPanicsHaveFailed(t *testing.T) {
	at := func(n int) func() { // panics when it is called for the nth time
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
		"the first attempt":             {retry.Config{}, operation(at(1)), 1},
		"the second":                    {retry.Config{}, operation(at(2)), 2},
		"Retryable, after the first":    {retryable(at(1)), fails, 1},
		"Retryable, after the second":   {retryable(at(2)), fails, 2},
		"Outcome of the error":          {retry.Config{}, func(context.Context) error { return &trap{onOutcome: at(1)} }, 1},
		"Outcome of that of the second": {retry.Config{}, attempts(errBoom, &trap{onOutcome: at(1)}), 2},
	} {
		t.Run(name, func(t *testing.T) {
			c := quick(test.config)
			c.MaxAttempts = 5
			r := must(t, c)
			if e := testkit.Unwind(func() error { return run(r, test.op) }); e.Panic != any(errBoom) {
				t.Fatalf("ended with %+v", e)
			}
			op, runs := script(errBoom) // until the last five attempts of all calls have failed
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

// panickyClock panics once it is told to.
type panickyClock struct {
	*handClock
	panics *bool
}

func (c panickyClock) Since(t time.Time) time.Duration {
	if *c.panics {
		panic(errBoom)
	}
	return c.handClock.Since(t)
}

func TestAPanickingClockLocksNothing(t *testing.T) {
	panics := false
	r := must(t, quick(retry.Config{Clock: panickyClock{newHandClock(), &panics}}))
	panics = true
	op, _ := script(errBoom)
	testkit.Unwind(func() error { return run(r, op) })
	testkit.Unwind(func() error { r.Stats(); return nil })
	panics = false
	usable(t, r)
}
