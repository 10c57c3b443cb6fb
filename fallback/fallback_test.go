package fallback_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
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

func refusal() error {
	return &resilience.Rejection{Policy: "test", Name: "inner", Reason: bulkhead.Full}
}

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

func TestWhatIsAnsweredFor(t *testing.T) {
	for name, test := range map[string]struct {
		err      error
		choose   func(error) bool
		answered bool
	}{
		"a failure":             {errBoom, nil, true},
		"says it is a failure":  {opinion{resilience.Failure}, nil, true},
		"says it is a success":  {opinion{resilience.Success}, nil, false},
		"wrapped success":       {fmt.Errorf("call: %w", opinion{resilience.Success}), nil, false},
		"a rejection":           {refusal(), nil, true},
		"a wrapped rejection":   {fmt.Errorf("call: %w", refusal()), nil, true},
		"another call's end":    {context.Canceled, nil, true},
		"If says no":            {errBoom, func(error) bool { return false }, false},
		"If says yes":           {opinion{resilience.Success}, func(error) bool { return true }, true},
		"If says no, rejection": {refusal(), func(error) bool { return false }, false},
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

func TestTheEndOfTheCallersContext(t *testing.T) {
	for name, test := range map[string]struct {
		end      func(cancel func(error))
		err      error
		answered bool
	}{
		"canceled":                        {func(c func(error)) { c(nil) }, context.Canceled, false},
		"canceled, another error":         {func(c func(error)) { c(nil) }, errBoom, false},
		"canceled, a rejection":           {func(c func(error)) { c(nil) }, refusal(), false},
		"deadline passed":                 {func(c func(error)) { c(context.DeadlineExceeded) }, context.DeadlineExceeded, true},
		"deadline passed, a rejection":    {func(c func(error)) { c(context.DeadlineExceeded) }, refusal(), true},
		"deadline passed, says a success": {func(c func(error)) { c(context.DeadlineExceeded) }, opinion{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			f := must(t, fallback.Config{Handle: answer})
			err := resilience.Run(ctx, f, func(context.Context) error {
				test.end(cancel)
				return test.err
			})
			if answered := err == nil; answered != test.answered || !answered && err != test.err {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestADoneContextAnswersAndCountsNothing(t *testing.T) {
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

func TestTheFallbacksOwnErrorDoesNotHideTheFirst(t *testing.T) {
	f := must(t, fallback.Config{Handle: func(context.Context, error) error { return errOwn }})
	err := resilience.Run(t.Context(), f, fail(opinion{resilience.Failure}))
	var first opinion
	var e *fallback.Error
	if !errors.As(err, &first) || !errors.Is(err, errOwn) || !errors.As(err, &e) || e.Fallback != errOwn {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(err.Error(), first.Error()) || !strings.Contains(err.Error(), errOwn.Error()) {
		t.Errorf("%q does not say both", err)
	}
	wantStats(t, f, fallback.Stats{Failed: 1})
	_, err = fallback.Do(t.Context(), nil, func(context.Context) (int, error) { return 1, errBoom },
		func(context.Context, error) (int, error) { return 2, errOwn })
	if !errors.Is(err, errBoom) || !errors.Is(err, errOwn) {
		t.Errorf("Do returned %v", err)
	}
}

func TestAFallbackThatReturnsTheErrorItWasGivenDoesNotSayItTwice(t *testing.T) {
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

func TestAnOperationThatRanIsNotRejectedBecauseItsFallbackWas(t *testing.T) {
	for name, own := range map[string]func(err error) error{
		"alone":  func(error) error { return refusal() },
		"joined": func(err error) error { return errors.Join(err, refusal()) },
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

func TestAnOperationThatWasRejectedStaysSo(t *testing.T) {
	f := must(t, fallback.Config{Handle: func(context.Context, error) error { return refusal() }})
	first := &resilience.Rejection{Policy: "breaker", Name: "users", Reason: resilience.Open}
	if err := resilience.Run(t.Context(), f, fail(first)); !errors.Is(err, breaker.ErrOpen) || !errors.Is(err, resilience.ErrRejected) {
		t.Errorf("error %v", err)
	}
}

// lasting is an operation that goes on until it is discarded.
type lasting struct {
	resilience.Tail
	run  uint32
	ends int
}

func (l *lasting) Run(context.Context) error {
	l.run = l.Begin()
	l.Answer(l.run)
	return errBoom
}

func (l *lasting) Discard() {
	l.ends++
	l.End(l.run, context.Canceled)
}

func TestWhatLiesInsideIsGivenUpBeforeTheFallbackRuns(t *testing.T) {
	b := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: -1}))
	inFlight := map[string]int{}
	f := must(t, fallback.Config{
		Handle:   func(context.Context, error) error { inFlight["Handle"] = b.Stats().InFlight; return nil },
		Observer: testkit.Observer(func(resilience.Event) { inFlight["Observer"] = b.Stats().InFlight }),
	})
	op := &lasting{}
	if err := resilience.RunOperation(t.Context(), resilience.Compose(f, b), op); err != nil || op.ends != 1 {
		t.Fatalf("error %v, discarded %d times", err, op.ends)
	}
	for who, n := range inFlight {
		if n != 0 {
			t.Errorf("%d slots taken when %s runs", n, who)
		}
	}
	if len(inFlight) != 2 {
		t.Errorf("only %v ran", inFlight)
	}
}

func TestWhatLiesInsideIsGivenUpBeforeDoAnswers(t *testing.T) {
	b := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: -1}))
	v, err := fallback.Do(t.Context(), b, func(context.Context) (int, error) { return 1, errBoom },
		func(context.Context, error) (int, error) { return b.Stats().InFlight, nil })
	if v != 0 || err != nil {
		t.Errorf("%d slots taken, %v", v, err)
	}
}

func TestAnOperationThatIsNotAnsweredForIsNotDiscarded(t *testing.T) {
	op := &lasting{}
	f := must(t, fallback.Config{Handle: answer, If: func(error) bool { return false }})
	if err := resilience.RunOperation(t.Context(), f, op); err != errBoom || op.ends != 0 {
		t.Fatalf("error %v, discarded %d times", err, op.ends)
	}
}

func TestTheObserverHearsOfAnswersOnly(t *testing.T) {
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

func TestTheFallbackOfAnOpenBreakerAnswers(t *testing.T) {
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

func TestPanicAndGoexitGoOnUnchangedAndAreCountedOnce(t *testing.T) {
	for _, goexit := range []bool{false, true} {
		boom := func() {
			if goexit {
				runtime.Goexit()
			}
			panic(errBoom)
		}
		for name, test := range map[string]struct {
			config fallback.Config
			op     resilience.Func
			want   fallback.Stats
		}{
			"operation": {fallback.Config{Handle: answer}, func(context.Context) error { boom(); return nil }, fallback.Stats{Passed: 1}},
			"If":        {fallback.Config{Handle: answer, If: func(error) bool { boom(); return true }}, fail(errBoom), fallback.Stats{Failed: 1}},
			"Handle":    {fallback.Config{Handle: func(context.Context, error) error { boom(); return nil }}, fail(errBoom), fallback.Stats{Failed: 1}},
		} {
			t.Run(fmt.Sprint(name, "/Goexit=", goexit), func(t *testing.T) {
				f := must(t, test.config)
				var panicked any
				returned := false
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { panicked = recover() }()
					_ = resilience.Run(context.Background(), f, test.op)
					returned = true
				}()
				<-done
				if returned || !goexit && panicked != any(errBoom) || goexit && panicked != nil {
					t.Errorf("returned %v, panicked with %v", returned, panicked)
				}
				wantStats(t, f, test.want)
			})
		}
	}
}

func TestAPanickingObserverIsDropped(t *testing.T) {
	f := must(t, fallback.Config{Handle: answer, Observer: testkit.Observer(func(resilience.Event) { panic(errBoom) })})
	if err := resilience.Run(t.Context(), f, fail(errBoom)); err != nil {
		t.Error(err)
	}
	wantStats(t, f, fallback.Stats{Used: 1})
}

func TestAMissingHandleIsNamedWithWhatToChange(t *testing.T) {
	f, err := fallback.New(fallback.Config{Name: "rates"})
	if f != nil || err == nil {
		t.Fatalf("New returned %v, %v", f, err)
	}
	for _, want := range []string{`"rates"`, "Config.Handle is nil", "set it"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestForksCountTogether(t *testing.T) {
	f := must(t, fallback.Config{Name: "rates", Handle: answer})
	fork := f.Fork("").(*fallback.Fallback)
	_ = resilience.Run(t.Context(), fork, fail(errBoom))
	wantStats(t, f, fallback.Stats{Used: 1})
	if !fork.Idle() || f.Name() != "rates" {
		t.Error("not idle, or without its name")
	}
}

func TestAnUnusedFallbackAllocatesNothing(t *testing.T) {
	f := must(t, fallback.Config{Handle: answer})
	ctx, op := context.Background(), fail(nil)
	if n := testing.AllocsPerRun(1000, func() { _ = resilience.RunOperation(ctx, f, op) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// alike says that it is errBoom.
type alike struct{}

func (alike) Error() string        { return "alike" }
func (alike) Is(target error) bool { return target == errBoom }

// odd has a type that can be compared, and values that cannot.
type odd struct{ any }

func (odd) Error() string { return "odd" }

func TestAFallbackWhoseErrorIsOnlyLikeTheFirstDoesNotHideIt(t *testing.T) {
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

// Under a Fallback that answers nil, Do has no value: neither the operation's nor the
// alternative's.
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
