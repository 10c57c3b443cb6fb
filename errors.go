package resilience

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

var (
	// ErrRejected matches, with errors.Is, every error of a policy that rejected an
	// operation. A rejected operation did not run. An error that joins a rejection with
	// other errors matches it too, so use Rejected if an operation can return such an error.
	ErrRejected = errors.New("resilience: rejected")

	// ErrAborted is the error that a Settler receives when the operation panicked or
	// called runtime.Goexit.
	ErrAborted = errors.New("resilience: operation aborted by a panic or runtime.Goexit")
)

// The reasons of a Rejection that adapters translate into a status. A policy of your
// own may use them or have reasons of its own.
const (
	// Open is the reason of a circuit breaker.
	Open = "open"
	// Limited is the reason of a rate limit or a concurrency limit in a server: there
	// are more requests than it can serve, and retries would add to them. The servers
	// of httpmw and grpcmw tell the client not to retry.
	Limited = "limited"
)

// Rejection is the error of an operation that a policy did not run. It matches
// ErrRejected. It also matches a Rejection of the same Policy and Reason that has no
// Name, such as breaker.ErrOpen and bulkhead.ErrFull.
//
// A policy may return one *Rejection to many callers: do not change it.
type Rejection struct {
	Policy string // kind of the policy: "breaker", "bulkhead"
	Name   string // name of the policy, as configured
	Key    string // key of the policy in a keyed.Group: a host, a method
	Reason string // Open, Limited, or a reason of the policy's package such as bulkhead.Full
	Detail string // what the policy counted, for people; may be empty
	// RetryAt is when the policy expects to admit operations again. It is zero if that
	// time is unknown. time.Until(RetryAt) stays right if the wall time jumps after the
	// Rejection was made, because RetryAt has a monotonic reading of the policy's clock.
	RetryAt time.Time
	// Cause is the failure that made the policy reject, nil if there was none. It is
	// the error of another call, so errors.Is and errors.As do not find it.
	Cause error

	causeText string // of Cause, if KeepCauseText was called
	kept      bool   // KeepCauseText was called
}

// CauseText returns the text of Cause for people, or "" if Cause is nil. The text is
// one line of at most 200 bytes, made of the first 1024 bytes of Cause.Error(). URLs in
// it have no user, password, query or fragment, since these may be secret.
func (r *Rejection) CauseText() string {
	switch {
	case r.Cause == nil:
		return ""
	case r.kept:
		return r.causeText
	default:
		return redact(errorText(r.Cause))
	}
}

// KeepCauseText makes the text of Cause and keeps it in r and in copies of r. CauseText and
// Error then call no method of Cause. A policy that returns one Rejection to many callers
// calls KeepCauseText before, so that the text is made once.
func (r *Rejection) KeepCauseText() {
	r.kept = false
	r.causeText = strings.Clone(r.CauseText()) // may be a short piece of a long text
	r.kept = true
}

// Error returns the policy, the reason, the time until RetryAt, Detail and CauseText:
//
//	breaker "users": rejected: open, retry in 45ms: 7 failures in a row, last error: connection refused
//
// The time is relative to the call of Error and rounded.
func (r *Rejection) Error() string {
	var b strings.Builder
	b.WriteString(r.Policy)
	if r.Name != "" {
		fmt.Fprintf(&b, " %q", r.Name)
	}
	if r.Key != "" {
		fmt.Fprintf(&b, " for %q", r.Key)
	}
	b.WriteString(": rejected: ")
	b.WriteString(r.Reason)
	if !r.RetryAt.IsZero() {
		if wait := round(time.Until(r.RetryAt)); wait > 0 {
			fmt.Fprintf(&b, ", retry in %v", wait)
		} else {
			b.WriteString(", retry now")
		}
	}
	separator := ": "
	if r.Detail != "" {
		b.WriteString(separator + r.Detail)
		separator = ", "
	}
	if cause := r.CauseText(); cause != "" {
		b.WriteString(separator + "last error: " + cause)
	}
	return b.String()
}

// round rounds d for people: to two digits below ten seconds, to seconds above.
func round(d time.Duration) time.Duration {
	unit := time.Second
	for unit > time.Nanosecond && d < 10*unit {
		unit /= 10
	}
	return d.Round(unit)
}

// Is reports whether target is ErrRejected, or a Rejection that the type describes as
// matching.
func (r *Rejection) Is(target error) bool {
	if target == ErrRejected {
		return true
	}
	t, ok := target.(*Rejection)
	return ok && t.Name == "" && t.Policy == r.Policy && t.Reason == r.Reason
}

// ContextError returns nil while ctx is not done. After that it returns an error that
// matches both ctx.Err() and context.Cause(ctx).
func ContextError(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return &contextError{err, cause, timedOut(ctx)}
}

type contextError struct {
	err, cause error
	timeout    bool
}

func (e *contextError) Error() string   { return e.err.Error() + ": " + e.cause.Error() }
func (e *contextError) Unwrap() []error { return []error{e.err, e.cause} }

// Timeout implements net.Error and the interface that url.Error looks for.
func (e *contextError) Timeout() bool { return e.timeout }

// Temporary is a method of net.Error.
func (e *contextError) Temporary() bool { return e.timeout }
