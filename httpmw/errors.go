package httpmw

import (
	"context"
	"errors"
	"net"

	"github.com/resilience-go/resilience"
)

// failure is the error for the policies of an attempt that has no response. The caller of
// RoundTrip gets err itself, unless a policy wraps the failure.
type failure struct {
	err       error
	retryable bool
	unsent    bool   // there was no connection for the request
	late      string // the text, if err is the cause of the deadline that ended the attempt
}

func (f *failure) Error() string {
	if f.late != "" {
		return f.late // the policy that set the deadline adds err's text
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error   { return f.err }
func (f *failure) Retryable() bool { return f.retryable }

// Timeout reports whether the attempt timed out after it may have cost the server work.
// After a timeout of a dial or a handshake, a retry costs no more than after an error.
func (f *failure) Timeout() bool { return !f.unsent && timedOut(f.err) }

// base returns the error of Base.
func (f *failure) base() error { return f.err }

// ignoredError is a failure that is no evidence about the server and must not open a breaker:
//
//   - the caller's request cannot be sent, or its body failed,
//   - the caller canceled it,
//   - it waited for a connection that other requests use, or
//   - a proxy does not accept it.
type ignoredError struct{ failure }

func (*ignoredError) Outcome() resilience.Outcome { return resilience.Ignored }

// replayError is the error of a second Run for a request that must not be sent again.
type replayError struct {
	why  string
	last error
}

func (e *replayError) Error() string {
	text := "httpmw: not sent again: " + e.why
	if e.last == nil {
		return text
	}
	return text + ": " + e.last.Error()
}

func (e *replayError) Unwrap() error             { return e.last }
func (*replayError) Retryable() bool             { return false }
func (*replayError) Outcome() resilience.Outcome { return resilience.Ignored }

// timeoutError makes the error of a timeout a net.Error, for programs that look at the error
// itself and not at the errors that it wraps, as url.Error does.
type timeoutError struct{ error }

func (e *timeoutError) Unwrap() error { return e.error }
func (e *timeoutError) Timeout() bool { return true }

// Temporary returns true, as all timeouts of net/http do.
func (e *timeoutError) Temporary() bool { return true }

type timeouter interface {
	error
	Timeout() bool
}

// timedOut reports whether the first error in the chain that has a Timeout method is a
// timeout.
func timedOut(err error) bool {
	t, ok := errors.AsType[timeouter](err)
	return ok && t.Timeout()
}

// publicError returns err as the caller gets it: a timeout is a net.Error.
func publicError(err error) error {
	switch e := err.(type) { // only err itself: an error around a failure has more to say
	case *failure:
		err = e.err
	case *ignoredError:
		err = e.err
	}
	if t, ok := err.(net.Error); ok && t.Timeout() {
		return err
	}
	inner, ok := errors.AsType[interface {
		error
		base() error
	}](err)
	if timedOut(err) || ok && timedOut(inner.base()) {
		return &timeoutError{err}
	}
	return err
}

// asDeadlineCause returns the cause of ctx if a timeout ended ctx and err has only the error
// of ctx and not its cause. HTTP/2 returns "context canceled" after an attempt's timeout.
// Otherwise asDeadlineCause returns err.
func asDeadlineCause(ctx context.Context, err error) error {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	cause := context.Cause(ctx)
	if !expired(ctx) || errors.Is(err, cause) {
		return err // the caller canceled, or err has the cause
	}
	if e, ok := err.(*EndpointError); ok {
		return &EndpointError{e.Address, cause}
	}
	return cause
}
