package resiliencetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/metrics"
	"sync"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
)

var rules = []rule{
	{name: "admits", sentence: "a new policy runs the operation", check: admits},
	{name: "concurrency", sentence: "Apply is safe for concurrent use", check: concurrency},
	{name: "sequence", sentence: "runs next one after another and returns after it", check: sequence},
	{name: "context", sentence: "the context handed to next derives from ctx", check: contexts},
	{name: "errors", sentence: "the error of next stays reachable", check: reachable},
	{name: "rejections", sentence: "an error that matches ErrRejected means that next did not run", check: rejections},
	{name: "unwinding", sentence: "a panic or Goexit unwinds and releases everything that is held", check: unwinding},
	{name: "outcomes", sentence: "a panic or Goexit counts as a failure", check: outcomes},
	{name: "locks", sentence: "no lock is held while user code runs", check: locks},
	{name: "goroutines", sentence: "no goroutine is started on the success path", check: goroutines},
	{name: "settling", sentence: "everything that is held is released at the end, once", check: settling},
	{name: "discarding", sentence: "next.Discard comes before a further run, a wait or a result of the policy's own", lastingOnly: true, check: discarding},
	{name: "done", sentence: "if the context is done, next does not run", check: done},
}

// admits checks what all other checks rely on.
func admits(c *check) {
	p := c.newPolicy()
	if p == nil {
		c.faultf("it is nil")
		return
	}
	o := c.probe(succeed)
	if r := c.do(p, o); o.count() == 0 || r.err != nil {
		c.faultf("%d runs, error %v", o.count(), r.err)
	}
}

func concurrency(c *check) {
	p := c.newPolicy()
	var callers sync.WaitGroup
	for i := range 50 {
		callers.Go(func() {
			for range 10 {
				o := c.failing()
				fail := o.body
				o.body = func(ctx context.Context, run int) error {
					// Calls overlap in many ways.
					time.Sleep(time.Duration(i%7) * time.Millisecond)
					if i%3 == 0 {
						return fail(ctx, run)
					}
					return nil
				}
				r := c.do(p, o)
				if f, ok := errors.AsType[*failure](r.err); ok && f.of != o {
					c.faultf("a call has the error of another one")
				}
				if !r.returned {
					c.faultf("a call does not return")
				}
			}
		})
	}
	callers.Wait()
}

func sequence(c *check) {
	slow := func(ctx context.Context, _ int) error {
		time.Sleep(time.Hour) // even if ctx is done
		return ctx.Err()
	}
	for name, start := range map[string]func() (context.Context, context.CancelFunc){
		"the caller waits":    func() (context.Context, context.CancelFunc) { return context.Background(), func() {} },
		"the deadline passes": func() (context.Context, context.CancelFunc) { return within(time.Second) },
		"the caller cancels": func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		},
	} {
		for _, o := range []*probe{c.probe(slow), c.failing()} {
			ctx, cancel := start()
			c.call(ctx, c.newPolicy(), o)
			if o.running() {
				c.faultf("returned while next.Run was running, when %s", name)
				time.Sleep(1000 * time.Hour)
			}
			if o.overlapped {
				c.faultf("two runs at once, when %s", name)
			}
			o.end()
			cancel()
		}
	}
}

func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

type contextKey struct{}

func contexts(c *check) {
	// The first run fails, so that the context of a second run is checked too.
	ctx, cancel := within(30 * 24 * time.Hour)
	defer cancel()
	ctx = context.WithValue(ctx, contextKey{}, c)
	outer, _ := ctx.Deadline()
	o := c.failing()
	fail := o.body
	o.body = func(ctx context.Context, run int) error {
		if ctx.Value(contextKey{}) != c {
			c.faultf("a value of it is missing in run %d", run)
		}
		if d, ok := ctx.Deadline(); !ok || d.After(outer) {
			c.faultf("its deadline is missing in run %d", run)
		}
		return fail(ctx, run)
	}
	c.call(ctx, c.newPolicy(), o)
	o.end()

	for _, last := range []int{1, 2} {
		ctx, cancel := context.WithCancelCause(context.Background())
		o := c.failing()
		fail := o.body
		o.body = func(ctx context.Context, run int) error {
			if run != last {
				return fail(ctx, run)
			}
			cause := &failure{o, run}
			cancel(cause)
			synctest.Wait()
			if ctx.Err() == nil {
				c.faultf("its cancellation does not reach run %d", run)
			} else if context.Cause(ctx) != cause { // this very value
				c.faultf("the cause of its cancellation does not reach run %d", run)
			}
			return ctx.Err()
		}
		c.call(ctx, c.newPolicy(), o)
		o.end()
		cancel(nil)
	}
}

func reachable(c *check) {
	p := c.newPolicy()
	for name, wrap := range map[string]func(error) error{
		"returned": func(err error) error { return err },
		"wrapped":  func(err error) error { return fmt.Errorf("wrapped: %w", err) },
		"joined":   func(err error) error { return errors.Join(io.EOF, err) },
	} {
		o := c.failing()
		fail := o.body
		o.body = func(ctx context.Context, run int) error { return wrap(fail(ctx, run)) }
		r := c.do(p, o)
		if r.err == nil || o.count() == 0 {
			continue // the policy answered instead, or rejected
		}
		if !errors.Is(r.err, &failure{o, o.count()}) {
			c.faultf("errors.Is does not find it, %s, in: %v", name, r.err)
		}
		if f, ok := errors.AsType[*failure](r.err); !ok || *f != (failure{o, o.count()}) {
			c.faultf("errors.As does not find it, %s, in: %v", name, r.err)
		}
	}

	rejection := &resilience.Rejection{Policy: "resiliencetest", Reason: resilience.Limited}
	o := c.probe(func(context.Context, int) error { return rejection })
	r := c.do(c.newPolicy(), o)
	if r.err != nil && o.count() > 0 && !errors.Is(r.err, rejection) {
		c.faultf("the rejection of an inner policy is not found in: %v", r.err)
	}
}

func rejections(c *check) {
	judge := func(o *probe, r result, when string) {
		if rejected(r.err) && o.count() > 0 {
			c.faultf("next ran, %s, and the error is: %v", when, r.err)
		}
	}
	p := c.newPolicy()
	for i := range 300 {
		o := c.failing()
		judge(o, c.do(p, o), "failing")
		time.Sleep(time.Duration(i%5) * 100 * time.Millisecond)
	}

	p = c.newPolicy()
	release := make(chan struct{})
	var calls sync.WaitGroup
	for range 100 {
		o := c.probe(func(context.Context, int) error {
			<-release
			return nil
		})
		calls.Go(func() { judge(o, c.do(p, o), "among others") })
	}
	synctest.Wait()
	time.Sleep(time.Second)
	close(release)
	calls.Wait()
}

func unwinding(c *check) {
	unwinds(c, "panics", c.panicking)
	unwinds(c, "Goexit", c.exiting)
}

func unwinds(c *check, how string, operation func() *probe) {
	p := c.newPolicy()
	for range many {
		o := operation()
		r := c.do(p, o)
		switch {
		case o.count() == 0: // rejected
		case r.returned:
			c.faultf("Apply returned %v instead of unwinding", r.err)
		case r.value == nil && o.panics != nil:
			c.faultf("the panic became a Goexit")
		case r.value != o.panics:
			c.faultf("the caller recovers %v instead of what next panicked with", r.value)
		case r.value != nil && !r.unwound:
			c.faultf("the panic was recovered and raised again")
		}
	}
	c.admitsAgain(p, how)
}

func outcomes(c *check) {
	// The bursts come a second apart, for policies that consider times.
	rejects := func(burst int, operation func() *probe) bool {
		p := c.newPolicy()
		for range 5 {
			for range burst {
				o := operation()
				if c.do(p, o); o.count() == 0 {
					return true
				}
			}
			time.Sleep(time.Second)
		}
		return false
	}
	if !rejects(30, c.failing) {
		return
	}
	// More calls than before, because one failing call may have been several failures.
	if !rejects(300, c.panicking) {
		c.faultf("errors make it reject, panics do not")
	}
	if !rejects(300, c.exiting) {
		c.faultf("errors make it reject, Goexit does not")
	}
}

// locks calls the policy from inside its own operation. The policy may reject that call, or
// let it wait until its context ends, but it must not hang.
func locks(c *check) {
	p := c.newPolicy()
	reenter := func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		for _, o := range []*probe{c.probe(succeed), c.failing()} {
			c.call(ctx, p, o)
			o.end()
		}
	}
	o := c.failing()
	o.onDiscard = func() { reenter(context.Background()) }
	o.body = func(ctx context.Context, run int) error {
		reenter(ctx)
		return &talking{failure{o, run}, func() { reenter(context.Background()) }}
	}
	for range 20 {
		c.do(p, o)
		time.Sleep(time.Second)
	}
	o = c.probe(func(ctx context.Context, _ int) error {
		reenter(ctx)
		return nil
	})
	c.do(p, o)
}

// talking is an error whose methods run user code.
type talking struct {
	failure
	reenter func()
}

func (t *talking) Outcome() resilience.Outcome {
	t.reenter()
	return resilience.Failure
}

func (t *talking) Retryable() bool {
	t.reenter()
	return true
}

func (t *talking) RetryAfter() time.Duration {
	t.reenter()
	return 0
}

// goroutines checks that some successful call starts no goroutine. Other code in the process
// starts goroutines too, but not during each of 1000 calls.
func goroutines(c *check) {
	p := c.newPolicy()
	created := []metrics.Sample{{Name: "/sched/goroutines-created:goroutines"}}
	succeeded := false
	for range 1000 {
		o := c.probe(succeed)
		metrics.Read(created)
		before := created[0].Value.Uint64()
		err := resilience.RunOperation(context.Background(), p, o.operation())
		o.end()
		metrics.Read(created)
		switch {
		case err != nil || o.count() == 0:
			time.Sleep(time.Minute)
		case created[0].Value.Uint64() == before:
			return
		default:
			succeeded = true
		}
	}
	if succeeded {
		c.faultf("each call starts one")
	}
}

func settling(c *check) {
	plain := check{newPolicy: c.newPolicy}
	slots := plain.capacity(c.newPolicy(), many)
	if slots < many && c.lasting {
		if open := c.capacity(c.newPolicy(), slots+1); open > slots {
			c.faultf("it admits %d plain operations at once, and more lasting ones", slots)
		}
	}
	p := c.newPolicy()
	for range many {
		c.do(p, c.probe(succeed))
	}
	if slots > 0 && slots < many && c.capacity(p, slots+many/2) == slots+many/2 {
		c.faultf("it admitted %d at once, and %d more after %d calls: a slot is released before the operation has ended, or more than once: release it through next.Settle", slots, many/2, many)
	}
	c.admitsAgain(p, "operations that ended")
}

func discarding(c *check) {
	p := c.newPolicy()
	for range 10 {
		o := c.failing()
		r := c.call(context.Background(), p, o)
		err, open := o.last()
		if o.undiscarded {
			c.faultf("it runs next again while the last run goes on")
		}
		if o.waited {
			c.faultf("it waits while the last run goes on")
		}
		if o.count() > 0 && r.err == nil && err != nil && open {
			c.faultf("it answers instead of next while the last run goes on")
		}
		o.end()
	}
}

// outermost passes its own context to the inner policies.
type outermost struct{ ctx context.Context }

func (p outermost) Apply(_ context.Context, next resilience.Next) error { return next.Run(p.ctx) }

func done(c *check) {
	canceled, cancel := context.WithCancelCause(context.Background())
	cancel(io.ErrUnexpectedEOF)
	expired, free := within(-time.Second)
	defer free()
	for _, ctx := range []context.Context{canceled, expired} {
		o := c.probe(succeed)
		if r := c.call(ctx, c.newPolicy(), o); o.count() > 0 || !errors.Is(r.err, ctx.Err()) {
			c.faultf("%d runs, error %v", o.count(), r.err)
		}

		// Inside another policy, it may leave the check of the context to next.
		inner := c.newPolicy()
		p := resilience.Compose(outermost{ctx}, inner)
		for range many {
			o := c.probe(func(ctx context.Context, _ int) error { return ctx.Err() })
			r := c.do(p, o)
			if o.count() > 1 {
				c.faultf("it runs next %d times", o.count())
			}
			if r.err != nil && !rejected(r.err) && !errors.Is(r.err, ctx.Err()) {
				c.faultf("the error does not match the context's: %v", r.err)
			}
		}
		c.admitsAgain(inner, "calls whose context was done")
	}
}
