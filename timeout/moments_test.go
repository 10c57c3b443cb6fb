package timeout_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/resiliencetest"
	"github.com/resilience-go/resilience/timeout"
)

// course is what an operation does under a timeout of a second.
type course struct {
	answers, ends time.Duration // since its start; it answers inside Run
	err           error         // at its end
}

// follow runs an operation with the course under p to its end. It returns the operation's
// context, and whether the timeout had ended it just before the operation ended.
func (w *world) follow(p *timeout.Timeout, c course) (ctx context.Context, cut bool) {
	see := func(opCtx context.Context) {
		ctx, cut = opCtx, errors.Is(context.Cause(opCtx), timeout.ErrExceeded)
	}
	if !w.mode.lasting {
		_ = resilience.Run(w.t.Context(), p, func(ctx context.Context) error {
			w.pass(c.ends)
			see(ctx)
			return c.err
		})
		return ctx, cut
	}
	op := start(w.t, w.t.Context(), p, &testkit.Lasting{Func: func(context.Context) error { w.pass(c.answers); return nil }})
	w.pass(c.ends - c.answers)
	see(op.Ctx)
	op.Finish(c.err)
	return ctx, cut
}

// Until decides what the timeout applies to and what is counted.
func TestConfig_Until(t *testing.T) {
	const before, after = 900 * time.Millisecond, time.Minute
	type result struct {
		cut            bool
		exceeded, late uint64
	}
	free, late, exceeded := result{}, result{cut: true, late: 1}, result{cut: true, exceeded: 1}
	for name, test := range map[string]struct {
		course
		answered, ended result // a Lasting operation's, until Answered and until Ended
		plain           result // a plain operation's, whose moments are one
	}{
		"ends in time":                    {course{before, before, nil}, free, free, free},
		"fails in time":                   {course{before, before, errBoom}, free, free, free},
		"answers in time, ends late":      {course{before, after, nil}, free, late, late},
		"answers in time, fails late":     {course{before, after, errBoom}, free, exceeded, exceeded},
		"answers late":                    {course{after, after, nil}, late, late, late},
		"answers late, and ends later":    {course{after, 2 * after, nil}, late, late, late},
		"answers late, and fails at once": {course{after, after, errBoom}, late, exceeded, exceeded},
	} {
		for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
			t.Run(fmt.Sprint(name, "/until ", until), func(t *testing.T) {
				everywhere(t, func(w *world) {
					p := w.timeout(timeout.Config{Timeout: time.Second, Until: until})
					ctx, cut := w.follow(p, test.course)
					want := test.plain
					if w.mode.lasting {
						want = map[resilience.Moment]result{resilience.Answered: test.answered, resilience.Ended: test.ended}[until]
					}
					if cut != want.cut {
						w.t.Errorf("cut off: %v, want %v", cut, want.cut)
					}
					wantStats(w.t, p, timeout.Stats{Calls: 1, Exceeded: want.exceeded, Late: want.late})
					if _, ok := ctx.Deadline(); ok != (!w.mode.mock && (until == resilience.Ended || !w.mode.lasting)) {
						w.t.Errorf("has a deadline: %v", ok)
					}
					if ctx.Err() == nil {
						w.t.Error("the context is not released")
					}
				})
			})
		}
	}
}

// An operation that panics or exits after the timeout counts as exceeded.
func TestTimeout_unwindsLate(t *testing.T) {
	for _, how := range testkit.Aborts(errBoom) {
		for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
			everywhere(t, func(w *world) {
				rec := &resiliencetest.Recorder{}
				p := w.timeout(timeout.Config{Timeout: time.Second, Until: until, Observer: rec})
				if e := testkit.Unwind(func() error {
					return w.run(w.t.Context(), p, func(context.Context) error {
						w.pass(time.Second)
						how.Abort()
						return nil
					})
				}); e != how {
					w.t.Errorf("ended with %+v", e)
				}
				wantStats(w.t, p, timeout.Stats{Calls: 1, Exceeded: 1})
				if e := rec.Events(); len(e) != 1 || e[0].Err != resilience.ErrAborted {
					w.t.Errorf("observed %+v", e)
				}
			})
		}
	}
}

// A panic or Goexit stops the timer.
func TestTimeout_unwinds_stopsTimer(t *testing.T) {
	for _, how := range testkit.Aborts(errBoom) {
		for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
			mock := clock.NewMock()
			p := must(t, timeout.Config{Timeout: time.Second, Until: until, Clock: mock})
			testkit.Unwind(func() error {
				return resilience.Run(t.Context(), p, func(context.Context) error { how.Abort(); return nil })
			})
			if at := mock.WaitForAllTimers(); !at.Equal(time.Unix(0, 0)) {
				t.Errorf("until %v, %+v: a timer is left until %v", until, how, at)
			}
		}
	}
}

// late is a clock whose timers fire when the test calls fire, even if they were stopped.
// The function of a real timer can be running at the instant of the stop.
type late struct {
	*clock.Mock
	fire func()
}

func (l *late) AfterFunc(d time.Duration, f func()) *clock.Timer {
	l.fire = f
	return l.Mock.AfterFunc(d, func() {})
}

// If the timer fires at the instant of the answer, only a failure at the end counts.
func TestTimeout_timerAtAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		end  error
		want timeout.Stats
	}{
		"ends well, as it answered in time": {nil, timeout.Stats{Calls: 1}},
		"fails, canceled by the timeout":    {context.Canceled, timeout.Stats{Calls: 1, Exceeded: 1}},
		"fails by itself at that instant":   {errBoom, timeout.Stats{Calls: 1, Exceeded: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			c := &late{Mock: clock.NewMock()}
			p := must(t, timeout.Config{Timeout: time.Second, Until: resilience.Answered, Clock: c})
			op := start(t, t.Context(), p, &testkit.Lasting{})
			c.fire()
			op.Finish(test.end)
			wantStats(t, p, test.want)
		})
	}
}

// Until Answered, a plain operation that fails at the context's deadline is timed out.
func TestTimeout_answered_ownDeadline(t *testing.T) {
	for range 100 { // at one instant the context and the operation end in any order
		synctest.Test(t, func(t *testing.T) {
			p := must(t, timeout.Config{Timeout: time.Second, Until: resilience.Answered})
			err := resilience.Run(t.Context(), p, func(ctx context.Context) error {
				deadline, _ := ctx.Deadline()
				time.Sleep(time.Until(deadline))
				return errBoom
			})
			if !errors.Is(err, timeout.ErrExceeded) || !errors.Is(err, errBoom) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// slow is a context that ends after its deadline, as a real one may by a moment.
type slow struct {
	context.Context
	deadline time.Time
}

func (s slow) Deadline() (time.Time, bool) { return s.deadline, true }

// The caller's deadline after the answer does not count as the timeout.
func TestTimeout_answered_callerDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := must(t, timeout.Config{Timeout: time.Second, Until: resilience.Answered})
		op := start(t, slow{t.Context(), time.Now().Add(time.Minute)}, p, &testkit.Lasting{})
		time.Sleep(time.Minute)
		op.Finish(errBoom)
		wantStats(t, p, timeout.Stats{Calls: 1})
	})
}

// The event has the operation's error.
func TestTimeout_event_Err(t *testing.T) {
	everywhere(t, func(w *world) {
		rec := &resiliencetest.Recorder{}
		p := w.timeout(timeout.Config{Timeout: time.Second, Observer: rec})
		_ = w.run(w.t.Context(), p, func(context.Context) error { w.pass(time.Second); return errBoom })
		if e := rec.Events(); len(e) != 1 || e[0].Err != errBoom {
			w.t.Errorf("observed %+v", e)
		}
	})
}

// A timeout without a unit is an error that names the field and what to change.
func TestNew_noUnit(t *testing.T) {
	for _, d := range []time.Duration{1, 10, 999} {
		p, err := timeout.New(timeout.Config{Name: "users", Timeout: d})
		want := fmt.Sprintf("timeout \"users\": Config.Timeout is %v: must be at least 1µs; a time.Duration counts nanoseconds, so write a unit, as in %d*time.Millisecond", d, int(d))
		if p != nil || err == nil || err.Error() != want {
			t.Errorf("New returned %v, %v; want %s", p, err, want)
		}
	}
	must(t, timeout.Config{Timeout: time.Microsecond})
	must(t, timeout.Config{Timeout: 10, Clock: clock.NewMock()}) // a Clock's time may have any unit
}
