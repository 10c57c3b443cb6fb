package timeout_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/resiliencetest"
	"github.com/resilience-go/resilience/timeout"
)

// bothClocks runs test with real and mock time.
func bothClocks(t *testing.T, test func(w *world)) {
	t.Helper()
	everywhere(t, func(w *world) {
		if w.mode.lasting {
			test(w)
		}
	})
}

// Until Answered, the timeout does not apply after the answer, and the context lives
// until the end.
func TestTimeout_answered(t *testing.T) {
	bothClocks(t, func(w *world) {
		p := w.timeout(timeout.Config{Timeout: time.Second, Until: resilience.Answered})
		op := start(w.t, w.t.Context(), p, &testkit.Lasting{})
		if _, ok := op.Ctx.Deadline(); ok {
			w.t.Error("the context has a deadline after the answer")
		}
		w.pass(time.Hour)
		if err := op.Ctx.Err(); err != nil {
			w.t.Errorf("the context is done long after the answer: %v", err)
		}
		op.Finish(nil)
		if op.Ctx.Err() == nil {
			w.t.Error("the context is not released at the end")
		}
		wantStats(w.t, p, timeout.Stats{Calls: 1})
	})
}

// Until Answered, an operation that returns without an answer is still timed out.
func TestTimeout_answered_noAnswer(t *testing.T) {
	bothClocks(t, func(w *world) {
		p := w.timeout(timeout.Config{Timeout: time.Second, Until: resilience.Answered})
		op := start(w.t, w.t.Context(), p, &testkit.Lasting{Mute: true})
		w.pass(time.Second - 1)
		if op.Ctx.Err() != nil {
			w.t.Error("the context is done before the timeout")
		}
		w.pass(1)
		if !errors.Is(context.Cause(op.Ctx), timeout.ErrExceeded) {
			w.t.Errorf("cause %v after the timeout", context.Cause(op.Ctx))
		}
		wantStats(w.t, p, timeout.Stats{Calls: 1})
		op.Finish(op.Ctx.Err())
		wantStats(w.t, p, timeout.Stats{Calls: 1, Exceeded: 1})
	})
}

// Until Answered, an answer in time after Run has returned stops the timeout.
func TestTimeout_answered_afterRun(t *testing.T) {
	bothClocks(t, func(w *world) {
		p := w.timeout(timeout.Config{Timeout: time.Second, Until: resilience.Answered})
		op := start(w.t, w.t.Context(), p, &testkit.Lasting{Mute: true})
		w.pass(time.Second - 1)
		op.Reply()
		w.pass(time.Hour)
		if op.Ctx.Err() != nil {
			w.t.Error("the context is done after an answer in time")
		}
		op.Finish(errBoom)
		wantStats(w.t, p, timeout.Stats{Calls: 1})
	})
}

// Until Answered, a late answer counts as late, however the operation ends.
func TestTimeout_answered_late(t *testing.T) {
	for name, end := range map[string]error{"ends well": nil, "fails then": errBoom} {
		t.Run(name, func(t *testing.T) {
			bothClocks(t, func(w *world) {
				p := w.timeout(timeout.Config{Timeout: time.Second, Until: resilience.Answered})
				op := start(w.t, w.t.Context(), p, &testkit.Lasting{Mute: true})
				w.pass(time.Minute)
				op.Reply()
				op.Finish(end)
				wantStats(w.t, p, timeout.Stats{Calls: 1, Late: 1})
			})
		})
	}
}

// Until Ended, the timeout applies to the end.
func TestTimeout_ended(t *testing.T) {
	bothClocks(t, func(w *world) {
		p := w.timeout(timeout.Config{Timeout: time.Second})
		op := start(w.t, w.t.Context(), p, &testkit.Lasting{})
		if _, ok := op.Ctx.Deadline(); ok == w.mode.mock {
			w.t.Errorf("the context has a deadline: %v", ok)
		}
		w.pass(time.Second - 1)
		if op.Ctx.Err() != nil {
			w.t.Error("the context is done before the timeout")
		}
		w.pass(1)
		if !errors.Is(context.Cause(op.Ctx), timeout.ErrExceeded) {
			w.t.Errorf("cause %v after the timeout", context.Cause(op.Ctx))
		}
		op.Finish(nil)
	})
}

// Until Ended, an end in time releases the context.
func TestTimeout_ended_releasesContext(t *testing.T) {
	bothClocks(t, func(w *world) {
		p := w.timeout(timeout.Config{Timeout: time.Second})
		op := start(w.t, w.t.Context(), p, &testkit.Lasting{})
		op.Finish(errBoom)
		if cause := context.Cause(op.Ctx); cause != context.Canceled {
			w.t.Errorf("cause %v after the end", cause)
		}
		w.pass(time.Hour)
		wantStats(w.t, p, timeout.Stats{Calls: 1})
	})
}

// A failure after the timeout is counted and observed once.
func TestTimeout_lateFailure_countsOnce(t *testing.T) {
	bothClocks(t, func(w *world) {
		rec := &resiliencetest.Recorder{}
		p := w.timeout(timeout.Config{Timeout: time.Second, Observer: rec})
		op := start(w.t, w.t.Context(), p, &testkit.Lasting{})
		w.pass(time.Second)
		op.Finish(op.Ctx.Err())
		op.Finish(errBoom)
		op.Discard()
		wantStats(w.t, p, timeout.Stats{Calls: 1, Exceeded: 1})
		if n := len(rec.Events()); n != 1 {
			w.t.Errorf("observed %d times", n)
		}
	})
}

// An end after the timeout is counted as late once.
func TestTimeout_lateEnd_countsOnce(t *testing.T) {
	for name, when := range map[string]struct{ before, after time.Duration }{
		"returned in time": {0, time.Minute}, "returned late": {time.Minute, 0}, "late twice": {time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			bothClocks(t, func(w *world) {
				p := w.timeout(timeout.Config{Timeout: time.Second})
				op := start(w.t, w.t.Context(), p, &testkit.Lasting{Func: func(context.Context) error { w.pass(when.before); return nil }})
				w.pass(when.after)
				op.Finish(nil)
				wantStats(w.t, p, timeout.Stats{Calls: 1, Late: 1})
			})
		})
	}
}

// An operation that returns late and fails at its end counts as exceeded and not as
// late.
func TestTimeout_lateThenFails(t *testing.T) {
	bothClocks(t, func(w *world) {
		p := w.timeout(timeout.Config{Timeout: time.Second})
		op := start(w.t, w.t.Context(), p, &testkit.Lasting{Func: func(context.Context) error { w.pass(time.Minute); return nil }})
		op.Finish(errBoom)
		wantStats(w.t, p, timeout.Stats{Calls: 1, Exceeded: 1})
	})
}

// A failure in time does not count as exceeded, even if a part of the operation ends
// late.
func TestTimeout_failsThenEndsLate(t *testing.T) {
	for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
		bothClocks(t, func(w *world) {
			p := w.timeout(timeout.Config{Timeout: time.Second, Until: until})
			op := &testkit.Lasting{Func: func(context.Context) error { return errBoom }}
			if err := resilience.RunOperation(w.t.Context(), p, op); err != errBoom {
				w.t.Errorf("error %v", err)
			}
			w.pass(time.Minute)
			op.Finish(nil)
			wantStats(w.t, p, timeout.Stats{Calls: 1})
		})
	}
}

// A failure after the timeout is counted once, even if a part of the operation goes on.
func TestTimeout_lateFailure_goesOn(t *testing.T) {
	for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
		bothClocks(t, func(w *world) {
			p := w.timeout(timeout.Config{Timeout: time.Second, Until: until})
			op := &testkit.Lasting{Func: func(context.Context) error { w.pass(time.Second); return errBoom }}
			err := resilience.RunOperation(w.t.Context(), p, op)
			if !errors.Is(err, timeout.ErrExceeded) || !errors.Is(err, errBoom) {
				w.t.Errorf("error %v", err)
			}
			op.Finish(errBoom)
			wantStats(w.t, p, timeout.Stats{Calls: 1, Exceeded: 1})
		})
	}
}

// The caller's cancellation ends an operation that goes on, and does not count.
func TestTimeout_callerCancels_lasting(t *testing.T) {
	for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
		bothClocks(t, func(w *world) {
			p := w.timeout(timeout.Config{Timeout: time.Second, Until: until})
			ctx, cancel := context.WithCancel(w.t.Context())
			op := start(w.t, ctx, p, &testkit.Lasting{Mute: true})
			cancel()
			w.pass(time.Hour)
			if cause := context.Cause(op.Ctx); cause != context.Canceled {
				w.t.Errorf("cause %v", cause)
			}
			op.Finish(op.Ctx.Err())
			wantStats(w.t, p, timeout.Stats{Calls: 1})
		})
	}
}

// A panic or Goexit releases the context.
func TestTimeout_unwinds_releasesContext(t *testing.T) {
	for _, how := range testkit.Aborts(errBoom) {
		for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
			everywhere(t, func(w *world) {
				p := w.timeout(timeout.Config{Timeout: time.Second, Until: until})
				var seen context.Context
				fn := func(ctx context.Context) error {
					seen = ctx
					how.Abort()
					return nil
				}
				op := &testkit.Lasting{Func: fn}
				e := testkit.Unwind(func() error {
					if !w.mode.lasting {
						return resilience.Run(w.t.Context(), p, fn)
					}
					defer op.Discard() // as adapters do
					return resilience.RunOperation(w.t.Context(), p, op)
				})
				if e != how {
					w.t.Errorf("ended with %+v", e)
				}
				if seen.Err() == nil {
					w.t.Error("the context is not released")
				}
				w.pass(time.Hour)
				wantStats(w.t, p, timeout.Stats{Calls: 1})
			})
		}
	}
}

// A panic of the observer is dropped.
func TestTimeout_observerPanics(t *testing.T) {
	everywhere(t, func(w *world) {
		p := w.timeout(timeout.Config{Timeout: time.Second, Observer: testkit.Observer(func(resilience.Event) { panic(errBoom) })})
		w.later(time.Second)
		if err := w.run(w.t.Context(), p, echo); !errors.Is(err, timeout.ErrExceeded) {
			w.t.Errorf("error %v", err)
		}
	})
}

// A Goexit of the observer counts the operation once.
func TestTimeout_observerExits(t *testing.T) {
	everywhere(t, func(w *world) {
		p := w.timeout(timeout.Config{Timeout: time.Second, Observer: testkit.Observer(func(resilience.Event) { runtime.Goexit() })})
		w.later(time.Second)
		e := testkit.Unwind(func() error { return w.run(w.t.Context(), p, echo) })
		if !e.Goexit {
			w.t.Errorf("ended with %+v", e)
		}
		wantStats(w.t, p, timeout.Stats{Calls: 1, Exceeded: 1})
	})
}

// An answer and an end at the instant of the timeout never count as exceeded.
func TestTimeout_answerAtTimeout(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			p := must(t, timeout.Config{Timeout: time.Second, Until: resilience.Answered})
			op := start(t, t.Context(), p, &testkit.Lasting{Mute: true})
			go func() { time.Sleep(time.Second); op.Reply() }()
			time.Sleep(time.Second)
			op.Finish(nil)
			synctest.Wait()
			if s := p.Stats(); s.Exceeded != 0 || s.Late > 1 {
				t.Errorf("counted %+v", s)
			}
		})
	}
}
