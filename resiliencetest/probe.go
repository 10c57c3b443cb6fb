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

// probe is the operation of the checks. It records what the policy does with it. A lasting
// probe goes on after each run until it is discarded or ended.
type probe struct {
	resilience.Tail
	lasting    bool
	unanswered bool // does not answer when it returns
	panics     any  // the value that body panics with, nil if it does not
	body       func(ctx context.Context, run int) error
	onDiscard  func() // user code that Discard calls, unless nil

	turn sync.Mutex // guards Begin and Hold: two runs at once must be a fault, not a data race

	mu       sync.Mutex // guards the fields below
	runs     int
	active   int
	number   uint32 // the number of the last run in Tail
	open     bool   // the last run goes on
	err      error  // the error of the last run
	returned time.Time

	overlapped  bool // a run began during another
	undiscarded bool // a run began while the last one went on
	waited      bool // time passed before Discard
}

// operation returns the Operation that the policy runs.
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

// end ends the last run, as closing a response body does.
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

// last returns the error of the last run, and whether that run goes on.
func (o *probe) last() (err error, open bool) {
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

// Is reports whether target is a failure of the same run.
func (f *failure) Is(target error) bool {
	t, ok := target.(*failure)
	return ok && *t == *f
}

func succeed(context.Context, int) error { return nil }

// failing returns a probe whose runs each return a failure of their own.
func (c *check) failing() *probe {
	o := c.probe(nil)
	o.body = func(_ context.Context, run int) error { return &failure{o, run} }
	return o
}

// panicking returns a probe that panics with a unique value.
func (c *check) panicking() *probe {
	o := c.probe(nil)
	value := &failure{of: o}
	o.panics = value
	o.body = func(context.Context, int) error { return throw(value) }
	return o
}

// exiting returns a probe that calls runtime.Goexit.
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

// unwound is called by a deferred function. It reports whether the panic comes directly from
// throw. If the panic was recovered and raised again, the frames of throw are gone, or the
// frames of the new panic are above them.
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
