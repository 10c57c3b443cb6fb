package resilience

import "context"

// Run runs fn under p; nil, or a *Pipeline that is nil, guards nothing. A ctx
// that is already done runs nothing and is counted nowhere; the error is then
// that of ContextError.
//
// A closure that captures variables costs the allocations that Go charges for
// it, because a Policy may keep what it is given. Hot callers implement
// Operation on a struct of their own and use RunOperation.
func Run(ctx context.Context, p Policy, fn Func) error {
	return RunOperation(ctx, p, fn)
}

// RunOperation is Run for an Operation. It allocates nothing itself.
func RunOperation(ctx context.Context, p Policy, op Operation) error {
	if ctx.Err() != nil {
		return ContextError(ctx)
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

// Do runs fn under p and returns its value. Whatever the error, the value is the
// one that fn returned when it last ran, the zero value if it did not run.
func Do[T any](ctx context.Context, p Policy, fn func(context.Context) (T, error)) (T, error) {
	c := &call[T]{fn: fn}
	err := RunOperation(ctx, p, c)
	return c.value, err
}

type call[T any] struct {
	fn    func(context.Context) (T, error)
	value T
}

func (c *call[T]) Run(ctx context.Context) (err error) {
	c.value, err = c.fn(ctx)
	return err
}

// Must returns v and panics if err is not nil. It is meant for configuration
// that is fixed in the program:
//
//	var users = resilience.Must(breaker.New(breaker.Config{Name: "users"}))
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type attemptKey struct{}

// WithAttempt returns a context that says that the operation is attempt n of a
// call; the first attempt is 1. A retry sets it from the second attempt on, and
// httpmw and grpcmw carry it to the next service, so that a retry there does not
// multiply the one here.
func WithAttempt(ctx context.Context, n int) context.Context {
	return context.WithValue(ctx, attemptKey{}, n)
}

// Attempt returns the number of the attempt that ctx belongs to, 1 if nobody has
// set it.
func Attempt(ctx context.Context) int {
	if n, ok := ctx.Value(attemptKey{}).(int); ok {
		return n
	}
	return 1
}
