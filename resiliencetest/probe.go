package resiliencetest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/resilience-go/resilience"
)

// probe is the operation of the checks. It watches what the policy does with it.
// A lasting one goes on after each run until it is discarded or ended.
type probe struct {
	resilience.Tail
	lasting    bool
	unanswered bool // does not answer when it returns
	panics     any  // what body panics with, if it does
	body       func(ctx context.Context, run int) error
	onDiscard  func() // code of the user that Discard runs, if not nil

	turn sync.Mutex // of who begins or holds: to run two at once is a fault, not a race

	mu       sync.Mutex // guards what follows
	runs     int
	active   int
	number   uint32 // of the last run, in Tail
	open     bool   // the last run goes on
	err      error  // of the last run
	returned time.Time

	overlapped  bool // a run began during another
	undiscarded bool // a run began while the last one went on
	waited      bool // time passed before Discard
}

// operation returns what a policy is given to guard.
func (o *probe) operation() resilience.Operation {
	if o.lasting {
		return o
	}
	return resilience.Func(o.Run)
}

// Run implements resilience.Operation.
func (o *probe) Run(ctx context.Context) (err error) {
	o.mu.Lock()
	o.overlapped = o.overlapped || o.active > 0
	o.undiscarded = o.undiscarded || o.open
	o.runs++
	o.active++
	run := o.runs
	o.open = o.lasting
	o.mu.Unlock()
	o.turn.Lock()
	number := o.Begin()
	o.turn.Unlock()

	err = resilience.ErrAborted
	defer func() {
		o.mu.Lock()
		o.active--
		o.number, o.err, o.returned = number, err, time.Now()
		o.mu.Unlock()
	}()
	err = o.body(ctx, run)
	if err == nil && !o.unanswered {
		o.Answer(number)
	}
	return err
}

// Hold implements resilience.Lasting.
func (o *probe) Hold(at resilience.Moment, s resilience.Settler, token uint64) bool {
	o.turn.Lock()
	defer o.turn.Unlock()
	return o.Tail.Hold(at, s, token)
}

// Discard implements resilience.Lasting.
func (o *probe) Discard() {
	o.mu.Lock()
	if o.open && !time.Now().Equal(o.returned) {
		o.waited = true
	}
	o.mu.Unlock()
	if o.onDiscard != nil {
		o.onDiscard()
	}
	o.end()
}

// end ends the last run, as closing the body of a response does.
func (o *probe) end() {
	o.mu.Lock()
	number, err := o.number, o.err
	o.open = false
	o.mu.Unlock()
	o.End(number, err)
}

func (o *probe) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.runs
}

func (o *probe) running() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.active > 0
}

// last returns the error of the last run, and whether that goes on.
func (o *probe) last() (err error, open bool) { // the error is a value here
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err, o.open
}

// failure is the error of one run of one probe.
type failure struct {
	of  *probe
	run int
}

func (f *failure) Error() string { return fmt.Sprintf("resiliencetest: run %d fails", f.run) }

// Is makes failures of the same run equal.
func (f *failure) Is(target error) bool {
	t, ok := target.(*failure)
	return ok && *t == *f
}

func succeed(context.Context, int) error { return nil }

// failing returns a probe each run of which returns a failure of its own.
func (c *check) failing() *probe {
	o := c.probe(nil)
	o.body = func(_ context.Context, run int) error { return &failure{o, run} }
	return o
}

// panicking returns a probe that panics with a value of its own.
func (c *check) panicking() *probe {
	o := c.probe(nil)
	value := &failure{of: o}
	o.panics = value
	o.body = func(context.Context, int) error { return throw(value) }
	return o
}

// exiting returns a probe that ends its goroutine.
func (c *check) exiting() *probe {
	return c.probe(func(context.Context, int) error {
		runtime.Goexit()
		return nil
	})
}

// throw is the function that unwound looks for.
//
//go:noinline
func throw(value any) error { panic(value) }

// unwound reports, called by a deferred function, whether the panic comes
// straight from throw. The frames of a panic are gone once it was recovered, and
// while a deferred function panics anew those of that panic lie above them.
func unwound() bool {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for {
		f, more := frames.Next()
		if f.Function == "runtime.gopanic" {
			f, _ = frames.Next()
			return strings.HasSuffix(f.Function, "resiliencetest.throw")
		}
		if !more {
			return false
		}
	}
}
