package grpcmw

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/resilience-go/resilience"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// CodeOutcome is what a status code says about the health of a server by default:
//
//	UNKNOWN, DEADLINE_EXCEEDED, INTERNAL,       Failure
//	UNAVAILABLE, DATA_LOSS
//	CANCELLED                                    Ignored
//	all others, OK among them                   Success: the server works
//
// RESOURCE_EXHAUSTED is a success as 429 is over HTTP: the server is alive and asks
// for less. A code that there is not is a Failure, as UNKNOWN is.
func CodeOutcome(code codes.Code) resilience.Outcome {
	switch code {
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied, codes.ResourceExhausted,
		codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.Unimplemented, codes.Unauthenticated:
		return resilience.Success
	case codes.Canceled:
		return resilience.Ignored
	default:
		return resilience.Failure
	}
}

// DefaultRetryable reports whether a call that failed with err may be made again:
// if its code is UNAVAILABLE, whatever the method. gRPC says by no code that a
// server has not seen a call, but UNAVAILABLE is the one that its services use for
// that (gRFC A6).
func DefaultRetryable(_ string, err error) bool { return status.Code(err) == codes.Unavailable }

func outcome(of func(string, codes.Code) resilience.Outcome, method string, err error) resilience.Outcome {
	code := status.Code(err)
	if of == nil {
		return CodeOutcome(code)
	}
	return of(method, code)
}

// failure is what policies see of a call or a handler that failed with err.
type failure struct {
	err       error
	outcome   resilience.Outcome
	retryable bool
	final     bool // whatever a policy says, it is not tried again
	after     time.Duration
}

func (f *failure) Error() string               { return f.err.Error() }
func (f *failure) Unwrap() error               { return f.err }
func (f *failure) Outcome() resilience.Outcome { return f.outcome }
func (f *failure) Retryable() bool             { return f.retryable }
func (f *failure) RetryAfter() time.Duration   { return f.after }

// local reports whether gRPC says by err that it could not send or take a message:
// the fault of neither server nor network. Text is all there is to tell it by. A
// server says the same words of a message that is too large for it.
func local(err error) bool {
	s, _ := status.FromError(err)
	for _, prefix := range localMessages[s.Code()] {
		if strings.HasPrefix(s.Message(), prefix) {
			return true
		}
	}
	return false
}

// localMessages is how what gRPC says of a message that it did not send or take
// begins.
var localMessages = map[codes.Code][]string{
	codes.ResourceExhausted: {
		"trying to send message larger than max", "grpc: message too large",
		"grpc: received message larger than max", "grpc: message after decompression larger than max",
		"grpc: received message after decompression larger than max",
	},
	codes.Internal: {
		"grpc: error while marshaling", "grpc: error while compressing", "grpc: Compressor is not installed", "no codec registered for",
		"grpc: failed to unmarshal the received message", "grpc: error unmarshalling request",
		"there is an empty key in the header", "header key ", "header list size to send violates", "SendMsg called after CloseSend",
		"transport: per-RPC creds failed", "transport: received per-RPC creds error",
	},
	codes.Unauthenticated: {"transport: per-RPC creds failed", "transport: cannot send secure credentials"},
}

// pushbackKey is the metadata by which a server says when to try again, in
// milliseconds, and that one must not, by anything else (gRFC A6).
const pushbackKey = "grpc-retry-pushback-ms"

// maxRetryAfter keeps sums of times and durations far from overflow.
const maxRetryAfter = 365 * 24 * time.Hour

// pushback returns whether the server lets a failed call be made again, and how
// long it asks to wait: in its trailer, or else in a RetryInfo detail.
func pushback(trailer metadata.MD, err error) (may bool, after time.Duration) {
	if v := trailer.Get(pushbackKey); len(v) > 0 {
		ms, err := strconv.ParseUint(v[0], 10, 63)
		if len(v) > 1 || err != nil {
			return false, 0
		}
		return true, time.Duration(min(ms, uint64(maxRetryAfter/time.Millisecond))) * time.Millisecond
	}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return true, max(0, min(info.GetRetryDelay().AsDuration(), maxRetryAfter))
		}
	}
	return true, 0
}

// public returns err as an interceptor of a client returns it.
func public(err error) error {
	switch e := err.(type) { // what is around an error says more than it does
	case nil:
		return nil
	case *failure:
		err = e.err
	}
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return err
	}
	return &statusError{err}
}

// said returns err, which is that of a handler or of a call, with the status that
// gRPC finds in it, whatever else it wraps.
func said(err error) error {
	switch e := public(err).(type) {
	case *statusError:
		if s, ok := status.FromError(e.err); ok {
			return &withStatus{e.err, s}
		}
		return e
	default:
		return e
	}
}

// withStatus is an error with a status that its own text does not decide.
type withStatus struct {
	error
	status *status.Status
}

func (e *withStatus) Unwrap() error              { return e.error }
func (e *withStatus) GRPCStatus() *status.Status { return e.status }

// statusError is an error of policies, with a status.
type statusError struct{ err error }

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// GRPCStatus returns the status that errors of policies have, as the package
// documentation says, or that of the call which they are about. Its message is all
// of the error's text.
func (e *statusError) GRPCStatus() *status.Status {
	if r, ok := e.err.(*resilience.Rejection); ok {
		return status.New(refusedCode(r), r.Error()) // of which there may be many
	}
	s, ok := status.FromError(e.err) // with its details
	code := s.Code()
	switch {
	case says(e.err, resilience.ErrRejected):
		code = codes.Unavailable
		if r, ok := errors.AsType[*resilience.Rejection](e.err); ok {
			code = refusedCode(r)
		}
	case says(e.err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case says(e.err, context.Canceled):
		code = codes.Canceled
	}
	if ok && s.Code() == code {
		return s
	}
	return status.New(code, e.Error())
}

func refusedCode(r *resilience.Rejection) codes.Code {
	if r.Reason == resilience.Open {
		return codes.Unavailable
	}
	return codes.ResourceExhausted
}

// says is errors.Is without a look into what has a status, which speaks for itself.
func says(err, target error) bool {
	switch e := err.(type) {
	case nil, interface{ GRPCStatus() *status.Status }:
		return false
	case interface{ Is(error) bool }:
		if e.Is(target) {
			return true
		}
	}
	if err == target {
		return true
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return says(e.Unwrap(), target)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), func(err error) bool { return says(err, target) })
	}
	return false
}

// ended returns err with the end of the caller's context, if err says so with a
// status alone, which errors.Is does not understand.
func ended(ctx context.Context, err error) error {
	end := resilience.ContextError(ctx)
	kind := ctx.Err()
	if deadline, ok := ctx.Deadline(); ok && kind == nil && time.Until(deadline) <= 0 {
		// A server, which knows the deadline, may be quicker than the context.
		end, kind = context.DeadlineExceeded, context.DeadlineExceeded
	}
	if kind == nil || errors.Is(err, kind) || status.Code(err) != status.FromContextError(kind).Code() {
		return err
	}
	return &statusError{fmt.Errorf("%w: %w", end, err)}
}

// notAgain is the pushback that says so.
const notAgain = -1

// refusal returns the status by which a server refuses a call, and its trailer. Both
// say when to come back: in a second, if the policy does not know. To a call that a
// limit has refused the trailer says not to: more calls are what the server has too
// many of.
func refusal(err error, now time.Time) (*status.Status, metadata.MD) {
	after, limited := time.Second, false
	if r, ok := errors.AsType[*resilience.Rejection](err); ok {
		if !r.RetryAt.IsZero() {
			after = max(time.Millisecond, min(r.RetryAt.Sub(now), maxRetryAfter))
		}
		limited = r.Reason == resilience.Limited
		if r.Cause != nil {
			own := *r
			own.Cause = nil // the error of another call, and so of another client
			err = &own
		}
	}
	ms := int64(math.Ceil(float64(after) / float64(time.Millisecond)))
	s := (&statusError{err}).GRPCStatus()
	if detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Duration(ms) * time.Millisecond)}); err == nil {
		s = detailed
	}
	if limited {
		ms = notAgain
	}
	return s, metadata.Pairs(pushbackKey, strconv.FormatInt(ms, 10))
}
