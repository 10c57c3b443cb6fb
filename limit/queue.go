package limit

import (
	"cmp"
	"context"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit/internal/rank"
)

// arrive is enter for a request that cannot enter without the lock. It delivers no events,
// because an observer that ends the goroutine would take the slot along. The next request that
// leaves delivers them.
func (l *Limit) arrive(ctx context.Context, next resilience.Next, now int64) (entered int64, err error) {
	class := rank.Of(next.Rank()) // user code, so without a lock
	deadline := int64(0)
	if at, ok := ctx.Deadline(); ok {
		deadline = now + max(1, int64(time.Until(at)))
	}
	now = l.lock(now)
	w, d := l.gate.arrive(now, class, deadline)
	shadow := l.gate.shadow
	if w != nil {
		w.Value.ready = make(chan struct{})
		l.release()
		return l.wait(ctx, w)
	}
	switch d {
	case displaced:
		l.count.Add(queueFull)
	case overdue:
		l.count.Add(shed)
	}
	l.release()
	if d == displaced && !shadow {
		return 0, l.rejection(&l.full, "queue is full")
	}
	return now, nil
}

// wait waits for the decision about w. If w gets a slot when its caller has left, the slot is
// passed on.
func (l *Limit) wait(ctx context.Context, w *waiter) (entered int64, err error) {
	left := true // should ctx panic
	defer func() {
		if left {
			l.quit(ctx, w)
		}
	}()
	select {
	case <-w.Value.ready:
		if ctx.Err() == nil || w.Value.decision != admitted {
			left = false
		}
	case <-ctx.Done():
	}
	switch {
	case left:
		// The handler did not run, so not even a deadline is evidence about it.
		return 0, resilience.Ignore(cmp.Or(resilience.ContextError(ctx), context.Canceled))
	case w.Value.decision == admitted:
		return w.Value.entered, nil
	case w.Value.decision == displaced:
		return 0, l.rejection(&l.full, "queue is full")
	case w.Value.decision == hopeless:
		return 0, l.rejection(&l.hopeless, "too little time left")
	default:
		return 0, l.rejection(&l.late, "overload")
	}
}

// quit ends the wait of a request whose caller has left.
func (l *Limit) quit(ctx context.Context, w *waiter) {
	now := l.lock(l.clock.Elapsed())
	if d := w.Value.decision; d == undecided || d == admitted {
		l.count.Add(canceled)
	}
	l.gate.quit(now, w)
	l.unlock(ctx)
}
