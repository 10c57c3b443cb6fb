package fallback_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/timeout"
)

var (
	errBoom = errors.New("boom")
	errOwn  = errors.New("the fallback failed")
)

func must(t testing.TB, c fallback.Config) *fallback.Fallback {
	t.Helper()
	f, err := fallback.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// rejection returns the error of an inner policy that rejects an operation.
func rejection() error {
	return &resilience.Rejection{Policy: "test", Name: "inner", Reason: bulkhead.Full}
}

// opinion is an error with an Outcome method.
type opinion struct{ outcome resilience.Outcome }

func (o opinion) Error() string               { return "outcome " + o.outcome.String() }
func (o opinion) Outcome() resilience.Outcome { return o.outcome }

func answer(context.Context, error) error { return nil }

func fail(err error) resilience.Func { return func(context.Context) error { return err } }

func wantStats(t testing.TB, f *fallback.Fallback, want fallback.Stats) {
	t.Helper()
	if s := f.Stats(); s != want {
		t.Errorf("counted %+v, want %+v", s, want)
	}
}

// If, or the error's outcome, decides which errors the fallback answers for.
func TestConfig_If(t *testing.T) {
	for name, test := range map[string]struct {
		err      error
		choose   func(error) bool
		answered bool
	}{
		"a failure":             {errBoom, nil, true},
		"says it is a failure":  {opinion{resilience.Failure}, nil, true},
		"says it is a success":  {opinion{resilience.Success}, nil, false},
		"wrapped success":       {fmt.Errorf("call: %w", opinion{resilience.Success}), nil, false},
		"a rejection":           {rejection(), nil, true},
		"a wrapped rejection":   {fmt.Errorf("call: %w", rejection()), nil, true},
		"another call's end":    {context.Canceled, nil, true},
		"If says no":            {errBoom, func(error) bool { return false }, false},
		"If says yes":           {opinion{resilience.Success}, func(error) bool { return true }, true},
		"If says no, rejection": {rejection(), func(error) bool { return false }, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := must(t, fallback.Config{Handle: answer, If: test.choose})
			err := resilience.Run(t.Context(), f, fail(test.err))
			if test.answered {
				wantStats(t, f, fallback.Stats{Used: 1})
			} else {
				wantStats(t, f, fallback.Stats{Passed: 1})
			}
			if test.answered && err != nil || !test.answered && err != test.err {
				t.Errorf("error %v", err)
			}
			if test.choose != nil {
				return
			}
			v, err := fallback.Do(t.Context(), nil, func(context.Context) (int, error) { return 1, test.err },
				func(context.Context, error) (int, error) { return 2, nil })
			if test.answered && (v != 2 || err != nil) || !test.answered && (v != 1 || err != test.err) {
				t.Errorf("Do returned %d, %v", v, err)
			}
		})
	}
}

// A fallback answers after the caller's deadline and not after the caller's
// cancellation.
func TestFallback_callerContext(t *testing.T) {
	for name, test := range map[string]struct {
		deadline time.Duration // 0: the caller cancels
		cause    error
		err      error
		answered bool
	}{
		"canceled":                          {0, nil, context.Canceled, false},
		"canceled, another error":           {0, nil, errBoom, false},
		"canceled, a rejection":             {0, nil, rejection(), false},
		"canceled for another's deadline":   {0, context.DeadlineExceeded, context.Canceled, false},
		"deadline passed":                   {time.Millisecond, nil, context.DeadlineExceeded, true},
		"deadline passed, a rejection":      {time.Millisecond, nil, rejection(), true},
		"deadline passed, in a queue":       {time.Millisecond, nil, resilience.Ignore(context.DeadlineExceeded), true},
		"deadline passed, says a success":   {time.Millisecond, nil, opinion{}, false},
		"deadline to come, says it ignored": {time.Hour, nil, resilience.Ignore(errBoom), false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if test.deadline > 0 {
				var free context.CancelFunc
				ctx, free = context.WithTimeout(ctx, test.deadline)
				defer free()
			}
			f := must(t, fallback.Config{Handle: answer})
			err := resilience.Run(ctx, f, func(ctx context.Context) error {
				if test.deadline == 0 {
					cancel(test.cause)
				}
				if test.deadline < time.Hour {
					<-ctx.Done()
				}
				return test.err
			})
			if answered := err == nil; answered != test.answered || !answered && err != test.err {
				t.Errorf("error %v", err)
			}
		})
	}
}

// If the context is already done, the fallback answers and counts nothing.
func TestFallback_contextDone(t *testing.T) {
	for name, cause := range map[string]error{"canceled": nil, "deadline passed": context.DeadlineExceeded} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(cause)
			f := must(t, fallback.Config{Handle: answer})
			if err := f.Apply(ctx, resilience.Next{}); !errors.Is(err, context.Canceled) || cause != nil && !errors.Is(err, cause) {
				t.Errorf("error %v", err)
			}
			wantStats(t, f, fallback.Stats{})
			v, err := fallback.Do(ctx, nil, func(context.Context) (int, error) { return 1, nil },
				func(context.Context, error) (int, error) { return 2, nil })
			if v != 0 || !errors.Is(err, context.Canceled) {
				t.Errorf("Do returned %d, %v", v, err)
			}
		})
	}
}

// If the fallback fails too, the Error has both errors.
func TestError_both(t *testing.T) {
	f := must(t, fallback.Config{Handle: func(context.Context, error) error { return errOwn }})
	err := resilience.Run(t.Context(), f, fail(opinion{resilience.Failure}))
	var first opinion
	var e *fallback.Error
	if !errors.As(err, &first) || !errors.Is(err, errOwn) || !errors.As(err, &e) || e.Fallback != errOwn {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(err.Error(), first.Error()) || !strings.Contains(err.Error(), errOwn.Error()) {
		t.Errorf("%q does not contain both", err)
	}
	wantStats(t, f, fallback.Stats{Failed: 1})
	_, err = fallback.Do(t.Context(), nil, func(context.Context) (int, error) { return 1, errBoom },
		func(context.Context, error) (int, error) { return 2, errOwn })
	if !errors.Is(err, errBoom) || !errors.Is(err, errOwn) {
		t.Errorf("Do returned %v", err)
	}
}

// If Handle returns the error it was given, the text does not repeat it.
func TestError_notRepeated(t *testing.T) {
	for _, wrap := range []func(error) error{
		func(err error) error { return err },
		func(err error) error { return fmt.Errorf("no cache: %w", err) },
	} {
		f := must(t, fallback.Config{Handle: func(_ context.Context, err error) error { return wrap(err) }})
		err := resilience.Run(t.Context(), f, fail(errBoom))
		if err == nil || err.Error() != wrap(errBoom).Error() || !errors.Is(err, errBoom) {
			t.Errorf("error %v", err)
		}
		wantStats(t, f, fallback.Stats{Failed: 1})
	}
}

// If the operation ran and the fallback was rejected, the error does not match
// ErrRejected.
func TestError_fallbackRejected(t *testing.T) {
	for name, own := range map[string]func(err error) error{
		"alone":  func(error) error { return rejection() },
		"joined": func(err error) error { return errors.Join(err, rejection()) },
	} {
		t.Run(name, func(t *testing.T) {
			f := must(t, fallback.Config{Handle: func(_ context.Context, err error) error { return own(err) }})
			err := resilience.Run(t.Context(), f, fail(errBoom))
			var e *fallback.Error
			if errors.Is(err, resilience.ErrRejected) || !errors.Is(err, errBoom) {
				t.Errorf("error %v", err)
			}
			if !errors.As(err, &e) || !errors.Is(e.Fallback, resilience.ErrRejected) {
				t.Errorf("error %#v does not keep the rejection", err)
			}
		})
	}
}

// If the operation was rejected, the error matches ErrRejected.
func TestError_operationRejected(t *testing.T) {
	f := must(t, fallback.Config{Handle: func(context.Context, error) error { return rejection() }})
	first := &resilience.Rejection{Policy: "breaker", Name: "users", Reason: resilience.Open}
	if err := resilience.Run(t.Context(), f, fail(first)); !errors.Is(err, breaker.ErrOpen) || !errors.Is(err, resilience.ErrRejected) {
		t.Errorf("error %v", err)
	}
}

// newLasting returns an operation that answers, fails, and goes on until it is discarded.
func newLasting() *testkit.Lasting {
	op := &testkit.Lasting{}
	op.Func = func(context.Context) error { op.Reply(); return errBoom }
	return op
}

// The operation has released everything before Handle and the observer are called.
func TestFallback_discardsFirst(t *testing.T) {
	b := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue}))
	inFlight := map[string]int{}
	f := must(t, fallback.Config{
		Handle:   func(context.Context, error) error { inFlight["Handle"] = b.Stats().InFlight; return nil },
		Observer: testkit.Observer(func(resilience.Event) { inFlight["Observer"] = b.Stats().InFlight }),
	})
	op := newLasting()
	if err := resilience.RunOperation(t.Context(), resilience.Compose(f, b), op); err != nil || op.Discards != 1 {
		t.Fatalf("error %v, discarded %d times", err, op.Discards)
	}
	for what, n := range inFlight {
		if n != 0 {
			t.Errorf("%d slots taken when %s runs", n, what)
		}
	}
	if len(inFlight) != 2 {
		t.Errorf("only %v ran", inFlight)
	}
}

// The policy has released everything before Do calls handle.
func TestDo_releasesFirst(t *testing.T) {
	b := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue}))
	v, err := fallback.Do(t.Context(), b, func(context.Context) (int, error) { return 1, errBoom },
		func(context.Context, error) (int, error) { return b.Stats().InFlight, nil })
	if v != 0 || err != nil {
		t.Errorf("%d slots taken, %v", v, err)
	}
}

// An operation that the fallback does not answer for is not discarded.
func TestFallback_passedNotDiscarded(t *testing.T) {
	op := newLasting()
	f := must(t, fallback.Config{Handle: answer, If: func(error) bool { return false }})
	if err := resilience.RunOperation(t.Context(), f, op); err != errBoom || op.Discards != 0 {
		t.Fatalf("error %v, discarded %d times", err, op.Discards)
	}
}

// The observer is called for answers only.
func TestFallback_events(t *testing.T) {
	var got []resilience.Event
	f := must(t, fallback.Config{Name: "rates", Handle: answer, Observer: testkit.Observer(func(e resilience.Event) { got = append(got, e) })})
	for _, err := range []error{nil, opinion{resilience.Success}, errBoom} {
		_ = resilience.Run(t.Context(), f, fail(err))
	}
	if len(got) != 1 || got[0].Kind != fallback.EventUsed || got[0].Name != "rates" || got[0].Policy != "fallback" || got[0].Err != errBoom {
		t.Errorf("observed %+v", got)
	}
	wantStats(t, f, fallback.Stats{Unused: 1, Passed: 1, Used: 1})
}

// A fallback answers for an open breaker.
func TestFallback_openBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Hour}))
		var given error
		f := must(t, fallback.Config{Handle: func(_ context.Context, err error) error { given = err; return nil }})
		for range 2 {
			if err := resilience.Run(t.Context(), resilience.Compose(f, b), fail(errBoom)); err != nil {
				t.Fatal(err)
			}
		}
		if !errors.Is(given, breaker.ErrOpen) {
			t.Errorf("answered for %v", given)
		}
	})
}

// A panic or Goexit of user code continues unchanged and is counted once.
func TestFallback_unwinds(t *testing.T) {
	for kind, how := range testkit.Aborts(errBoom) {
		for name, test := range map[string]struct {
			config fallback.Config
			op     resilience.Func
			want   fallback.Stats
		}{
			"operation": {fallback.Config{Handle: answer}, func(context.Context) error { how.Abort(); return nil }, fallback.Stats{Passed: 1}},
			"If":        {fallback.Config{Handle: answer, If: func(error) bool { how.Abort(); return true }}, fail(errBoom), fallback.Stats{Failed: 1}},
			"Handle":    {fallback.Config{Handle: func(context.Context, error) error { how.Abort(); return nil }}, fail(errBoom), fallback.Stats{Failed: 1}},
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				f := must(t, test.config)
				e := testkit.Unwind(func() error { return resilience.Run(context.Background(), f, test.op) })
				if e != how {
					t.Errorf("ended with %+v", e)
				}
				wantStats(t, f, test.want)
			})
		}
	}
}

// A panic of the observer is dropped.
func TestFallback_observerPanics(t *testing.T) {
	f := must(t, fallback.Config{Handle: answer, Observer: testkit.Observer(func(resilience.Event) { panic(errBoom) })})
	if err := resilience.Run(t.Context(), f, fail(errBoom)); err != nil {
		t.Error(err)
	}
	wantStats(t, f, fallback.Stats{Used: 1})
}

// A missing Handle is an error that names the field and what to change.
func TestNew_noHandle(t *testing.T) {
	f, err := fallback.New(fallback.Config{Name: "rates"})
	if f != nil || err == nil {
		t.Fatalf("New returned %v, %v", f, err)
	}
	for _, want := range []string{`"rates"`, "Config.Handle is nil", "set it"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not contain %q", err, want)
		}
	}
}

// Forks share the counters.
func TestFallback_Fork(t *testing.T) {
	f := must(t, fallback.Config{Name: "rates", Handle: answer})
	fork := f.Fork("").(*fallback.Fallback)
	_ = resilience.Run(t.Context(), fork, fail(errBoom))
	wantStats(t, f, fallback.Stats{Used: 1})
	if !fork.Idle() || f.Name() != "rates" {
		t.Error("not idle, or without its name")
	}
}

// An unused fallback allocates nothing.
func TestFallback_unusedAllocs(t *testing.T) {
	f := must(t, fallback.Config{Handle: answer})
	ctx, op := context.Background(), fail(nil)
	if n := testing.AllocsPerRun(1000, func() { _ = resilience.RunOperation(ctx, f, op) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// alike matches errBoom and is not errBoom.
type alike struct{}

func (alike) Error() string        { return "alike" }
func (alike) Is(target error) bool { return target == errBoom }

// odd has a comparable type and values that are not comparable.
type odd struct{ any }

func (odd) Error() string { return "odd" }

// A fallback's error that only matches the first error does not hide it.
func TestError_similarErrors(t *testing.T) {
	for name, test := range map[string]struct{ err, own error }{
		"says it is":         {errBoom, alike{}},
		"two timeouts":       {context.DeadlineExceeded, &timeout.Error{Name: "cache"}},
		"two open breakers":  {&resilience.Rejection{Policy: "breaker", Reason: resilience.Open, Cause: errBoom}, &resilience.Rejection{Policy: "breaker", Name: "cache", Reason: resilience.Open}},
		"joined":             {errBoom, errors.Join(errOwn, alike{})},
		"cannot be compared": {odd{[]int{1}}, odd{[]int{1}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := must(t, fallback.Config{Handle: func(context.Context, error) error { return test.own }})
			err := resilience.Run(t.Context(), f, fail(test.err))
			var e *fallback.Error
			if !errors.As(err, &e) || e.Err.Error() != test.err.Error() || e.Fallback.Error() != test.own.Error() {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Under a Fallback that answers nil, Do returns the zero value: neither the operation's
// value nor handle's.
func TestDo_policyAnswersNil(t *testing.T) {
	f := must(t, fallback.Config{Handle: answer})
	failing := func(context.Context) (int, error) { return 5, errBoom }
	if v, err := resilience.Do(t.Context(), f, failing); v != 0 || err != nil {
		t.Errorf("resilience.Do returned %d, %v, want the zero value", v, err)
	}
	v, err := fallback.Do(t.Context(), f, failing, func(context.Context, error) (int, error) { return 6, nil })
	if v != 0 || err != nil {
		t.Errorf("fallback.Do returned %d, %v, want the zero value", v, err)
	}
}

// A nil argument of Do is an error that says what to pass, before the operation runs.
func TestDo_nilArguments(t *testing.T) {
	runs := 0
	fn := func(context.Context) (int, error) { runs++; return 5, errBoom }
	handle := func(context.Context, error) (int, error) { return 6, nil }
	var noContext context.Context
	for want, do := range map[string]func() (int, error){
		"the context is nil: pass":         func() (int, error) { return fallback.Do(noContext, nil, fn, handle) },
		"the operation is nil: pass":       func() (int, error) { return fallback.Do(t.Context(), nil, nil, handle) },
		"the handle of Do is nil: give it": func() (int, error) { return fallback.Do(t.Context(), nil, fn, nil) },
	} {
		if v, err := do(); v != 0 || err == nil || !strings.Contains(err.Error(), want) || runs != 0 {
			t.Errorf("got %d, %v after %d runs, want %s", v, err, runs, want)
		}
	}
}
