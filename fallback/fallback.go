// Package fallback answers in place of an operation that failed.
//
//	rates, err := fallback.Do(ctx, p, fetchRates,
//		func(ctx context.Context, err error) (Rates, error) { return cached() })
//
// A fallback belongs outside of all other policies, so that it also answers for
// what they refuse.
//
// Package stale answers with the value that was fetched last.
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

// Config says how a Fallback works. Handle is required.
type Config struct {
	// Name appears in events.
	Name string
	// Handle answers in place of an operation that ended with err. Nothing of
	// the operation goes on any more when it is called. Its ctx is the caller's, whose
	// deadline may have passed.
	Handle func(ctx context.Context, err error) error
	// If chooses the errors that Handle is called for. By default these are all
	// but the end of the caller's context by cancellation, since nobody waits for
	// the answer, and errors that say they are a success of the dependency, such
	// as that what was asked for does not exist.
	If func(err error) bool
	// Observer hears of each time that Handle was called. nil: none.
	Observer resilience.Observer
	// Clock dates the events, nil for real time.
	Clock clock.Clock
}

// Fallback answers in place of operations that failed. It is safe for
// concurrent use if the functions in its Config are.
type Fallback struct {
	count  counters.Set // first, for its alignment
	cfg    Config
	clock  vclock.Clock
	passed atomic.Uint64
	used   atomic.Uint64
	failed atomic.Uint64
}

// unused is the counter of operations that succeeded.
const unused = 0

// New returns a Fallback, or an error that says what to change in c.
func New(c Config) (*Fallback, error) {
	if c.Handle == nil {
		return nil, fmt.Errorf("fallback %q: Config.Handle is nil: set it to a function that answers in place of the operation", c.Name)
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

func (f *Fallback) handle(ctx context.Context, next resilience.Next, err error) error {
	outcome := &f.failed // also if code of the user panics
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
	if own := f.cfg.Handle(ctx, err); own != nil {
		return join(err, own)
	}
	outcome = &f.used
	return nil
}

// EventUsed is the kind of an event: the fallback answered instead of an operation that
// ended with Event.Err.
const EventUsed = "used fallback"

// Name returns the name from the Config.
func (f *Fallback) Name() string { return f.cfg.Name }

// Fork implements resilience.Forker. A Fallback has no state, so the fork is f.
func (f *Fallback) Fork(string) resilience.Policy { return f }

// Idle implements resilience.Forker; it is always true.
func (f *Fallback) Idle() bool { return true }

// Stats is what a Fallback has counted since it was made.
type Stats struct {
	Unused uint64 // the operation succeeded
	Passed uint64 // it failed, or panicked, in a way that the fallback is not for
	Used   uint64 // the fallback answered
	Failed uint64 // the fallback failed too
}

// Stats returns the counters.
func (f *Fallback) Stats() Stats {
	return Stats{Unused: f.count.Sum(unused), Passed: f.passed.Load(), Used: f.used.Load(), Failed: f.failed.Load()}
}

// Do runs fn under p, which may be nil, and answers with handle if that fails: the
// error may be that of fn or a refusal of a policy. It is for errors that a
// Fallback without If is for.
func Do[T any](ctx context.Context, p resilience.Policy, fn func(context.Context) (T, error), handle func(ctx context.Context, err error) (T, error)) (T, error) {
	if ctx.Err() != nil {
		var zero T
		return zero, resilience.ContextError(ctx) // as a Fallback does
	}
	v, err := resilience.Do(ctx, p, fn)
	if err == nil || !policykit.Replaces(ctx, err, nil) {
		return v, err
	}
	v, own := handle(ctx, err)
	if own != nil {
		return v, join(err, own)
	}
	return v, nil
}

// Error is the error of an operation whose fallback failed as well. errors.Is and
// errors.As see both errors, the first one first; but of an operation that did run
// they do not see that what answered in its place was rejected.
type Error struct {
	Err      error // of the operation
	Fallback error // of what answered in its place
}

// join keeps a fallback that returns the error it was given from saying it twice.
func join(err, own error) error {
	if contains(own, err) && rejected(own) == rejected(err) {
		return own
	}
	return &Error{err, own}
}

// contains reports whether own is err or wraps it. errors.Is would also find another
// error that only says that it is alike, as one timeout says of every other, and so
// hide err.
func contains(own, err error) bool {
	if !reflect.ValueOf(err).Comparable() {
		return false
	}
	if own == err {
		return true
	}
	switch own := own.(type) {
	case interface{ Unwrap() error }:
		return contains(own.Unwrap(), err)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(own.Unwrap(), func(inner error) bool { return contains(inner, err) })
	}
	return false
}

// Error says both.
func (e *Error) Error() string { return e.Err.Error() + "; fallback: " + e.Fallback.Error() }

// Unwrap returns the errors that the type describes.
func (e *Error) Unwrap() []error {
	if rejected(e.Fallback) && !rejected(e.Err) {
		return []error{e.Err}
	}
	return []error{e.Err, e.Fallback}
}

func rejected(err error) bool { return errors.Is(err, resilience.ErrRejected) }
