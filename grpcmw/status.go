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
	"github.com/resilience-go/resilience/internal/adapter"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// CodeOutcome returns the default outcome of a status code: whether the server works.
//
//	UNKNOWN, DEADLINE_EXCEEDED, INTERNAL,       Failure
//	UNAVAILABLE, DATA_LOSS
//	CANCELLED                                   Ignored
//	all other codes, also OK                    Success
//
// RESOURCE_EXHAUSTED is a Success, as 429 is over HTTP: the server works and asks for fewer
// calls. An undefined code is a Failure, as UNKNOWN is.
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

// DefaultRetryable reports whether a call that failed with err is safe to retry: if its
// code is UNAVAILABLE, whatever the method. No code of gRPC guarantees that a server has
// not seen a call; UNAVAILABLE is the code that gRFC A6 uses for it.
func DefaultRetryable(_ string, err error) bool { return status.Code(err) == codes.Unavailable }

func outcome(of func(string, codes.Code) resilience.Outcome, method string, err error) resilience.Outcome {
	code := status.Code(err)
	if of == nil {
		return CodeOutcome(code)
	}
	return of(method, code)
}

// failure is the error for the policies of a call or a handler that failed with err.
type failure struct {
	err       error
	outcome   resilience.Outcome
	retryable bool
	final     bool // not sent again, whatever the policies decide
	after     time.Duration
	busy      bool // the server sheds load
}

func (f *failure) Error() string               { return f.err.Error() }
func (f *failure) Unwrap() error               { return f.err }
func (f *failure) Outcome() resilience.Outcome { return f.outcome }
func (f *failure) Retryable() bool             { return f.retryable }
func (f *failure) RetryAfter() time.Duration   { return f.after }
func (f *failure) Busy() bool                  { return f.busy }

// Timeout reports whether the call timed out. DEADLINE_EXCEEDED of a server is a timeout too:
// its answer may come before the client's own timer, and the status has no method Timeout.
func (f *failure) Timeout() bool {
	e, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](f.err)
	return status.Code(f.err) == codes.DeadlineExceeded || ok && e.Timeout()
}

// local reports whether err is gRPC's own error for a message that it could not send or
// receive, which neither the server nor the network caused. Only the text shows that. A
// grpc-go server uses the same text for a message that is too large for it.
func local(err error) bool {
	s, _ := status.FromError(err)
	for _, prefix := range localMessages[s.Code()] {
		if strings.HasPrefix(s.Message(), prefix) {
			return true
		}
	}
	return false
}

// localMessages are the beginnings of gRPC's errors for messages that it could not send or
// receive.
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

// pushbackKey is the metadata of a server's pushback: the delay before a retry, in
// milliseconds. Any other value forbids a retry (gRFC A6).
const pushbackKey = "grpc-retry-pushback-ms"

// pushback returns whether the server permits a retry of a failed call, and the delay that
// it asks for: in its trailer, otherwise in a RetryInfo detail.
func pushback(trailer metadata.MD, err error) (may bool, after time.Duration) {
	if v := trailer.Get(pushbackKey); len(v) > 0 {
		ms, err := strconv.ParseUint(v[0], 10, 63)
		if len(v) > 1 || err != nil {
			return false, 0
		}
		return true, time.Duration(min(ms, uint64(adapter.MaxRetryAfter/time.Millisecond))) * time.Millisecond
	}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return true, max(0, min(info.GetRetryDelay().AsDuration(), adapter.MaxRetryAfter))
		}
	}
	return true, 0
}

// publicError returns err as an interceptor of a client returns it.
func publicError(err error) error {
	switch e := err.(type) { // only err itself: an error around a failure has more to say
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

// withFoundStatus returns err, the error of a handler or of a call, with the status that
// gRPC finds in it, even if err also wraps a policy's error.
func withFoundStatus(err error) error {
	switch e := publicError(err).(type) {
	case *statusError:
		if s, ok := status.FromError(e.err); ok {
			return &withStatus{e.err, s}
		}
		return e
	default:
		return e
	}
}

// withStatus is an error with a status of its own.
type withStatus struct {
	error
	status *status.Status
}

func (e *withStatus) Unwrap() error              { return e.error }
func (e *withStatus) GRPCStatus() *status.Status { return e.status }

// statusError is an error of the policies, with a status derived from it.
type statusError struct{ err error }

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// GRPCStatus returns the status of a policy's error, as the package documentation lists
// them, or the status of the failed call in e. The message of the status is e's text.
func (e *statusError) GRPCStatus() *status.Status {
	if r, ok := e.err.(*resilience.Rejection); ok {
		return status.New(rejectedCode(r), r.Error()) // a shortcut: an overload makes many
	}
	s, ok := status.FromError(e.err) // with its details
	code := s.Code()
	switch {
	case resilience.Rejected(e.err) && isOutsideStatus(e.err, resilience.ErrRejected):
		code = codes.Unavailable
		if r, ok := errors.AsType[*resilience.Rejection](e.err); ok {
			code = rejectedCode(r)
		}
	case isOutsideStatus(e.err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case isOutsideStatus(e.err, context.Canceled):
		code = codes.Canceled
	}
	if ok && s.Code() == code {
		return s
	}
	return status.New(code, e.Error())
}

func rejectedCode(r *resilience.Rejection) codes.Code {
	if r.Reason == resilience.Open {
		return codes.Unavailable
	}
	return codes.ResourceExhausted
}

// isOutsideStatus is errors.Is, but does not look into errors that have a status.
func isOutsideStatus(err, target error) bool {
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
		return isOutsideStatus(e.Unwrap(), target)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), func(err error) bool { return isOutsideStatus(err, target) })
	}
	return false
}

// wrapContextEnd returns err with the end of the caller's context, if only the status of
// err shows that end: errors.Is does not look at a status.
func wrapContextEnd(ctx context.Context, err error) error {
	end := resilience.ContextError(ctx)
	kind := ctx.Err()
	if deadline, ok := ctx.Deadline(); ok && kind == nil && time.Until(deadline) <= 0 {
		// The server has the same deadline, and its answer may come before our timer.
		end, kind = context.DeadlineExceeded, context.DeadlineExceeded
	}
	if kind == nil || errors.Is(err, kind) || status.Code(err) != status.FromContextError(kind).Code() {
		return err
	}
	return &statusError{fmt.Errorf("%w: %w", end, err)}
}

// timedOut reports whether a timeout ended ctx: its deadline, or a policy's timeout.
func timedOut(ctx context.Context) bool {
	return ctx.Err() != nil && resilience.OutcomeOf(ctx, ctx.Err(), nil) == resilience.Failure
}

// noRetry is the pushback that forbids a retry.
const noRetry = -1

// rejectionStatus returns the status and the trailer of a rejected call. Both contain the
// time until a retry makes sense, or a second if the policy has not set it. If a limit
// rejected the call, the trailer forbids a retry: the server has too many calls already.
func rejectionStatus(err error, now time.Time) (*status.Status, metadata.MD) {
	after, limited := time.Second, false
	if r, ok := errors.AsType[*resilience.Rejection](err); ok {
		if !r.RetryAt.IsZero() {
			after = max(time.Millisecond, min(r.RetryAt.Sub(now), adapter.MaxRetryAfter))
		}
		limited = r.Reason == resilience.Limited
	}
	ms := int64(math.Ceil(float64(after) / float64(time.Millisecond)))
	s := rejectedStatus(err)
	if detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Duration(ms) * time.Millisecond)}); err == nil {
		s = detailed
	}
	if limited {
		ms = noRetry
	}
	return s, metadata.Pairs(pushbackKey, strconv.FormatInt(ms, 10))
}

// rejectedStatus returns the status of a rejection for the client.
func rejectedStatus(err error) *status.Status {
	if r, ok := err.(*resilience.Rejection); ok { // a shortcut: an overload makes many
		return status.New(rejectedCode(r), rejectedText(err))
	}
	return status.Convert(withoutRejection(publicError(err)))
}

// rejectedText returns the text of a rejection for other processes.
func rejectedText(err error) string {
	if nested, ok := errors.AsType[*nestedRejection](err); ok {
		err = nested.err
	}
	if r, ok := errors.AsType[*resilience.Rejection](err); ok && r.Reason != "" {
		return "rejected: " + r.Reason
	}
	return "rejected"
}
