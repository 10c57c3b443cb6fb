package retry

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/resilience-go/resilience"
)

// The kinds of events.
const (
	// EventRetrying: attempt Event.Attempt starts after Event.Delay, because the attempt
	// before it ended with Event.Err.
	EventRetrying = "retrying"
	// EventGaveUp: the call ended after Event.Attempt attempts, for Event.Reason.
	EventGaveUp = "gave up retrying"
)

// The reasons why a Retry does not try a call again.
const (
	// OutOfAttempts: Config.MaxAttempts attempts were made.
	OutOfAttempts = "out of attempts"
	// OutOfBudget: too few calls have succeeded to pay for a retry.
	OutOfBudget = "out of budget"
	// AllFailing: the last attempts of all calls failed, so a retry would fail too.
	AllFailing = "all failing"
	// PastDeadline: the wait would end after the deadline.
	PastDeadline = "past deadline"
	// WaitTooLong: the error asks for a longer wait than Config.MaxDelay.
	WaitTooLong = "wait too long"
	// Rejected: an inner policy rejected the attempt.
	Rejected = "rejected"
	// NotRetryable: Config.Retryable excludes the error.
	NotRetryable = "not retryable"
	// Inherited: the call is itself a retry of an upstream caller.
	Inherited = "inherited"
	// ContextDone: the caller's context ended.
	ContextDone = "context done"
)

// reason is the index of a reason in reasons. The zero reason counts the calls that
// ended in a panic or runtime.Goexit.
type reason uint8

const (
	aborted reason = iota
	outOfAttempts
	outOfBudget
	allFailing
	pastDeadline
	waitTooLong
	rejected
	notRetryable
	inherited
	contextDone
)

var reasons = [...]string{
	outOfAttempts: OutOfAttempts, outOfBudget: OutOfBudget, allFailing: AllFailing,
	pastDeadline: PastDeadline, waitTooLong: WaitTooLong, rejected: Rejected,
	notRetryable: NotRetryable, inherited: Inherited, contextDone: ContextDone,
}

// Reasons returns all reasons, in the order of the constants.
func Reasons() []string { return slices.Clone(reasons[outOfAttempts:]) }

// Error is the error of a call that a Retry gave up. errors.Is and errors.As see
// the error of the last attempt that ran and, if the context of the caller ended
// while it waited, that of the context.
type Error struct {
	Name     string // of the Retry, as configured
	Attempts int    // that were made, those that were rejected included
	Reason   string // why there was no further one
	Err      error  // of the last attempt that ran
	// Rejection is the refusal that the last attempt met, nil if it ran. It is not
	// what errors.Is sees, because the operation did run before.
	Rejection error

	done error // of the context
}

// add takes in how an attempt ended.
func (e *Error) add(err error) {
	switch {
	case !errors.Is(err, resilience.ErrRejected):
		e.Err, e.Rejection = err, nil
	case e.Err == nil || errors.Is(e.Err, resilience.ErrRejected):
		e.Err = err // none has run so far
	default:
		e.Rejection = err
	}
}

// Error says how often the operation was tried, why that was all, and what the
// last attempt said.
func (e *Error) Error() string {
	attempts := "attempts"
	if e.Attempts == 1 {
		attempts = "attempt"
	}
	name := ""
	if e.Name != "" {
		name = fmt.Sprintf(" %q", e.Name)
	}
	s := fmt.Sprintf("resilience: retry%s gave up after %d %s (%s): %v", name, e.Attempts, attempts, e.Reason, e.Err)
	if e.Rejection != nil {
		s += "; then " + e.Rejection.Error()
	}
	if e.done != nil {
		s += "; then " + e.done.Error()
	}
	return s
}

// Unwrap returns the errors that the type describes.
func (e *Error) Unwrap() []error {
	if e.done != nil {
		return []error{e.Err, e.done}
	}
	return []error{e.Err}
}

// Timeout reports whether the last attempt that ran timed out: it is what net.Error
// and url.Error ask for.
func (e *Error) Timeout() bool { return timedOut(e.Err) }

// timedOut reports whether the first error of the chain that can tell says that it
// is a timeout.
func timedOut(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && e.Timeout()
}

// Permanent returns err as one that no Retry tries again. errors.Is and errors.As
// see err. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

type permanent struct{ err error }

func (p *permanent) Error() string   { return p.err.Error() }
func (p *permanent) Unwrap() error   { return p.err }
func (p *permanent) Retryable() bool { return false }

// After returns err as one that asks a Retry to wait for d at least before it
// tries again, and a breaker that it opens to stay open for d at least. errors.Is
// and errors.As see err. After(nil, d) is nil.
func After(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &after{err, d}
}

type after struct {
	err error
	d   time.Duration
}

func (a *after) Error() string             { return a.err.Error() }
func (a *after) Unwrap() error             { return a.err }
func (a *after) RetryAfter() time.Duration { return a.d }
