// Package testkit is what the tests of several packages share. Only tests use it.
package testkit

import (
	"context"
	"runtime"

	"github.com/resilience-go/resilience"
)

// Ending is how a function ended: with Err, in a Panic or by runtime.Goexit.
type Ending struct {
	Err    error
	Panic  any
	Goexit bool
}

// Unwind calls f on a goroutine of its own, so that it may end as it likes, and
// returns how it did.
func Unwind(f func() error) (e Ending) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		returned := false
		defer func() {
			if !returned {
				e.Panic = recover()
				e.Goexit = e.Panic == nil
			}
		}()
		e.Err = f()
		returned = true
	}()
	<-done
	return e
}

// Aborts are the ways in which a function ends without returning, by their names:
// a panic with value, and runtime.Goexit.
func Aborts(value any) map[string]Ending {
	return map[string]Ending{"panic": {Panic: value}, "Goexit": {Goexit: true}}
}

// Abort ends the function that calls it in the way of e, which is one of Aborts.
func (e Ending) Abort() {
	if e.Goexit {
		runtime.Goexit()
	}
	panic(e.Panic)
}

// Observer is a resilience.Observer that is a func.
type Observer func(resilience.Event)

// Observe implements resilience.Observer.
func (o Observer) Observe(_ context.Context, e resilience.Event) { o(e) }

// Policy is a resilience.Policy that is its Apply.
type Policy func(ctx context.Context, next resilience.Next) error

// Apply implements resilience.Policy.
func (p Policy) Apply(ctx context.Context, next resilience.Next) error { return p(ctx, next) }

// Holder is a policy that holds nothing until a moment, without an allocation.
type Holder struct{ At resilience.Moment }

// Apply implements resilience.Policy.
func (h *Holder) Apply(ctx context.Context, next resilience.Next) (err error) {
	err = resilience.ErrAborted
	defer func() { next.Settle(h.At, err, h, 0) }()
	err = next.Run(ctx)
	return err
}

// Settle implements resilience.Settler.
func (*Holder) Settle(uint64, error) {}

// Lasting is an operation that goes on after Run until it is finished or discarded.
type Lasting struct {
	resilience.Tail
	Func resilience.Func // what Run does; nil succeeds
	Mute bool            // Run does not answer, though Func succeeds
	Ctx  context.Context // that of the last Run
	id   uint32          // of the last Run
}

// Run implements resilience.Operation.
func (l *Lasting) Run(ctx context.Context) (err error) {
	l.id, l.Ctx = l.Begin(), ctx
	if l.Func != nil {
		err = l.Func(ctx)
	}
	if err == nil && !l.Mute {
		l.Reply()
	}
	return err
}

// Reply brings the last Run to resilience.Answered.
func (l *Lasting) Reply() { l.Answer(l.id) }

// Finish ends the last Run with err.
func (l *Lasting) Finish(err error) { l.End(l.id, err) }

// Discard implements resilience.Lasting.
func (l *Lasting) Discard() { l.Finish(context.Canceled) }
