package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/testkit"
)

// TestBreaker_staleResults: results of calls admitted before a transition change
// nothing after it.
func TestBreaker_staleResults(t *testing.T) {
	bg := context.Background()
	t.Run("an old success does not close", func(t *testing.T) {
		r := newRig(t, quick)
		old := r.start(bg)
		r.trip()
		_ = old.finish(nil)
		r.want(breaker.Open)
		older := r.start(bg)
		if older != nil {
			t.Fatal("OPEN admitted a call")
		}
	})
	t.Run("an old success does not count in HALF_OPEN", func(t *testing.T) {
		r := newRig(t, quick)
		old := r.start(bg)
		r.trip()
		r.clock.add(2 * time.Second)
		probe := r.start(bg)
		_ = old.finish(nil)
		r.want(breaker.HalfOpen)
		_ = probe.finish(nil)
		r.want(breaker.Closed)
	})
	t.Run("an old failure does not reopen HALF_OPEN", func(t *testing.T) {
		r := newRig(t, quick)
		old := r.start(bg)
		r.trip()
		r.clock.add(2 * time.Second)
		probe := r.start(bg)
		_ = old.finish(errDown)
		r.want(breaker.HalfOpen)
		if s := r.Stats(); s.InFlight != 1 || s.Credit != 1 {
			t.Fatalf("the old failure moved the credit: %+v", s)
		}
		_ = probe.finish(nil)
	})
	t.Run("an old failure does not count in the next CLOSED", func(t *testing.T) {
		r := newRig(t, quick)
		old, old2 := r.start(bg), r.start(bg)
		r.trip()
		r.clock.add(2 * time.Second)
		_ = r.run(nil)
		r.want(breaker.Closed)
		_, _ = old.finish(errDown), old2.finish(errDown)
		r.want(breaker.Closed)
		if s := r.Stats(); s.FailuresInARow != 0 || s.Failures != 4 {
			t.Fatalf("old failures: %+v", s)
		}
	})
	t.Run("a probe of an older HALF_OPEN does not count in the next one", func(t *testing.T) {
		r := newRig(t, breaker.Config{Trip: quick.Trip, OpenFor: time.Second, CloseAfter: 3})
		r.trip()
		r.clock.add(2 * time.Second)
		_ = r.run(nil) // credit 2
		a, b, c := r.start(bg), r.start(bg), r.start(bg)
		if a == nil || b == nil || c != nil {
			t.Fatal("a credit of 2 admits two calls")
		}
		_ = a.finish(errDown)         // credit 1
		r.clock.add(20 * time.Second) // the lease of b ends
		_ = r.run(errDown)            // credit below 0
		r.want(breaker.Open)
		r.clock.add(2 * time.Second)
		probe := r.start(bg)
		_ = b.finish(errDown)
		r.want(breaker.HalfOpen)
		_ = probe.finish(nil)
	})
}

// TestBreaker_oneProbeOfFifty: of fifty callers at the end of the open time exactly one
// is admitted.
func TestBreaker_oneProbeOfFifty(t *testing.T) {
	r := newRig(t, quick)
	for round := range 200 {
		r.trip()
		r.clock.add(time.Second)
		var ran, refused atomic.Int64
		var ready, done sync.WaitGroup
		gate, leave := make(chan struct{}), make(chan struct{})
		ready.Add(50)
		for range 50 {
			done.Go(func() {
				ready.Done()
				<-gate
				err := resilience.Run(context.Background(), r.Breaker, func(context.Context) error {
					ran.Add(1)
					<-leave
					return nil
				})
				if errors.Is(err, breaker.ErrOpen) && refused.Add(1) == 49 {
					close(leave)
				}
			})
		}
		ready.Wait()
		close(gate)
		done.Wait()
		if ran.Load() != 1 {
			t.Fatalf("round %d: %d calls ran", round, ran.Load())
		}
		r.want(breaker.Closed)
	}
}

// TestBreaker_probePanicOrGoexit: a probe that panics or exits is a failure and frees
// its slot.
func TestBreaker_probePanicOrGoexit(t *testing.T) {
	for name, how := range map[string]func(){
		"panic":  func() { panic("boom") },
		"goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, quick)
			r.trip()
			r.clock.add(time.Second)
			err := r.start(context.Background()).unwind(how)
			if want := map[string]string{"panic": "unwound: boom", "goexit": "unwound: <nil>"}[name]; err == nil || err.Error() != want {
				t.Errorf("the caller got %v, want %s", err, want)
			}
			r.want(breaker.Open)
			if s := r.Stats(); s.Failures != 3 {
				t.Errorf("failures %d, want 3", s.Failures)
			}
			r.clock.add(time.Second)
			if err := r.run(nil); err != nil {
				t.Errorf("the next probe: %v", err)
			}
			r.want(breaker.Closed)
		})
	}
}

// TestClassify_panic: a panic in Classify is a failure and frees the slot.
func TestClassify_panic(t *testing.T) {
	var angry atomic.Bool
	c := quick
	c.Classify = func(error) resilience.Outcome {
		if angry.Load() {
			panic("classify")
		}
		return resilience.Failure
	}
	r := newRig(t, c)
	r.trip()
	r.clock.add(time.Second)
	angry.Store(true)
	err := r.start(context.Background()).unwind(func() {
		defer func() { _ = recover() }()
		panic("harmless")
	})
	if err != nil {
		t.Fatalf("a success is not classified: %v", err)
	}
	r.want(breaker.Closed)
	angry.Store(false)
	r.trip()
	r.clock.add(time.Second)
	angry.Store(true)
	h := r.start(context.Background())
	h.end <- func() error { return errDown }
	if err := <-h.result; err == nil || err.Error() != "unwound: classify" {
		t.Fatalf("the panic of Classify became %v", err)
	}
	r.want(breaker.Open)
}

// TestLease_hangingProbe: after the lease of a hanging probe another is admitted, and
// the late result is ignored.
func TestLease_hangingProbe(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	r.clock.add(time.Second)
	hung := r.start(context.Background())
	r.clock.add(15*time.Second - time.Microsecond)
	if r.start(context.Background()) != nil {
		t.Fatal("a second probe within the lease")
	}
	r.clock.add(time.Microsecond)
	second := r.start(context.Background())
	if second == nil {
		t.Fatal("no second probe after the lease")
	}
	_ = hung.finish(errDown)
	r.want(breaker.HalfOpen)
	if s := r.Stats(); s.ProbesLate != 1 || s.InFlight != 1 || s.Credit != 1 {
		t.Errorf("after the late result: %+v", s)
	}
	_ = second.finish(nil)
	r.want(breaker.Closed)
}

// TestLease_clockSetBack: a clock that is set back does not lengthen a lease.
func TestLease_clockSetBack(t *testing.T) {
	r := newRig(t, quick)
	r.clock.add(time.Hour)
	r.trip()
	r.clock.add(time.Second)
	hung := r.start(context.Background())
	r.clock.add(-time.Minute)
	if r.start(context.Background()) == nil {
		t.Fatal("the lease ends later than one taken now would")
	}
	_ = hung.finish(nil)
	r.want(breaker.HalfOpen)
}

// stubborn is a lasting operation that hands out its settlers.
type stubborn struct {
	held func(s resilience.Settler, token uint64)
}

func (o *stubborn) Run(context.Context) error { return nil }
func (o *stubborn) Discard()                  {}
func (o *stubborn) Hold(_ resilience.Moment, s resilience.Settler, token uint64) bool {
	o.held(s, token)
	return true
}

// TestSettler_twice: an operation that settles several times counts once.
func TestSettler_twice(t *testing.T) {
	for _, outcome := range []error{nil, errTimeout} {
		t.Run(fmt.Sprint(outcome), func(t *testing.T) {
			for range 100 {
				r := newRig(t, breaker.Config{Trip: quick.Trip, OpenFor: time.Second, CloseAfter: 8})
				r.trip()
				r.clock.add(time.Second)
				_, _ = r.run(nil), r.run(nil) // credit 3
				var wg sync.WaitGroup
				err := resilience.RunOperation(context.Background(), r.Breaker, &stubborn{func(s resilience.Settler, token uint64) {
					for range 8 {
						wg.Go(func() { s.Settle(token, outcome) })
					}
				}})
				if err != nil {
					t.Fatal(err)
				}
				wg.Wait()
				credit, failures := 4, 0
				if outcome != nil {
					credit, failures = 3, 1
				}
				if s := r.Stats(); s.Credit != credit || s.InFlight != 0 || s.FailuresInARow != failures {
					t.Fatalf("%+v; want a credit of %d, 0 in flight and %d failures in a row", s, credit, failures)
				}
			}
		})
	}
}

// TestBreaker_callerCancels: a call that its caller cancels is ignored, and a canceled
// probe frees its slot.
func TestBreaker_callerCancels(t *testing.T) {
	r := newRig(t, quick)
	for range 100 {
		ctx, cancel := context.WithCancel(context.Background())
		h := r.start(ctx)
		cancel()
		_ = h.finish(ctx.Err())
	}
	r.want(breaker.Closed)
	r.trip()
	r.clock.add(time.Second)
	ctx, cancel := context.WithCancel(context.Background())
	probe := r.start(ctx)
	cancel()
	_ = probe.finish(errDown) // although its error is a failure, its caller has canceled
	r.want(breaker.HalfOpen)
	if s := r.Stats(); s.InFlight != 0 || s.Credit != 1 || s.Ignored != 101 {
		t.Fatalf("after a canceled probe: %+v", s)
	}
	if err := r.run(nil); err != nil {
		t.Fatalf("the next caller may probe: %v", err)
	}
	r.want(breaker.Closed)
}

// ending is a cause that identifies the context that its timeout ended.
type ending struct{ key any }

func (ending) Error() string                    { return "timeout" }
func (e ending) Ended(ctx context.Context) bool { return ctx.Value(e.key) != nil }

// TestBreaker_callerDeadline: the caller's deadline is a failure, and so is a timeout that
// cancels the context of this call. A cancellation for another call's deadline is not.
func TestBreaker_callerDeadline(t *testing.T) {
	type key struct{}
	canceledWith := func(cause error) func() (context.Context, context.CancelFunc) {
		return func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(context.WithValue(context.Background(), key{}, 1))
			time.AfterFunc(time.Millisecond, func() { cancel(cause) })
			return ctx, func() { cancel(nil) }
		}
	}
	for name, test := range map[string]struct {
		end  func() (context.Context, context.CancelFunc)
		want breaker.State
	}{
		"deadline": {func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), time.Millisecond)
		}, breaker.Open},
		"a timeout of this call":  {canceledWith(ending{key{}}), breaker.Open},
		"another call's timeout":  {canceledWith(ending{"another"}), breaker.Closed},
		"another call's deadline": {canceledWith(fmt.Errorf("group: %w", context.DeadlineExceeded)), breaker.Closed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, quick)
				for range 2 {
					ctx, cancel := test.end()
					_ = resilience.Run(ctx, r.Breaker, func(ctx context.Context) error {
						<-ctx.Done()
						return context.Canceled // as HTTP/2 returns it
					})
					cancel()
				}
				r.want(test.want)
			})
		})
	}
}

// TestConsecutive_eightAtOnce: eight failures at once at a threshold of two always
// open.
func TestConsecutive_eightAtOnce(t *testing.T) {
	for range 200 {
		r := newRig(t, quick)
		calls := make([]*held, 8)
		for i := range calls {
			calls[i] = r.start(context.Background())
		}
		var wg sync.WaitGroup
		gate := make(chan struct{})
		for _, h := range calls {
			wg.Go(func() { <-gate; _ = h.finish(errDown) })
		}
		close(gate)
		wg.Wait()
		r.want(breaker.Open)
		if got := r.events(); len(got) != 1 {
			t.Fatalf("events %v", got)
		}
	}
}

// TestBreaker_innerRejection: an inner policy that rejects the probe frees its slot.
func TestBreaker_innerRejection(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	r.clock.add(time.Second)
	full := &resilience.Rejection{Policy: "bulkhead", Reason: bulkhead.Full}
	for range 3 {
		if err := r.run(fmt.Errorf("inside: %w", full)); !errors.Is(err, full) {
			t.Fatalf("got %v", err)
		}
		r.want(breaker.HalfOpen)
	}
	if s := r.Stats(); s.InFlight != 0 || s.Credit != 1 || s.Ignored != 3 {
		t.Fatalf("after rejections inside: %+v", s)
	}
	_ = r.run(nil)
	r.want(breaker.Closed)
}

type judged struct{ o resilience.Outcome }

func (j judged) Error() string               { return "judged" }
func (j judged) Outcome() resilience.Outcome { return j.o }

// TestBreaker_wrappedErrors: wrapped and joined errors are classified as what they
// wrap.
func TestBreaker_wrappedErrors(t *testing.T) {
	c := quick
	c.Classify = func(err error) resilience.Outcome {
		if errors.Is(err, errDown) {
			return resilience.Failure
		}
		return resilience.Success
	}
	for name, wrap := range map[string]func(error) error{
		"%w":   func(err error) error { return fmt.Errorf("call: %w", err) },
		"join": func(err error) error { return errors.Join(errors.New("other"), err) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c)
			for range 5 {
				_ = r.run(wrap(judged{resilience.Success}))
				_ = r.run(wrap(judged{resilience.Ignored}))
			}
			_ = r.run(wrap(judged{resilience.Failure}))
			_ = r.run(wrap(errDown))
			r.want(breaker.Open)
			if s := r.Stats(); s.Successes != 5 || s.Ignored != 5 || s.Failures != 2 {
				t.Errorf("counted %+v", s)
			}
		})
	}
}

// TestBreaker_contextDone: with a context that is done nothing runs and nothing is
// counted.
func TestBreaker_contextDone(t *testing.T) {
	gone := errors.New("gone")
	done := func() context.Context {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(gone)
		return ctx
	}()
	r := newRig(t, quick)
	// A policy outside that hands on a context which is already done.
	late := testkit.Policy(func(_ context.Context, next resilience.Next) error { return next.Run(done) })
	check := func(what string) {
		t.Helper()
		before := r.Stats()
		err := resilience.Run(context.Background(), resilience.Compose(late, r.Breaker), func(context.Context) error {
			t.Error("the operation ran")
			return nil
		})
		if !errors.Is(err, context.Canceled) || !errors.Is(err, gone) {
			t.Errorf("%s: error %v", what, err)
		}
		if after := r.Stats(); after != before {
			t.Errorf("%s: counted %+v, before %+v", what, after, before)
		}
	}
	check("CLOSED")
	r.trip()
	check("OPEN")
	r.clock.add(time.Second)
	check("open time over")
	if err := r.run(nil); err != nil {
		t.Errorf("the probe was spent: %v", err)
	}
}
