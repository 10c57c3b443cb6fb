// Package fallback answers for an operation that failed.
//
//	rates, err := fallback.Do(ctx, p, fetchRates,
//		func(ctx context.Context, err error) (Rates, error) { return cached() })
//
// A fallback is the outermost policy, so that it also answers when another policy rejects
// the operation.
//
// Package stale answers with the value of the last successful fetch.
package fallback

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/counters"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/internal/vclock"
)

const policy = "fallback"

// EventUsed is the kind of an event: the fallback answered instead of an operation that
// ended with Event.Err.
const EventUsed = "used fallback"

// Config configures a Fallback. Handle is required.
type Config struct {
	// Name appears in errors, events and reports.
	Name string
	// Handle answers for an operation that ended with err. It is called after the
	// operation has released everything it held. Its ctx is the caller's, whose deadline
	// may have passed.
	//
	// If Handle returns nil, the operation has succeeded, but has no value: resilience.Do
	// then returns the zero value. Use the function Do for operations with a value.
	Handle func(ctx context.Context, err error) error
	// If reports whether to call Handle for an error. The default is true for failures and
	// rejections. It is false if the caller canceled its context, and for an error whose
	// outcome is not a failure, such as a "not found" that is itself the answer.
	If func(err error) bool
	// Observer is called each time before Handle is called. nil: none.
	Observer resilience.Observer
	// Clock is the time for events, nil for real time.
	Clock clock.Clock
}

// Fallback answers for operations that failed. It is safe for concurrent use if the
// functions in its Config are.
type Fallback struct {
	count  counters.Set // the first field, so that it is aligned to a cache line
	cfg    Config
	clock  vclock.Clock
	passed atomic.Uint64
	used   atomic.Uint64
	failed atomic.Uint64
}

// unused is the index of the counter of operations that succeeded.
const unused = 0

// New returns a Fallback, or an error that says what to change in c.
func New(c Config) (*Fallback, error) {
	if c.Handle == nil {
		return nil, fmt.Errorf("fallback %q: Config.Handle is nil: set it to a function that answers for the operation", c.Name)
	}
	return &Fallback{cfg: c, clock: vclock.New(c.Clock)}, nil
}

// Apply implements resilience.Policy. If Handle fails too, the error is an *Error.
func (f *Fallback) Apply(ctx context.Context, next resilience.Next) error {
	if ctx.Err() != nil {
		return resilience.ContextError(ctx)
	}
	returned := false
	defer func() {
		if !returned {
			f.passed.Add(1)
		}
	}()
	err := next.Run(ctx)
	returned = true
	if err == nil {
		f.count.Add(unused)
		return nil
	}
	return f.handle(ctx, next, err)
}

// handle answers for an operation that failed with err.
func (f *Fallback) handle(ctx context.Context, next resilience.Next, err error) error {
	outcome := &f.failed // stays so if user code panics
	defer func() { outcome.Add(1) }()
	if !policykit.Replaces(ctx, err, f.cfg.If) {
		outcome = &f.passed
		return err
	}
	next.Discard()
	if f.cfg.Observer != nil {
		policykit.Observe(ctx, f.cfg.Observer, resilience.Event{
			Kind: EventUsed, Time: f.clock.Now(), Policy: policy, Name: f.cfg.Name, Key: next.Key(), Err: err,
		})
	}
	if handleErr := f.cfg.Handle(ctx, err); handleErr != nil {
		return wrapBoth(err, handleErr)
	}
	outcome = &f.used
	return nil
}

// Name returns the name from the Config.
func (f *Fallback) Name() string { return f.cfg.Name }

// Fork implements resilience.Forker. A Fallback has no state, so Fork returns f.
func (f *Fallback) Fork(string) resilience.Policy { return f }

// Idle reports whether a keyed.Group may drop the fork. It is always true.
func (f *Fallback) Idle() bool { return true }

var errNoHandle = errors.New("fallback: the handle of Do is nil: give it a function that answers for the operation")

// Do runs fn under p, which may be nil. If fn fails or p rejects the call, Do returns the
// result of handle. Do calls handle for the same errors as a Fallback without Config.If. If
// handle fails too, the error is an *Error. If ctx, fn or handle is nil, Do returns an error
// and runs nothing.
func Do[T any](ctx context.Context, p resilience.Policy, fn func(context.Context) (T, error), handle func(ctx context.Context, err error) (T, error)) (T, error) {
	var zero T
	switch {
	case handle == nil:
		return zero, errNoHandle
	case ctx == nil || fn == nil:
		return resilience.Do(ctx, p, fn) // which returns the error
	case ctx.Err() != nil:
		return zero, resilience.ContextError(ctx) // as Fallback.Apply does
	}
	v, err := resilience.Do(ctx, p, fn)
	if err == nil || !policykit.Replaces(ctx, err, nil) {
		return v, err
	}
	v, handleErr := handle(ctx, err)
	if handleErr != nil {
		return v, wrapBoth(err, handleErr)
	}
	return v, nil
}

// Error is the error of an operation whose fallback failed too. errors.Is and errors.As
// find both errors, Err first. If the operation ran and the fallback was rejected, they do
// not find the rejection: it would look as if the operation had not run.
type Error struct {
	Err      error // the operation's error
	Fallback error // the fallback's error
}

// wrapBoth returns an error with err and handleErr. If handleErr already wraps err, it
// returns handleErr, so that the text does not repeat err.
func wrapBoth(err, handleErr error) error {
	if contains(handleErr, err) && rejected(handleErr) == rejected(err) {
		return handleErr
	}
	return &Error{err, handleErr}
}

// contains reports whether e is err or wraps err. errors.Is would also be true if e only
// matches err, as each timeout matches every other, and err would then be lost.
func contains(e, err error) bool {
	if !reflect.ValueOf(err).Comparable() {
		return false
	}
	if e == err {
		return true
	}
	switch e := e.(type) {
	case interface{ Unwrap() error }:
		return contains(e.Unwrap(), err)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), func(inner error) bool { return contains(inner, err) })
	}
	return false
}

// Error returns both texts.
func (e *Error) Error() string { return e.Err.Error() + "; fallback: " + e.Fallback.Error() }

// Unwrap returns the errors that errors.Is and errors.As find.
func (e *Error) Unwrap() []error {
	if rejected(e.Fallback) && !rejected(e.Err) {
		return []error{e.Err}
	}
	return []error{e.Err, e.Fallback}
}

func rejected(err error) bool { return errors.Is(err, resilience.ErrRejected) }
