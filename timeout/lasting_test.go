package timeout_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
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

func TestAnsweredStopsTheLimitAtTheAnswer(t *testing.T) {
	bothClocks(t, func(w *world) {
		p := w.timeout(timeout.Config{Limit: time.Second, Until: resilience.Answered})
		op := start(w.t, w.t.Context(), p, &lasting{})
		if _, ok := op.ctx.Deadline(); ok {
			w.t.Error("the context has a deadline, though none holds")
		}
		w.pass(time.Hour)
		if err := op.ctx.Err(); err != nil {
			w.t.Errorf("the context is done long after the answer: %v", err)
		}
		op.end(nil)
		if op.ctx.Err() == nil {
			w.t.Error("the context is not released at the end")
		}
		wantStats(w.t, p, timeout.Stats{Calls: 1})
	})
}

func TestAnsweredCutsOffAnOperationThatReturnsWithoutAnAnswer(t *testing.T) {
	bothClocks(t, func(w *world) {
		p := w.timeout(timeout.Config{Limit: time.Second, Until: resilience.Answered})
		op := start(w.t, w.t.Context(), p, &lasting{mute: true})
		w.pass(time.Second - 1)
		if op.ctx.Err() != nil {
			w.t.Error("the context is done before the limit")
		}
		w.pass(1)
		if !errors.Is(context.Cause(op.ctx), timeout.ErrExceeded) {
			w.t.Errorf("cause %v after the limit", context.Cause(op.ctx))
		}
		wantStats(w.t, p, timeout.Stats{Calls: 1})
		op.end(op.ctx.Err())
		wantStats(w.t, p, timeout.Stats{Calls: 1, Exceeded: 1})
	})
}

func TestAnsweredInTimeAfterRunStopsTheLimit(t *testing.T) {
	bothClocks(t, func(w *world) {
		p := w.timeout(timeout.Config{Limit: time.Second, Until: resilience.Answered})
		op := start(w.t, w.t.Context(), p, &lasting{mute: true})
		w.pass(time.Second - 1)
		op.Answer(op.run)
		w.pass(time.Hour)
		if op.ctx.Err() != nil {
			w.t.Error("the context is done after an answer in time")
		}
		op.end(errBoom)
		wantStats(w.t, p, timeout.Stats{Calls: 1})
	})
}

func TestAnsweredLateIsLateAndNothingElse(t *testing.T) {
	for name, end := range map[string]error{"ends well": nil, "fails then": errBoom} {
		t.Run(name, func(t *testing.T) {
			bothClocks(t, func(w *world) {
				p := w.timeout(timeout.Config{Limit: time.Second, Until: resilience.Answered})
				op := start(w.t, w.t.Context(), p, &lasting{mute: true})
				w.pass(time.Minute)
				op.Answer(op.run)
				op.end(end)
				wantStats(w.t, p, timeout.Stats{Calls: 1, Late: 1})
			})
		})
	}
}

func TestEndedHoldsToTheEnd(t *testing.T) {
	bothClocks(t, func(w *world) {
		p := w.timeout(timeout.Config{Limit: time.Second})
		op := start(w.t, w.t.Context(), p, &lasting{})
		if _, ok := op.ctx.Deadline(); ok == w.mode.mock {
			w.t.Errorf("the context has a deadline: %v", ok)
		}
		w.pass(time.Second - 1)
		if op.ctx.Err() != nil {
			w.t.Error("the context is done before the limit")
		}
		w.pass(1)
		if !errors.Is(context.Cause(op.ctx), timeout.ErrExceeded) {
			w.t.Errorf("cause %v after the limit", context.Cause(op.ctx))
		}
		op.end(nil)
	})
}

func TestEndedInTimeReleasesTheContext(t *testing.T) {
	bothClocks(t, func(w *world) {
		p := w.timeout(timeout.Config{Limit: time.Second})
		op := start(w.t, w.t.Context(), p, &lasting{})
		op.end(errBoom)
		if cause := context.Cause(op.ctx); cause != context.Canceled {
			w.t.Errorf("cause %v after the end", cause)
		}
		w.pass(time.Hour)
		wantStats(w.t, p, timeout.Stats{Calls: 1})
	})
}

func TestALateFailureIsCountedAsExceededExactlyOnce(t *testing.T) {
	bothClocks(t, func(w *world) {
		rec := &recorder{}
		p := w.timeout(timeout.Config{Limit: time.Second, Observer: rec})
		op := start(w.t, w.t.Context(), p, &lasting{})
		w.pass(time.Second)
		op.end(op.ctx.Err())
		op.end(errBoom)
		op.Discard()
		wantStats(w.t, p, timeout.Stats{Calls: 1, Exceeded: 1})
		if len(rec.events) != 1 {
			w.t.Errorf("observed %d times", len(rec.events))
		}
	})
}

func TestALateEndIsCountedAsLateExactlyOnce(t *testing.T) {
	for name, when := range map[string]struct{ before, after time.Duration }{
		"returned in time": {0, time.Minute}, "returned late": {time.Minute, 0}, "late twice": {time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			bothClocks(t, func(w *world) {
				p := w.timeout(timeout.Config{Limit: time.Second})
				op := start(w.t, w.t.Context(), p, &lasting{fn: func(context.Context) error { w.pass(when.before); return nil }})
				w.pass(when.after)
				op.end(nil)
				wantStats(w.t, p, timeout.Stats{Calls: 1, Late: 1})
			})
		})
	}
}

func TestReturnedLateAndFailedAtTheEndIsExceededOnly(t *testing.T) {
	bothClocks(t, func(w *world) {
		p := w.timeout(timeout.Config{Limit: time.Second})
		op := start(w.t, w.t.Context(), p, &lasting{fn: func(context.Context) error { w.pass(time.Minute); return nil }})
		op.end(errBoom)
		wantStats(w.t, p, timeout.Stats{Calls: 1, Exceeded: 1})
	})
}

func TestAFailureInTimeIsNotExceededWhenItsRestEndsLate(t *testing.T) {
	for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
		bothClocks(t, func(w *world) {
			p := w.timeout(timeout.Config{Limit: time.Second, Until: until})
			op := &lasting{fn: func(context.Context) error { return errBoom }}
			if err := resilience.RunOperation(w.t.Context(), p, op); err != errBoom {
				w.t.Errorf("error %v", err)
			}
			w.pass(time.Minute)
			op.end(nil)
			wantStats(w.t, p, timeout.Stats{Calls: 1})
		})
	}
}

func TestAFailureAfterTheLimitIsCountedOnceThoughItsRestGoesOn(t *testing.T) {
	for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
		bothClocks(t, func(w *world) {
			p := w.timeout(timeout.Config{Limit: time.Second, Until: until})
			op := &lasting{fn: func(context.Context) error { w.pass(time.Second); return errBoom }}
			err := resilience.RunOperation(w.t.Context(), p, op)
			if !errors.Is(err, timeout.ErrExceeded) || !errors.Is(err, errBoom) {
				w.t.Errorf("error %v", err)
			}
			op.end(errBoom)
			wantStats(w.t, p, timeout.Stats{Calls: 1, Exceeded: 1})
		})
	}
}

func TestTheParentEndsWhatGoesOn(t *testing.T) {
	for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
		bothClocks(t, func(w *world) {
			p := w.timeout(timeout.Config{Limit: time.Second, Until: until})
			ctx, cancel := context.WithCancel(w.t.Context())
			op := start(w.t, ctx, p, &lasting{mute: true})
			cancel()
			w.pass(time.Hour)
			if cause := context.Cause(op.ctx); cause != context.Canceled {
				w.t.Errorf("cause %v", cause)
			}
			op.end(op.ctx.Err())
			wantStats(w.t, p, timeout.Stats{Calls: 1})
		})
	}
}

func TestPanicAndGoexitReleaseTheContext(t *testing.T) {
	for _, goexit := range []bool{false, true} {
		for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
			everywhere(t, func(w *world) {
				p := w.timeout(timeout.Config{Limit: time.Second, Until: until})
				var seen context.Context
				fn := func(ctx context.Context) error {
					seen = ctx
					abort(goexit)
					return nil
				}
				op := &lasting{fn: fn}
				e := unwind(func() error {
					if !w.mode.lasting {
						return resilience.Run(w.t.Context(), p, fn)
					}
					defer op.Discard() // as adapters do
					return resilience.RunOperation(w.t.Context(), p, op)
				})
				if e.goexit != goexit || !goexit && e.panicked != any(errBoom) {
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

func TestAPanickingObserverIsDropped(t *testing.T) {
	everywhere(t, func(w *world) {
		p := w.timeout(timeout.Config{Limit: time.Second, Observer: observe(func() { panic(errBoom) })})
		w.later(time.Second)
		if err := w.run(w.t.Context(), p, echo); !errors.Is(err, timeout.ErrExceeded) {
			w.t.Errorf("error %v", err)
		}
	})
}

func TestGoexitInTheObserverCountsOnceAndReleasesTheContext(t *testing.T) {
	everywhere(t, func(w *world) {
		p := w.timeout(timeout.Config{Limit: time.Second, Observer: observe(func() { abort(true) })})
		w.later(time.Second)
		e := unwind(func() error { return w.run(w.t.Context(), p, echo) })
		if !e.goexit {
			w.t.Errorf("ended with %+v", e)
		}
		wantStats(w.t, p, timeout.Stats{Calls: 1, Exceeded: 1})
	})
}

type observe func()

func (o observe) Observe(context.Context, resilience.Event) { o() }

func TestAnAnswerAndTheEndAtTheInstantOfTheLimit(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			p := must(t, timeout.Config{Limit: time.Second, Until: resilience.Answered})
			op := start(t, t.Context(), p, &lasting{mute: true})
			go func() { time.Sleep(time.Second); op.Answer(op.run) }()
			time.Sleep(time.Second)
			op.end(nil)
			synctest.Wait()
			if s := p.Stats(); s.Exceeded != 0 || s.Late > 1 {
				t.Errorf("counted %+v", s)
			}
		})
	}
}
