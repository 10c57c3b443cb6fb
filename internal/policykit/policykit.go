// Package policykit has the parts that several policies share.
package policykit

import (
	"context"
	"errors"

	"github.com/resilience-go/resilience"
)

// Replaces reports whether a fallback answers instead of an operation that ended with
// err under ctx. choose, unless it is nil, decides alone. By default a fallback answers
// for failures, and, unless the caller has canceled, for rejections and after a timeout.
func Replaces(ctx context.Context, err error, choose func(error) bool) bool {
	if choose != nil {
		return choose(err)
	}
	switch resilience.OutcomeOf(ctx, err, nil) {
	case resilience.Failure:
		return true
	case resilience.Success:
		return false
	}
	switch resilience.OutcomeOf(ctx, ctx.Err(), nil) {
	case resilience.Failure: // a timeout ended ctx, for instance in the queue of a bulkhead
		return true
	case resilience.Success: // the caller waits
		return resilience.Rejected(err)
	default:
		return false
	}
}

// Classify returns the outcome of err, which an operation returned under ctx. If classify
// decided that err is a success or ignored, judged is err with that outcome, so that outer
// policies use the same outcome. Otherwise judged is err.
func Classify(ctx context.Context, err error, classify func(error) resilience.Outcome) (o resilience.Outcome, judged error) {
	if classify == nil {
		return resilience.OutcomeOf(ctx, err, nil), err
	}
	decided := false
	o = resilience.OutcomeOf(ctx, err, func(err error) resilience.Outcome {
		decided = true
		return classify(err)
	})
	switch {
	case !decided || o == resilience.Failure:
		return o, err
	case o == resilience.Success:
		return o, resilience.Answer(err)
	default:
		return o, resilience.Ignore(err)
	}
}

// LateOutcome returns the outcome of an operation that ended with err after its Run had
// returned. Its context may be gone by then, so only err can show that the caller canceled.
func LateOutcome(err error, classify func(error) resilience.Outcome) resilience.Outcome {
	if errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return resilience.Ignored
	}
	return resilience.OutcomeOf(context.Background(), err, classify)
}

// TimedOut returns the result of the first Timeout method in err's chain, or false if there
// is none.
func TimedOut(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && e.Timeout()
}

// Absent reports whether p is nil, a nil pointer or a nil function.
func Absent(p resilience.Policy) bool {
	for range resilience.Walk(p) {
		return false
	}
	return true
}
