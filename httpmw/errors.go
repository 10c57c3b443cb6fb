package httpmw

import (
	"context"
	"errors"

	"github.com/resilience-go/resilience"
)

// failure is what policies see of an attempt that had no response. The caller of
// RoundTrip gets err itself, unless a policy wraps it.
type failure struct {
	err       error
	retryable bool
	late      bool // err is the cause of the deadline that ended the attempt
}

func (f *failure) Error() string {
	if f.late {
		return "no response in time" // what err says, the policy that set the deadline says too
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error   { return f.err }
func (f *failure) Retryable() bool { return f.retryable }
func (f *failure) Timeout() bool   { return timedOut(f.err) }

// requestError is the failure of a request that could not be sent: a mistake of
// the caller, which must not open a breaker.
type requestError struct{ failure }

func (*requestError) Outcome() resilience.Outcome { return resilience.Ignored }

// replayError is what a policy gets that runs a request again which must not be
// sent again.
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

// timeoutError lets url.Error see that an error is a timeout. It asks an error
// itself and not those that it wraps.
type timeoutError struct{ error }

func (e *timeoutError) Unwrap() error { return e.error }
func (e *timeoutError) Timeout() bool { return true }

type timeouter interface {
	error
	Timeout() bool
}

// timedOut reports whether the first error of the chain that can tell says that
// it is a timeout.
func timedOut(err error) bool {
	t, ok := errors.AsType[timeouter](err)
	return ok && t.Timeout()
}

// public returns err as RoundTrip returns it.
func public(err error) error {
	switch e := err.(type) { // what is around an error says more than it does
	case *failure:
		err = e.err
	case *requestError:
		err = e.err
	}
	if _, ok := err.(timeouter); !ok && timedOut(err) { // as url.Error asks
		return &timeoutError{err}
	}
	return err
}

// deadline returns the cause of a deadline of ours in place of an err that is
// only its echo: the bare error of the context. HTTP/2 says "context canceled"
// when an attempt has timed out.
func deadline(ctx context.Context, err error) error {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	cause := context.Cause(ctx)
	if !errors.Is(cause, context.DeadlineExceeded) || errors.Is(err, cause) {
		return err
	}
	return cause
}
