package resilience_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/resilience-go/resilience"
)

// Run and Do with a nil policy, pointer or function run the operation.
func TestRun_nilPolicy(t *testing.T) {
	for name, p := range map[string]resilience.Policy{
		"nil":        nil,
		"a pointer":  (*typed)(nil),
		"a function": resilience.PolicyFunc(nil),
	} {
		t.Run(name, func(t *testing.T) {
			if err := resilience.Run(t.Context(), p, func(context.Context) error { return errDown }); err != errDown {
				t.Errorf("got %v", err)
			}
			if v, err := resilience.Do(t.Context(), p, func(context.Context) (int, error) { return 7, errDown }); v != 7 || err != errDown {
				t.Errorf("Do returned %v, %v", v, err)
			}
		})
	}
}

// If ctx is already done, Run runs neither policies nor the operation (behaviour 15).
func TestRun_doneContext(t *testing.T) {
	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(errDown)
	expired, free := context.WithTimeout(t.Context(), -1)
	defer free()
	for name, ctx := range map[string]context.Context{"canceled": canceled, "expired": expired} {
		t.Run(name, func(t *testing.T) {
			var j journal
			for _, p := range []resilience.Policy{nil, j.traced("alone"), resilience.Compose(j.traced("in a pipeline"))} {
				err := resilience.RunOperation(ctx, p, resilience.Func(j.op))
				if !errors.Is(err, ctx.Err()) || !errors.Is(err, context.Cause(ctx)) {
					t.Errorf("got %v", err)
				}
			}
			if got := j.all(); got != nil {
				t.Errorf("ran %v", got)
			}
		})
	}
}

// Do returns the value of the last run, except that a nil error needs a run that
// succeeded: a policy that answers nil instead of the operation has no value.
func TestDo_value(t *testing.T) {
	runs := func(answer bool, err error, discard ...bool) resilience.Policy {
		return apply(func(ctx context.Context, next resilience.Next) error {
			own := err
			for _, d := range discard {
				own = next.Run(ctx)
				if d {
					next.Discard()
				}
			}
			if answer {
				return err
			}
			return own
		})
	}
	recovers := apply(func(ctx context.Context, next resilience.Next) (err error) {
		defer func() { _ = recover() }()
		return next.Run(ctx)
	})
	for name, tt := range map[string]struct {
		policy resilience.Policy
		errs   []error // of the operation's runs
		value  int
		want   error
	}{
		"no policy":                         {nil, []error{nil}, 1, nil},
		"with an error":                     {nil, []error{errDown}, 1, errDown},
		"run twice":                         {runs(false, nil, true, false), []error{errDown, nil}, 2, nil},
		"run twice, and failed":             {runs(false, nil, true, false), []error{errDown, errDown}, 2, errDown},
		"run twice, and failed last":        {runs(true, nil, false, false), []error{nil, errDown}, 0, nil},
		"not run, with an error":            {runs(true, resilience.ErrRejected), nil, 0, resilience.ErrRejected},
		"not run, without an error":         {runs(true, nil), nil, 0, nil},
		"answered after a failure":          {runs(true, nil, false), []error{errDown}, 0, nil},
		"answered after a discard":          {runs(true, nil, true), []error{nil}, 0, nil},
		"failed after a success":            {runs(true, errLater, false), []error{nil}, 1, errLater},
		"failed after a discard":            {runs(true, errLater, true), []error{errDown}, 1, errLater},
		"answered after a panic":            {recovers, []error{errPanic}, 0, nil},
		"answered after a success, a panic": {resilience.Compose(recovers, runs(false, nil, false, false)), []error{nil, errPanic}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			v, err := resilience.Do(t.Context(), tt.policy, func(context.Context) (int, error) {
				err := tt.errs[n]
				if n++; err == errPanic {
					panic(err)
				}
				return n, err
			})
			if v != tt.value || err != tt.want {
				t.Errorf("got %d, %v, want %d, %v", v, err, tt.value, tt.want)
			}
		})
	}
}

var errPanic = errors.New("panic")

// Must returns the value, and panics with the error.
func TestMust(t *testing.T) {
	if got := resilience.Must(7, nil); got != 7 {
		t.Errorf("got %d", got)
	}
	defer func() {
		if v := recover(); v != errDown {
			t.Errorf("recovered %v", v)
		}
	}()
	resilience.Must(7, errDown)
	t.Error("no panic")
}

// Attempt returns the number of the innermost WithAttempt, and 1 without one.
func TestAttempt(t *testing.T) {
	ctx := t.Context()
	if got := resilience.Attempt(ctx); got != 1 {
		t.Errorf("unset: %d", got)
	}
	second := resilience.WithAttempt(ctx, 2)
	third := resilience.WithAttempt(second, 3)
	for want, ctx := range map[int]context.Context{1: ctx, 2: second, 3: third} {
		if got := resilience.Attempt(ctx); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
}

// Key returns the operation's key, or "" if it has none.
func TestNext_key(t *testing.T) {
	for name, tt := range map[string]struct {
		op   resilience.Operation
		want string
	}{
		"a Func has none":       {resilience.Func(func(context.Context) error { return nil }), ""},
		"an operation with Key": {&lasting{key: "users"}, "users"},
	} {
		t.Run(name, func(t *testing.T) {
			_ = inside(t.Context(), tt.op, func(next resilience.Next) error {
				if got := next.Key(); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				return nil
			})
		})
	}
}

// Lasting reports whether the operation is Lasting, and Discard calls its Discard once.
func TestNext_lasting(t *testing.T) {
	for name, tt := range map[string]struct {
		op   resilience.Operation
		want bool
	}{
		"a Func":  {resilience.Func(func(context.Context) error { return nil }), false},
		"Lasting": {&lasting{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			_ = inside(t.Context(), tt.op, func(next resilience.Next) error {
				if got := next.Lasting(); got != tt.want {
					t.Errorf("got %v", got)
				}
				next.Discard() // of a Func: nothing
				return nil
			})
			if l, ok := tt.op.(*lasting); ok && l.discarded != 1 {
				t.Errorf("discarded %d times", l.discarded)
			}
		})
	}
}

// String returns the name of the moment.
func TestMomentString(t *testing.T) {
	for m, want := range map[resilience.Moment]string{
		0: "default", resilience.Answered: "answered", resilience.Ended: "ended", 9: "default",
	} {
		if got := m.String(); got != want {
			t.Errorf("%d: %q, want %q", m, got, want)
		}
	}
}

// A nil context or operation is an error that says what to pass.
func TestRun_nilArguments(t *testing.T) {
	op := resilience.Func(func(context.Context) error { return nil })
	var none context.Context
	for _, p := range []resilience.Policy{nil, resilience.Compose(), resilience.Compose(&fork{})} {
		_, noFunc := resilience.Do[int](t.Context(), p, nil)
		for want, err := range map[string]error{
			"Run: the context is nil":            resilience.Run(none, p, op),
			"Run: the operation is nil":          resilience.Run(t.Context(), p, nil),
			"RunOperation: the context is nil":   resilience.RunOperation(none, p, op),
			"RunOperation: the operation is nil": resilience.RunOperation(t.Context(), p, nil),
			"a nil Func: the operation is nil":   resilience.RunOperation(t.Context(), p, resilience.Func(nil)),
			"Do: the operation is nil":           noFunc,
		} {
			_, text, _ := strings.Cut(want, ": ")
			if err == nil || !strings.HasPrefix(err.Error(), "resilience: "+text+": pass ") {
				t.Errorf("%s: %v", want, err)
			}
		}
	}
}
