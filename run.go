package resilience

import (
	"context"
	"errors"
	"reflect"
)

var (
	errNoContext   = errors.New("resilience: the context is nil: pass the caller's, or context.Background()")
	errNoOperation = errors.New("resilience: the operation is nil: pass a function or an Operation")
)

// Run runs fn under p, which guards nothing if it is nil or a nil pointer. If ctx is already
// done, Run returns ContextError(ctx): fn does not run, and no policy counts it. A nil ctx or
// fn is an error.
//
// Go allocates a closure and the variables that it captures, because a Policy may
// keep what it is given. Callers on a hot path implement Operation on a struct of
// their own and use RunOperation.
func Run(ctx context.Context, p Policy, fn Func) error {
	if fn == nil {
		return errNoOperation
	}
	return RunOperation(ctx, notNil(p), fn)
}

// notNil returns p, or nil if p is a nil pointer.
func notNil(p Policy) Policy {
	if v := reflect.ValueOf(p); v.Kind() == reflect.Pointer && v.IsNil() {
		return nil
	}
	return p
}

// RunOperation is Run for an Operation. It does not allocate. Unlike Run, it does not check
// whether p is a nil pointer, which would cost a nanosecond.
func RunOperation(ctx context.Context, p Policy, op Operation) error {
	switch {
	case ctx == nil:
		return errNoContext
	case op == nil:
		return errNoOperation
	case ctx.Err() != nil:
		return ContextError(ctx)
	}
	if f, ok := op.(Func); ok && f == nil {
		return errNoOperation
	}
	switch p := p.(type) {
	case nil:
		return op.Run(ctx)
	case *pipeline:
		return Next{p.policies, op}.Run(ctx)
	default:
		return p.Apply(ctx, Next{nil, op})
	}
}

// Do runs fn under p and returns its value.
//
// With an error, the value is the one that fn returned when it last ran, or the zero
// value if fn did not run. With a nil error, the value is from the run that succeeded.
// It is the zero value if p returned nil after a failure, as a fallback does, because a
// policy has no value. fallback.Do answers with a value.
func Do[T any](ctx context.Context, p Policy, fn func(context.Context) (T, error)) (T, error) {
	if fn == nil {
		var zero T
		return zero, errNoOperation
	}
	c := &call[T]{fn: fn}
	err := RunOperation(ctx, notNil(p), c)
	if err == nil && !c.succeeded {
		var zero T
		return zero, nil
	}
	return c.value, err
}

// call is the operation of Do.
type call[T any] struct {
	fn        func(context.Context) (T, error)
	value     T
	succeeded bool // the last run returned nil, and no policy has discarded it
}

func (c *call[T]) Run(ctx context.Context) (err error) {
	c.succeeded = false // also if fn panics and a policy recovers it
	c.value, err = c.fn(ctx)
	c.succeeded = err == nil
	return err
}

// discard is called by Next.Discard: a call is over when Run returns, so it is not
// Lasting.
func (c *call[T]) discard() { c.succeeded = false }

// Must returns v, and panics if err is not nil. It is for configuration that is fixed
// in the program:
//
//	var users = resilience.Must(breaker.New(breaker.Config{Name: "users"}))
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type attemptKey struct{}

// WithAttempt returns a context for attempt n of a call. The first attempt is 1. A
// retry calls WithAttempt from the second attempt on. httpmw and grpcmw send the number
// to the next service, so that a retry there does not multiply this one.
func WithAttempt(ctx context.Context, n int) context.Context {
	return context.WithValue(ctx, attemptKey{}, n)
}

// Attempt returns the number of the attempt that ctx belongs to, 1 if it has none.
func Attempt(ctx context.Context) int {
	if n, ok := ctx.Value(attemptKey{}).(int); ok {
		return n
	}
	return 1
}
