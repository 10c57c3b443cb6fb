package resilience

import (
	"context"
	"errors"
	"reflect"
	"slices"
)

// Outcome is what the result of an operation means for the health of its dependency.
type Outcome uint8

const (
	// Success: the dependency works.
	Success Outcome = iota
	// Failure: the dependency does not work.
	Failure
	// Ignored: the result is no evidence about the dependency. The caller canceled, or an
	// inner policy rejected the operation.
	Ignored
)

// String returns "success", "failure" or "ignored".
func (o Outcome) String() string {
	switch o {
	case Success:
		return "success"
	case Failure:
		return "failure"
	default:
		return "ignored"
	}
}

// OutcomeOf returns the outcome of err, the result of an operation that ran under ctx.
// The first rule that applies decides:
//
//  1. nil is a Success, ErrAborted a Failure.
//  2. err itself has the outcome Success or Ignored: its method Outcome() Outcome returns
//     it, as for the errors of Answer and Ignore, or err is a rejection, which is Ignored.
//  3. A timeout ended ctx: Failure. A dependency that hangs must open the breaker of
//     callers that use deadlines. The timeout is ctx's deadline, or a timeout of this
//     very call that canceled ctx; see the method Ended in the package documentation.
//  4. ctx was canceled, whatever the cause: Ignored.
//  5. err itself has the outcome Failure.
//  6. classify is not nil: classify(err).
//  7. Failure.
//
// In rules 2 and 5 the outermost error in err's chain that has an outcome decides. Of
// joined errors, a Failure decides before a Success, and a Success before Ignored. A
// rejection decides only if it is joined with nothing else: otherwise something ran and
// failed.
func OutcomeOf(ctx context.Context, err error, classify func(error) Outcome) Outcome {
	switch {
	case err == nil:
		return Success
	case err == ErrAborted: // compared by identity: no operation returns it
		return Failure
	}
	own, ok := outcomeIn(err)
	switch {
	case ok && own != Failure:
		return own
	case ctx.Err() != nil:
		if timedOut(ctx) {
			return Failure
		}
		return Ignored
	case ok || classify == nil:
		return Failure
	default:
		return min(classify(err), Ignored) // a value beyond Ignored is not an Outcome
	}
}

// timedOut reports whether a timeout ended ctx, which is done.
func timedOut(ctx context.Context) bool {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return true
	}
	cause, ok := context.Cause(ctx).(interface{ Ended(context.Context) bool })
	return ok && cause.Ended(ctx)
}

// outcomeIn returns the outcome that err itself has, as OutcomeOf describes. It returns
// false if err has none.
func outcomeIn(err error) (o Outcome, ok bool) {
	if o, ok = methodIn(err); ok {
		return o, true
	}
	return Ignored, Rejected(err)
}

// methodIn returns the result of the methods Outcome in err's tree. It returns false if
// there are none.
func methodIn(err error) (o Outcome, ok bool) {
	for err != nil {
		if e, ok := err.(interface{ Outcome() Outcome }); ok {
			return min(e.Outcome(), Ignored), true
		}
		if all, ok := joined(err); ok {
			return methodInAll(all)
		}
		err = errors.Unwrap(err)
	}
	return 0, false
}

func methodInAll(all []error) (o Outcome, ok bool) {
	o = Ignored
	for _, err := range all {
		one, found := methodIn(err)
		switch {
		case !found:
		case one == Failure:
			return Failure, true
		default:
			o, ok = min(o, one), true
		}
	}
	return o, ok
}

// joined returns the errors that err joins: by a method Unwrap() []error, or because err is
// a slice of errors, as those of hashicorp/go-multierror and Kubernetes are.
func joined(err error) (all []error, ok bool) {
	if e, ok := err.(interface{ Unwrap() []error }); ok {
		return e.Unwrap(), true
	}
	v := reflect.ValueOf(err)
	if v.Kind() != reflect.Slice || v.Type().Elem() != reflect.TypeFor[error]() {
		return nil, false
	}
	return v.Convert(reflect.TypeFor[[]error]()).Interface().([]error), true
}

// Rejected reports whether err is the rejection of a policy: the operation did not run.
// Unlike errors.Is with ErrRejected, it is false for a rejection that is joined with an
// error of another kind, because then something ran and failed.
func Rejected(err error) bool {
	for err != nil {
		if all, ok := joined(err); ok {
			return len(all) > 0 && !slices.ContainsFunc(all, func(err error) bool { return !Rejected(err) })
		}
		if err == ErrRejected {
			return true
		}
		if e, ok := err.(interface{ Is(error) bool }); ok && e.Is(ErrRejected) {
			return true
		}
		err = errors.Unwrap(err)
	}
	return false
}

// Answer wraps err as a Success: the dependency worked, and err is its answer, such as
// "not found". No policy counts it as a failure, and a retry does not repeat it. errors.Is
// and errors.As find err. Answer(nil) is nil.
func Answer(err error) error { return withOutcome(err, Success) }

// Ignore wraps err as Ignored: it is no evidence about the dependency, as when the input
// was invalid. No policy counts it for or against the dependency, and a retry does not
// repeat it. errors.Is and errors.As find err. Ignore(nil) is nil.
func Ignore(err error) error { return withOutcome(err, Ignored) }

func withOutcome(err error, o Outcome) error {
	if err == nil {
		return nil
	}
	return &outcomeError{err, o}
}

// outcomeError is an error of Answer or Ignore.
type outcomeError struct {
	err     error
	outcome Outcome
}

func (e *outcomeError) Error() string    { return e.err.Error() }
func (e *outcomeError) Unwrap() error    { return e.err }
func (e *outcomeError) Outcome() Outcome { return e.outcome }
func (e *outcomeError) Retryable() bool  { return false }

// Timeout implements the interface that url.Error looks for, in the error itself and not in
// its chain.
func (e *outcomeError) Timeout() bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](e.err)
	return ok && t.Timeout()
}

// Temporary is a method of net.Error.
func (e *outcomeError) Temporary() bool { return e.Timeout() }
