package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/timeout"
)

var errTimeout = fmt.Errorf("read: %w", os.ErrDeadlineExceeded)

// defaultHalfOpen returns a breaker with the default rule in HALF_OPEN with that credit.
func defaultHalfOpen(t *testing.T, credit int) *rig {
	t.Helper()
	r := newRig(t, breaker.Config{})
	r.silence(7, time.Second)
	r.openTime()
	for range credit - 1 {
		_ = r.run(nil)
	}
	r.wantCredit(credit)
	return r
}

func (r *rig) wantCredit(credit int) {
	r.t.Helper()
	r.want(breaker.HalfOpen)
	if s := r.Stats(); s.Credit != credit || s.InFlight != 0 {
		r.t.Fatalf("credit %d, in flight %d, want a credit of %d", s.Credit, s.InFlight, credit)
	}
}

// TestHalfOpen_firstProbeFails: the first failure of HALF_OPEN opens, timeout or not, and
// however large the numbers of the rule are.
func TestHalfOpen_firstProbeFails(t *testing.T) {
	for _, err := range []error{errDown, errTimeout} {
		r := defaultHalfOpen(t, 1)
		_ = r.run(resilience.Ignore(errDown)) // which is no success
		_ = r.run(err)
		r.want(breaker.Open)
		if e := r.seen[len(r.seen)-1]; e.Reason != breaker.CauseProbeFailed || e.Failures != 1 {
			t.Errorf("event %+v", e)
		}
	}
}

// TestHalfOpen_quickFailures: after the first success, quick failures take no credit. They
// open when the rule of Trip holds, and the event has the rule and its counts.
func TestHalfOpen_quickFailures(t *testing.T) {
	r := defaultHalfOpen(t, 2)
	r.silence(6, 900*time.Millisecond) // too few, and too quickly
	r.wantCredit(2)
	_ = r.run(nil)
	r.silence(1000, 999*time.Millisecond) // too quickly
	r.wantCredit(3)
	_ = r.run(nil)
	r.clock.add(9 * time.Second)
	r.silence(6, 8*time.Second) // too few
	r.wantCredit(4)
	if s := r.Stats(); s.FailuresInARow != 6 {
		t.Errorf("%d failures in a row", s.FailuresInARow)
	}
	_ = r.run(errDown)
	r.want(breaker.Open)
	e := r.seen[len(r.seen)-1]
	if e.From != "HALF_OPEN" || e.Reason != "Silence{Failures: 7, Span: time.Second}" || e.Failures != 7 || e.Calls != 0 || e.Err != errDown {
		t.Errorf("event %+v", e)
	}
	within(t, "open time", r.openTime(), 250*time.Millisecond) // 1/32 of the run
	want := breaker.TransitionCount{From: breaker.HalfOpen, To: breaker.Open, Rule: e.Reason, Count: 1}
	if got := r.Transitions(); !slices.Contains(got, want) {
		t.Errorf("counted %+v", got)
	}
}

// TestTransitions_rulesOfHalfOpen: the transitions have the rules that can open HALF_OPEN, each
// once.
func TestTransitions_rulesOfHalfOpen(t *testing.T) {
	two := breaker.Consecutive{Failures: 2}
	for _, tt := range []struct {
		config breaker.Config
		want   int
	}{
		{breaker.Config{}, 1},
		{breaker.Config{Trip: []breaker.Rule{two, breaker.Consecutive{Failures: 3}, two}}, 2},
		{breaker.Config{CloseAfter: 2}, 1},
		{breaker.Config{CloseAfter: 1}, 0}, // the first success closes
		{breaker.Config{Trip: []breaker.Rule{two, breaker.Rate{Failures: 1, Of: 2}}, OpenFor: time.Second}, 0},
	} {
		r, rules := newRig(t, tt.config), 0
		for _, c := range r.Transitions() {
			if c.From == breaker.HalfOpen && c.To == breaker.Open && c.Rule != breaker.CauseProbeFailed && c.Rule != breaker.CauseSetMode {
				rules++
			}
		}
		if rules != tt.want {
			t.Errorf("%+v: %d rules open HALF_OPEN, want %d", tt.config, rules, tt.want)
		}
	}
}

// TestHalfOpen_runsOfClosed: failures before HALF_OPEN are not part of a run in it, and
// failures in it are not part of a run after it.
func TestHalfOpen_runsOfClosed(t *testing.T) {
	r := defaultHalfOpen(t, 64)
	r.silence(6, time.Second)
	h := r.permit()
	_ = r.run(nil) // closes
	r.want(breaker.Closed)
	h.Done(errDown)
	if s := r.Stats(); s.FailuresInARow != 0 {
		t.Errorf("%d failures in a row", s.FailuresInARow)
	}
}

// TestHalfOpen_timeouts: after the first success, a rule holds however quickly its failures came
// if they are as many as may be in flight and the last of them is a timeout.
func TestHalfOpen_timeouts(t *testing.T) {
	for _, tt := range []struct {
		credit, quick, timeouts int // failures that are no timeouts, and then timeouts
		want                    breaker.State
	}{
		{2, 0, 6, breaker.HalfOpen}, // too few for the rule
		{2, 0, 7, breaker.Open},
		{2, 6, 1, breaker.Open},
		{2, 1000, 0, breaker.HalfOpen}, // something answers
		{7, 0, 7, breaker.Open},
		{8, 0, 7, breaker.HalfOpen}, // another call may be in flight
		{8, 0, 8, breaker.Open},
		{60, 0, 59, breaker.HalfOpen},
		{60, 0, 60, breaker.Open},
	} {
		r := defaultHalfOpen(t, tt.credit)
		for range tt.quick {
			_ = r.run(errDown)
		}
		for range tt.timeouts {
			r.wantCredit(tt.credit)
			_ = r.run(errTimeout)
		}
		if r.want(tt.want); tt.want == breaker.HalfOpen {
			continue
		}
		e := r.seen[len(r.seen)-1]
		if n := tt.quick + tt.timeouts; e.Reason != "Silence{Failures: 7, Span: time.Second}" || e.Failures != n || e.Err != errTimeout {
			t.Errorf("%+v: event %+v", tt, e)
		}
		within(t, "open time", r.openTime(), 50*time.Millisecond) // the failures show no long silence
	}
}

// TestHalfOpen_successEndsRun: a success starts the count of the timeouts again. A call that is
// ignored does not.
func TestHalfOpen_successEndsRun(t *testing.T) {
	r := defaultHalfOpen(t, 2)
	for range 6 {
		_ = r.run(errTimeout)
	}
	_ = r.run(nil)
	for range 6 {
		_ = r.run(errTimeout)
	}
	_ = r.run(resilience.Ignore(errDown))
	r.wantCredit(3)
	_ = r.run(errTimeout)
	r.want(breaker.Open)
}

// TestHalfOpen_admittedBeforeSuccess: a failure of a call that was admitted before the last success
// does not count, so calls that hang beside others that succeed do not look like a run when they
// time out together.
func TestHalfOpen_admittedBeforeSuccess(t *testing.T) {
	r := defaultHalfOpen(t, 9)
	var hung []*held
	for range 8 {
		hung = append(hung, r.start(t.Context()))
	}
	_ = r.run(nil)
	late := r.start(t.Context())
	for i, h := range hung {
		_ = h.finish([]error{errTimeout, errDown}[i%2])
		r.clock.add(time.Second)
	}
	if s := r.Stats(); s.FailuresInARow != 0 || s.ProbesFailed != 8 || s.Credit != 10 || s.InFlight != 1 {
		t.Fatalf("%+v", s)
	}
	_ = late.finish(errTimeout)
	if s := r.Stats(); s.FailuresInARow != 1 {
		t.Errorf("%d failures in a row after one of a later call", s.FailuresInARow)
	}
	r.silence(6, time.Second)
	r.want(breaker.Open)
}

// TestHalfOpen_timeoutsCountForRule: timeouts and other failures are one run for the rule.
func TestHalfOpen_timeoutsCountForRule(t *testing.T) {
	r := defaultHalfOpen(t, 60)
	for i := range 7 {
		r.wantCredit(60)
		r.clock.add(time.Second)
		_ = r.run([]error{errDown, errTimeout}[i%2])
	}
	r.want(breaker.Open)
	if e := r.seen[len(r.seen)-1]; e.Failures != 7 || e.Reason == breaker.CauseProbeFailed {
		t.Errorf("event %+v", e)
	}
}

// A timeouter is an error with a method Timeout.
type timeouter struct{ timeout bool }

func (timeouter) Error() string   { return "timeouter" }
func (t timeouter) Timeout() bool { return t.timeout }

// TestHalfOpen_whatIsATimeout: a timeout is an error that says so, context.DeadlineExceeded,
// or any failure of a call whose context a timeout has ended.
func TestHalfOpen_whatIsATimeout(t *testing.T) {
	attempt := resilience.Must(timeout.New(timeout.Config{Timeout: time.Millisecond}))
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	returns := func(err error) func(*rig) {
		return func(r *rig) { _ = r.run(err) }
	}
	for name, tt := range map[string]struct {
		call func(*rig)
		want bool
	}{
		"plain error":              {returns(errDown), false},
		"Timeout false":            {returns(fmt.Errorf("wrapped: %w", timeouter{false})), false},
		"Timeout true":             {returns(fmt.Errorf("wrapped: %w", timeouter{true})), true},
		"Timeout true, joined":     {returns(errors.Join(errDown, timeouter{true})), true},
		"net.Error":                {returns(&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}), true},
		"context.DeadlineExceeded": {returns(fmt.Errorf("wrapped: %w", context.DeadlineExceeded)), true},
		"DeadlineExceeded below an error whose Timeout is false": {
			returns(errors.Join(timeouter{false}, context.DeadlineExceeded)), true,
		},
		"timeout inside": {func(r *rig) {
			_ = resilience.Run(r.t.Context(), resilience.Compose(r.Breaker, attempt), hang)
		}, true},
		"timeout outside": {func(r *rig) {
			_ = resilience.Run(r.t.Context(), resilience.Compose(attempt, r.Breaker), hang)
		}, true},
		"timeout outside, other error": {func(r *rig) {
			_ = resilience.Run(r.t.Context(), resilience.Compose(attempt, r.Breaker), func(ctx context.Context) error {
				<-ctx.Done()
				return errDown
			})
		}, true},
		"deadline of the caller": {func(r *rig) {
			ctx, cancel := context.WithTimeout(r.t.Context(), time.Millisecond)
			defer cancel()
			_ = resilience.Run(ctx, r.Breaker, func(ctx context.Context) error { <-ctx.Done(); return errDown })
		}, true},
		"timeout of a lasting operation": {func(r *rig) { r.begin(false)(errTimeout) }, true},
		"failure of a lasting operation": {func(r *rig) { r.begin(false)(errDown) }, false},
		"permit":                         {func(r *rig) { r.permit().Done(errTimeout) }, true},
		"panic": {func(r *rig) {
			_ = testkit.Unwind(func() error { return r.runFunc(func() error { panic(1) }) })
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := defaultHalfOpen(t, 7)
			for range 6 {
				_ = r.run(errDown)
			}
			tt.call(r)
			if s := r.Stats(); s.FailuresInARow != 7 && !tt.want {
				t.Errorf("%d failures in a row", s.FailuresInARow)
			}
			r.want(map[bool]breaker.State{false: breaker.HalfOpen, true: breaker.Open}[tt.want])
		})
	}
}

// An unwinding error runs a function when its method Timeout is called.
type unwinding struct{ unwind func() bool }

func (unwinding) Error() string   { return "unwinding" }
func (u unwinding) Timeout() bool { return u.unwind() }

// TestHalfOpen_timeoutMethod: a method Timeout may call the breaker, panic or exit. It runs
// before the slot is free, and the call is a failure.
func TestHalfOpen_timeoutMethod(t *testing.T) {
	for name, how := range testkit.Aborts("angry") {
		t.Run(name, func(t *testing.T) {
			r := defaultHalfOpen(t, 2)
			_ = testkit.Unwind(func() error {
				return r.run(unwinding{func() bool {
					if s := r.Stats(); s.InFlight != 1 || s.FailuresInARow != 0 || s.Credit != 2 {
						t.Errorf("something has changed: %+v", s)
					}
					how.Abort()
					return true
				}})
			})
			if s := r.Stats(); s.FailuresInARow != 1 || s.ProbesFailed != 1 {
				t.Errorf("%+v", s)
			}
			r.wantCredit(2)
		})
	}
}

// TestHalfOpen_otherRules: if a rule of Trip counts more than failures in a row, the k-th
// failure in a row takes k, and no rule opens HALF_OPEN.
func TestHalfOpen_otherRules(t *testing.T) {
	r := newRig(t, breaker.Config{
		Trip:    []breaker.Rule{breaker.Consecutive{Failures: 3}, breaker.Rate{Failures: 50, Of: 100}},
		OpenFor: time.Second,
	})
	r.trip()
	r.clock.add(time.Second)
	for range 9 {
		_ = r.run(nil)
	}
	for _, want := range []int{9, 7, 4} {
		_ = r.run(errDown)
		r.wantCredit(want)
	}
	if got := r.Rules(); got != nil {
		t.Errorf("the rules have counted %+v", got)
	}
	_ = r.run(errDown)
	r.want(breaker.Open)
	if e := r.seen[len(r.seen)-1]; e.Reason != breaker.CauseProbeFailed || e.Failures != 4 {
		t.Errorf("event %+v", e)
	}
}

// TestHalfOpen_severalRules: any of several rules that count failures in a row opens.
func TestHalfOpen_severalRules(t *testing.T) {
	rules := []breaker.Rule{breaker.Silence{Failures: 3, Span: time.Second}, breaker.Consecutive{Failures: 5}}
	for want, span := range map[breaker.Rule]time.Duration{rules[0]: time.Second, rules[1]: 0} {
		r := newRig(t, breaker.Config{Trip: rules})
		r.trip()
		r.openTime()
		_ = r.run(nil)
		for r.State() == breaker.HalfOpen {
			r.clock.add(span / 2)
			_ = r.run(errDown)
		}
		if e := r.seen[len(r.seen)-1]; e.Reason != want.String() {
			t.Errorf("event %+v, want %v", e, want)
		}
	}
}

// TestHalfOpen_oldRun: after ten seconds without a failure and without a call in flight, a
// run of failures in HALF_OPEN is no evidence.
func TestHalfOpen_oldRun(t *testing.T) {
	for pause, want := range map[time.Duration]breaker.State{
		10*time.Second - time.Millisecond: breaker.Open,
		10 * time.Second:                  breaker.HalfOpen,
	} {
		r := defaultHalfOpen(t, 2)
		for range 3 {
			_, _ = r.run(errDown), r.run(errTimeout)
		}
		r.clock.add(pause)
		if s, n := r.Stats(), map[breaker.State]int{breaker.Open: 6}[want]; s.FailuresInARow != n || r.Rules()[0].Hits != n {
			t.Errorf("after %v: %d failures in a row, of the rule %+v, want %d", pause, s.FailuresInARow, r.Rules(), n)
		}
		_ = r.run(resilience.Ignore(errDown))
		_ = r.run(errTimeout)
		r.want(want)
		if s := r.Stats(); want == breaker.HalfOpen && s.FailuresInARow != 1 {
			t.Errorf("%d failures in a row", s.FailuresInARow)
		}
	}
}

// TestHalfOpen_callInFlight: while a probe is in flight, the run does not become old. A probe
// whose lease has ended is not in flight.
func TestHalfOpen_callInFlight(t *testing.T) {
	r := defaultHalfOpen(t, 2)
	r.silence(6, time.Second)
	p, q := r.permit(), r.permit()
	r.clock.add(14 * time.Second)
	p.Done(resilience.Ignore(errDown))
	q.Done(resilience.Ignore(errDown))
	r.clock.add(9 * time.Second)
	r.permit().Cancel()
	if s := r.Stats(); s.FailuresInARow != 6 {
		t.Errorf("%d failures in a row", s.FailuresInARow)
	}
	r.clock.add(time.Second)
	if s := r.Stats(); s.FailuresInARow != 0 {
		t.Errorf("%d failures in a row in an old run", s.FailuresInARow)
	}
	r.silence(6, time.Second)
	_, _ = r.permit(), r.permit()
	r.clock.add(20 * time.Second)
	r.permit().Cancel() // takes the slot of a lease that has ended
	r.clock.add(10 * time.Second)
	_ = r.run(errDown)
	r.wantCredit(2)
}

// TestHalfOpen_runClockSetBack: a clock that is set back restarts the time of a run in
// HALF_OPEN and not its number.
func TestHalfOpen_runClockSetBack(t *testing.T) {
	r := defaultHalfOpen(t, 2)
	r.clock.add(time.Hour)
	r.silence(6, time.Second)
	r.clock.add(-30 * time.Minute)
	_ = r.run(errDown)
	r.wantCredit(2)
	r.clock.add(time.Second)
	_ = r.run(errDown)
	r.want(breaker.Open)
}

// TestHalfOpen_halfFailing: with half of the calls failing at once, HALF_OPEN closes.
func TestHalfOpen_halfFailing(t *testing.T) {
	for seed := range uint64(20) {
		r := defaultHalfOpen(t, 2)
		r.drive(seeded(seed), 20*time.Millisecond, 10*time.Second, 0.5)
		if r.want(breaker.Closed); r.Stats().Opened != 1 {
			t.Errorf("seed %d: opened %d times", seed, r.Stats().Opened)
		}
	}
}

// TestHalfOpen_fewCallsFailing: with a call a second and every one failing, HALF_OPEN opens
// within 10 s of its first success.
func TestHalfOpen_fewCallsFailing(t *testing.T) {
	r := defaultHalfOpen(t, 2)
	r.drive(seeded(0), time.Second, 10*time.Second, 1)
	if s := r.Stats(); s.Opened < 2 {
		t.Errorf("opened %d times", s.Opened)
	}
}

// TestHalfOpen_modeEndsRun: a change of the mode keeps the credit and no failures.
func TestHalfOpen_modeEndsRun(t *testing.T) {
	r := defaultHalfOpen(t, 7)
	for range 6 {
		_ = r.run(errTimeout)
	}
	r.SetMode(breaker.MetricsOnly)
	r.SetMode(breaker.Auto)
	if s := r.Stats(); s.FailuresInARow != 0 {
		t.Errorf("%d failures in a row", s.FailuresInARow)
	}
	_ = r.run(errTimeout)
	r.wantCredit(7) // the success before the change counts: no failure takes credit
}
