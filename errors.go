package resilience

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
)

var (
	// ErrRejected is matched, with errors.Is, by every refusal of a policy and by
	// nothing else: the operation did not run.
	ErrRejected = errors.New("resilience: rejected")

	// ErrAborted is what a Settler hears of an operation that panicked or called
	// runtime.Goexit.
	ErrAborted = errors.New("resilience: operation aborted by a panic or runtime.Goexit")
)

// Reason is why a policy rejected an operation.
type Reason string

const (
	// Open is the reason of a circuit breaker.
	Open Reason = "open"
	// Full is the reason of a bulkhead.
	Full Reason = "full"
	// Limited is the reason of a rate or concurrency limit: there is more to do than can
	// be done, and to try again adds to it. The servers of httpmw and grpcmw tell the
	// client not to.
	Limited Reason = "limited"
)

// Rejection is the error of an operation that a policy refused to run. It matches
// ErrRejected, and a Rejection without a Name of the same Policy and Reason, as
// breaker.ErrOpen and bulkhead.ErrFull are.
//
// A policy may return the same *Rejection to many callers: do not change it.
type Rejection struct {
	Policy string // kind of the policy: "breaker", "bulkhead"
	Name   string // name of the policy, as configured
	Key    string // what it is for in a keyed.Group: a host, a method
	Reason Reason
	Detail string // what the policy counted, for people; may be empty
	// RetryAt is when the policy expects to admit operations again, zero if that
	// is not known.
	RetryAt time.Time
	// Cause is the failure that made the policy reject, nil if there was none. It
	// belongs to another call, so errors.Is and errors.As do not see it.
	Cause error
}

// CauseText is the text of Cause for people: on one line, of at most 200 bytes, and of
// URLs in it without user, password, query and fragment, which may hold secrets. It
// is "" if there is no Cause.
func (r *Rejection) CauseText() string {
	if r.Cause == nil {
		return ""
	}
	return tame(text(r.Cause))
}

// text is that of err, whose method is code of the user.
func text(err error) (s string) {
	defer func() {
		if recover() != nil {
			s = fmt.Sprintf("%T, whose Error method panics", err)
		}
	}()
	return err.Error()
}

// maxCause bounds how much of another call's error a message repeats, in bytes, and
// maxRead how much of it is looked at.
const maxCause, maxRead = 200, 8 << 10

// What stands for // may be escaped, as in JSON, and have no scheme before it.
var (
	userInfo = regexp.MustCompile(`(\\?/\\?/)[^\s/?#"<>]*@`)
	// a password that should have been escaped, since as it is it begins like a port
	badUserInfo = regexp.MustCompile(`(\\?/\\?/)[^\s/?#"<>:@\[]*:\d*[^\s\d/?#"][^\s"]*@`)
	// a user or a host, nobody can tell which if the text ends here
	cutUser  = regexp.MustCompile(`(\\?/\\?/)([^\s/?#"<>]*|[^\s/?#"<>:@\[]*:\d*[^\s\d/?#"][^\s"]*)$`)
	urlQuery = regexp.MustCompile(`(\\?/\\?/[^\s?#"<>]*)[?#][^\s"<>]*`)
	// in quotes, as Go's own errors have it, and so up to the quote that is not escaped
	quotedUserInfo = regexp.MustCompile(`("[A-Za-z][\w+.-]*://)[^/?#"<>:@\[]*:\d*(?:[^\d/?#"\\]|\\.)(?:[^"\\]|\\.)*@`)
	quotedQuery    = regexp.MustCompile(`("[A-Za-z][\w+.-]*://(?:[^"\\?#]|\\.)*)[?#](?:[^"\\]|\\.)*`)
	// net/url repeats there what stands in the place of a port
	invalidPort = regexp.MustCompile(`(invalid port )"(?:[^"\\]|\\.)*"`)
)

func tame(s string) string {
	cut := len(s) > maxRead
	s = strings.ToValidUTF8(s[:min(len(s), maxRead)], "")
	if strings.Contains(s, "//") || strings.Contains(s, `\/`) {
		s = withoutSecrets(s, cut)
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			return ' '
		}
		return r
	}, s)
	if !cut && len(s) <= maxCause {
		return s
	}
	return strings.ToValidUTF8(s[:min(len(s), maxCause-len("…"))], "") + "…"
}

// withoutSecrets returns s, which may have been cut, with what is left of its URLs.
func withoutSecrets(s string, cut bool) string {
	if cut {
		s = cutUser.ReplaceAllString(s, "$1")
	}
	if strings.Contains(s, "@") { // most have none, and need not be searched
		for _, user := range []*regexp.Regexp{userInfo, badUserInfo, quotedUserInfo} {
			s = user.ReplaceAllString(s, "$1")
		}
	}
	if strings.ContainsAny(s, "?#") {
		for _, query := range []*regexp.Regexp{quotedQuery, urlQuery} {
			s = query.ReplaceAllString(s, "$1?…")
		}
	}
	return invalidPort.ReplaceAllString(s, `$1"…"`)
}

// Error says who rejected the operation, why, until when and what caused it.
func (r *Rejection) Error() string {
	var b strings.Builder
	b.WriteString("resilience: rejected by ")
	b.WriteString(r.Policy)
	if r.Name != "" {
		fmt.Fprintf(&b, " %q", r.Name)
	}
	if r.Key != "" {
		fmt.Fprintf(&b, " for %q", r.Key)
	}
	b.WriteString(": ")
	b.WriteString(string(r.Reason))
	if !r.RetryAt.IsZero() {
		b.WriteString(" until ")
		b.WriteString(r.RetryAt.Format(time.RFC3339Nano))
	}
	if r.Detail != "" {
		b.WriteString(", ")
		b.WriteString(r.Detail)
	}
	if cause := r.CauseText(); cause != "" {
		b.WriteString(" after: ")
		b.WriteString(cause)
	}
	return b.String()
}

// Is implements the matching that the type describes.
func (r *Rejection) Is(target error) bool {
	if target == ErrRejected {
		return true
	}
	t, ok := target.(*Rejection)
	return ok && t.Name == "" && t.Policy == r.Policy && t.Reason == r.Reason
}

// Outcome is what an operation says about the health of what it called.
type Outcome uint8

const (
	// Success: the dependency works.
	Success Outcome = iota
	// Failure: it does not.
	Failure
	// Ignored: nothing was learned, because the caller gave up or a policy
	// further in refused.
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

// OutcomeOf judges err, the result of an operation that ran under ctx. The first
// of these that applies decides:
//
//  1. nil is a Success, ErrAborted a Failure.
//  2. The deadline of ctx has passed, or it was canceled with a cause that is
//     context.DeadlineExceeded: Failure. A dependency that hangs must open the
//     breaker of code that uses deadlines.
//  3. ctx was canceled: Ignored.
//  4. A rejection by a policy further in: Ignored.
//  5. err, or what it wraps, has a method Outcome() Outcome: what that says.
//  6. classify, unless it is nil: what that says.
//  7. Failure.
func OutcomeOf(ctx context.Context, err error, classify func(error) Outcome) Outcome {
	switch {
	case err == nil:
		return Success
	case err == ErrAborted: // an identity that no operation returns
		return Failure
	}
	if ctx.Err() != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return Failure
		}
		return Ignored
	}
	if errors.Is(err, ErrRejected) {
		return Ignored
	}
	o := Failure
	if e, ok := errors.AsType[outcomer](err); ok {
		o = e.Outcome()
	} else if classify != nil {
		o = classify(err)
	}
	return min(o, Ignored) // an Outcome that there is not
}

type outcomer interface {
	error
	Outcome() Outcome
}

// ContextError returns nil while ctx is not done, and then an error that matches
// both ctx.Err() and context.Cause(ctx), so that neither the kind of the end nor
// what the caller said about it is lost.
func ContextError(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return &contextError{err, cause}
}

type contextError struct{ err, cause error }

func (e *contextError) Error() string   { return e.err.Error() + ": " + e.cause.Error() }
func (e *contextError) Unwrap() []error { return []error{e.err, e.cause} }

// Timeout is what net.Error and url.Error ask for.
func (e *contextError) Timeout() bool { return errors.Is(e, context.DeadlineExceeded) }
