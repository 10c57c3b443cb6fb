// Package observe hands events to the observers of users, which may do anything.
package observe

import (
	"context"

	"github.com/resilience-go/resilience"
)

// Call has o, which is not nil, observe e, and drops a panic: watching a call must
// not break it.
func Call(ctx context.Context, o resilience.Observer, e resilience.Event) {
	defer func() { _ = recover() }()
	o.Observe(ctx, e)
}
