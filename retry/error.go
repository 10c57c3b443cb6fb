package retry

import (
	"errors"
	"fmt"
	"time"

	"github.com/resilience-go/resilience"
)

// Reason is why a call was not tried again.
type Reason uint8

const (
	// OutOfAttempts: Config.MaxAttempts were made.
	OutOfAttempts Reason = iota + 1
	// OutOfBudget: there were too few successes to pay for a retry.
	OutOfBudget
	// AllFailing: the last attempts of all calls failed, so a retry would too.
	AllFailing
	// PastDeadline: the wait would not have been over before the deadline.
	PastDeadline
	// WaitTooLong: the error asked for a longer wait than Config.MaxDelay.
	WaitTooLong
	// Rejected: a policy further in refused the attempt.
	Rejected
	// NotRetryable: the error was not one to retry.
	NotRetryable
	// Inherited: the call is a retry of somebody upstream.
	Inherited
	// ContextDone: the context of the caller ended.
	ContextDone

	reasons = iota + 1
)

// aborted is what calls that panicked are counted under, which need no reason.
const aborted Reason = 0

var reasonNames = [reasons]string{
	"unknown", "out of attempts", "out of budget", "all attempts are failing", "past the deadline",
	"asked to wait too long", "rejected", "not retryable", "a retry already", "context done",
}

// reasonLabels are the names of the constants as labels have them.
var reasonLabels = [reasons]string{
	"unknown", "out_of_attempts", "out_of_budget", "all_failing", "past_deadline",
	"wait_too_long", "rejected", "not_retryable", "inherited", "context_done",
}

// Reasons returns all reasons that there are, in the order of the constants.
func Reasons() []Reason {
	all := make([]Reason, 0, reasons-1)
	for r := OutOfAttempts; r < reasons; r++ {
		all = append(all, r)
	}
	return all
}

// Label returns the reason as metrics and JSON have it, such as "out_of_budget". It
// stays the same.
func (r Reason) Label() string {
	if int(r) < len(reasonLabels) {
		return reasonLabels[r]
	}
	return reasonLabels[0]
}

// String returns the reason in words.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return reasonNames[0]
}

// Error is the error of a call that a Retry gave up. errors.Is and errors.As see
// the error of the last attempt that ran and, if the context of the caller ended
// while it waited, that of the context.
type Error struct {
	Name     string // of the Retry, as configured
	Attempts int    // that were made, those that were rejected included
	Reason   Reason // why there was no further one
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
	s := fmt.Sprintf("resilience: retry%s gave up after %d %s (%v): %v", name, e.Attempts, attempts, e.Reason, e.Err)
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
