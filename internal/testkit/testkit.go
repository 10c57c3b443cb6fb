// Package testkit has what the tests of several packages share. Only tests import it.
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

// Unwind calls f on a new goroutine, so that f may panic or call runtime.Goexit, and
// returns how f ended.
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

// Aborts returns the ways in which a function can end without returning, by name: a panic
// with value, and runtime.Goexit.
func Aborts(value any) map[string]Ending {
	return map[string]Ending{"panic": {Panic: value}, "Goexit": {Goexit: true}}
}

// Abort panics or calls runtime.Goexit, as e says. e is one of Aborts.
func (e Ending) Abort() {
	if e.Goexit {
		runtime.Goexit()
	}
	panic(e.Panic)
}

// Observer is a resilience.Observer that does not need the context.
type Observer func(resilience.Event)

// Observe implements resilience.Observer.
func (o Observer) Observe(_ context.Context, e resilience.Event) { o(e) }

// Policy is resilience.PolicyFunc.
type Policy = resilience.PolicyFunc

// Holder is a policy that settles at a moment and does nothing else. It allocates nothing.
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

// Lasting is an operation that goes on after Run has returned, until it is finished or
// discarded.
type Lasting struct {
	resilience.Tail
	Func     resilience.Func // the work of Run; nil succeeds
	Mute     bool            // Run does not answer, even if Func succeeds
	Ctx      context.Context // the context of the last Run
	ID       uint32          // the number of the last Run in the Tail
	Discards int             // how often Discard was called
}

// Run implements resilience.Operation.
func (l *Lasting) Run(ctx context.Context) (err error) {
	l.ID, l.Ctx = l.Begin(), ctx
	if l.Func != nil {
		err = l.Func(ctx)
	}
	if err == nil && !l.Mute {
		l.Reply()
	}
	return err
}

// Reply brings the last Run to resilience.Answered.
func (l *Lasting) Reply() { l.Answer(l.ID) }

// Finish ends the last Run with err.
func (l *Lasting) Finish(err error) { l.End(l.ID, err) }

// Discard implements resilience.Lasting.
func (l *Lasting) Discard() {
	l.Discards++
	l.Finish(context.Canceled)
}

// TimedOut is the cause of a context that a timeout of the call has ended.
type TimedOut struct{ Err error }

func (t TimedOut) Error() string { return t.Err.Error() }

// Unwrap returns Err.
func (t TimedOut) Unwrap() error { return t.Err }

// Ended is the optional method that resilience.OutcomeOf calls.
func (TimedOut) Ended(context.Context) bool { return true }
