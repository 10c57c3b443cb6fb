package retry

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
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
	// AllFailing: too many attempts in a row failed, over all calls; see Retry.
	AllFailing = "all failing"
	// PastDeadline: the wait would end after the caller's deadline.
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

// reason is an index in reasons. The zero reason, aborted, counts the calls that ended in
// a panic or runtime.Goexit.
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

// Error is the error of a call that a Retry gave up. errors.Is and errors.As find the
// error of the last attempt that ran. If the caller's context ended while the call
// waited, they find the context's error too.
type Error struct {
	Name     string // the name of the Retry, as configured
	Attempts int    // the number of attempts, including rejected ones
	Reason   string // why there was no further attempt
	Err      error  // the error of the last attempt that ran
	// Rejection is the error of the last attempt if an inner policy rejected it, and nil
	// if that attempt ran. errors.Is does not find it, because an earlier attempt ran.
	Rejection error

	done error // the context's error
}

// add records how an attempt ended.
func (e *Error) add(err error) {
	switch {
	case !resilience.Rejected(err):
		e.Err, e.Rejection = err, nil
	case e.Err == nil || resilience.Rejected(e.Err):
		e.Err = err // no attempt has run so far
	default:
		e.Rejection = err
	}
}

// Error returns the number of attempts, why there were no more, and the last error:
//
//	retry "users": gave up after 3 attempts: out of attempts: last error: connection refused
func (e *Error) Error() string {
	name := ""
	if e.Name != "" {
		name = fmt.Sprintf(" %q", e.Name)
	}
	s := fmt.Sprintf("retry%s: gave up after %s: %s: last error: %v", name, policykit.Count(e.Attempts, "attempt"), e.Reason, e.Err)
	if e.Rejection != nil {
		s += "; then " + e.Rejection.Error()
	}
	if e.done != nil {
		s += "; then " + e.done.Error()
	}
	return s
}

// Unwrap returns the errors that errors.Is and errors.As find.
func (e *Error) Unwrap() []error {
	if e.done != nil {
		return []error{e.Err, e.done}
	}
	return []error{e.Err}
}

// Timeout reports whether the last attempt that ran timed out. It implements net.Error
// and the interface that url.Error looks for.
func (e *Error) Timeout() bool { return policykit.TimedOut(e.Err) }

// Temporary returns the result of Timeout. net.Error has it.
func (e *Error) Temporary() bool { return e.Timeout() }

// Permanent wraps err so that no Retry retries it, as when the input was invalid. It is no
// evidence about the dependency: its outcome is resilience.Ignored, unless err is a timeout
// or has an outcome of its own. For a failure of the dependency that must not be retried,
// use Config.Retryable. errors.Is and errors.As find err. Permanent(nil) is nil.
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
func (p *permanent) Timeout() bool   { return policykit.TimedOut(p.err) }

// Outcome returns the outcome of err. If err has none of its own, that is Failure for a
// timeout and Ignored for any other error.
func (p *permanent) Outcome() resilience.Outcome {
	o := resilience.Ignored
	if policykit.TimedOut(p.err) {
		o = resilience.Failure
	}
	return resilience.OutcomeOf(context.Background(), p.err, func(error) resilience.Outcome { return o })
}

// After wraps err so that a Retry waits for at least d before it retries, and a breaker
// that err opens stays open for at least d. errors.Is and errors.As find err.
// After(nil, d) is nil.
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
