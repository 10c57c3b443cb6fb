package policykit

import (
	"context"
	"sync/atomic"

	"github.com/resilience-go/resilience"
)

// Observe calls o, which must not be nil, with e. It drops a panic, so that an observer
// cannot break a call.
func Observe(ctx context.Context, o resilience.Observer, e resilience.Event) {
	defer func() { _ = recover() }()
	o.Observe(ctx, e)
}

// Reject returns the one error for all calls that a policy rejects for a reason. The
// first call makes it from r, since most policies never reject.
func Reject(made *atomic.Pointer[resilience.Rejection], r resilience.Rejection) error {
	if made.Load() == nil {
		first := r
		made.CompareAndSwap(nil, &first)
	}
	return made.Load()
}
