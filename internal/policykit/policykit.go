// Package policykit has the parts that several policies share.
package policykit

import (
	"context"
	"errors"

	"github.com/resilience-go/resilience"
)

// Replaces reports whether a fallback answers instead of an operation that ended with
// err under ctx. choose, unless it is nil, decides alone. By default a fallback answers
// for failures, and for rejections while the caller waits.
func Replaces(ctx context.Context, err error, choose func(error) bool) bool {
	if choose != nil {
		return choose(err)
	}
	if ctx.Err() == nil && errors.Is(err, resilience.ErrRejected) {
		return true
	}
	return resilience.OutcomeOf(ctx, err, nil) == resilience.Failure
}

// Absent reports whether p is nil or a nil pointer.
func Absent(p resilience.Policy) bool {
	for range resilience.Walk(p) {
		return false
	}
	return true
}
