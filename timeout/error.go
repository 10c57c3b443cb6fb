package timeout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/resilience-go/resilience"
)

// ErrExceeded matches, with errors.Is, the error of an operation that failed after its
// timeout. The error itself is an *Error.
var ErrExceeded = errors.New("timeout exceeded")

// Error is the error of an operation that failed after its timeout. It matches ErrExceeded
// and context.DeadlineExceeded. It is a failure of the operation, not a rejection.
//
// A Timeout may return one *Error to many callers: do not change it.
type Error struct {
	Name  string        // the name of the Timeout, as configured
	After time.Duration // the timeout
	// Err is the operation's error. It is nil if the operation only returned the error of
	// its context.
	Err error

	until  resilience.Moment
	notRun bool // the operation did not run, because it waited, for instance for a slot
}

// Error returns the timeout and the operation's error:
//
//	timeout "users": no answer within 500ms: connection refused
//
// If Config.Until is resilience.Ended, the text has "not done" instead of "no answer".
func (e *Error) Error() string {
	s := "timeout"
	if e.Name != "" {
		s += fmt.Sprintf(" %q", e.Name)
	}
	what := "not done"
	if e.until == resilience.Answered {
		what = "no answer"
	}
	s += fmt.Sprintf(": %s within %v", what, e.After)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is reports whether target is ErrExceeded or context.DeadlineExceeded.
func (e *Error) Is(target error) bool {
	return target == ErrExceeded || target == context.DeadlineExceeded
}

// Unwrap returns the operation's error.
func (e *Error) Unwrap() error { return e.Err }

// Timeout returns true. It implements net.Error and the interface that url.Error looks for.
func (e *Error) Timeout() bool { return true }

// Temporary returns true, as the timeouts of package net do. net.Error has it.
func (e *Error) Temporary() bool { return true }

// Outcome returns resilience.Failure, or resilience.Ignored if the operation did not run
// because it waited for a slot inside the process.
func (e *Error) Outcome() resilience.Outcome {
	if e.notRun {
		return resilience.Ignored
	}
	return resilience.Failure
}
