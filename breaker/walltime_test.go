package breaker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/internal/testkit"
)

// jumps are how far the wall time jumps when a machine was suspended or its clock was set.
var jumps = map[string]time.Duration{"forward": 8 * time.Hour, "back": -8 * time.Hour}

// jumpRig is a breaker that is open for ten minutes, on a clock whose wall time can jump.
type jumpRig struct {
	*breaker.Breaker
	t      *testing.T
	hands  *testkit.JumpClock
	events []resilience.Event
}

func newJumpRig(t *testing.T) *jumpRig {
	r := &jumpRig{t: t, hands: testkit.NewJumpClock()}
	r.Breaker = resilience.Must(breaker.New(breaker.Config{
		Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: 10 * time.Minute, Clock: r.hands,
		Observer: testkit.Observer(func(e resilience.Event) { r.events = append(r.events, e) }),
	}))
	return r
}

// run calls the breaker with an operation that returns err.
func (r *jumpRig) run(err error) error {
	return resilience.Run(r.t.Context(), r.Breaker, func(context.Context) error { return err })
}

// near fails unless got is want by wall time, within a second.
func (r *jumpRig) near(what string, got, want time.Time) {
	r.t.Helper()
	if off := got.Round(0).Sub(want.Round(0)); off.Abs() > time.Second {
		r.t.Errorf("%s is %v, wrong by %v", what, got, off)
	}
}

// All times of a transition are wall time, also after that has jumped.
func TestBreaker_timesAfterJump(t *testing.T) {
	for name, jump := range jumps {
		t.Run(name, func(t *testing.T) {
			r := newJumpRig(t)
			r.hands.Jump(jump)
			_ = r.run(errDown)
			rejection, ok := errors.AsType[*resilience.Rejection](r.run(nil))
			if !ok {
				t.Fatal("not rejected")
			}
			now, s, x := r.hands.Now(), r.Stats(), r.Explain()
			end := now.Add(10 * time.Minute)
			r.near("Rejection.RetryAt", rejection.RetryAt, end)
			r.near("Stats.RetryAt", s.RetryAt, end)
			r.near("Stats.Since", s.Since, now)
			r.near("Event.Time", r.events[0].Time, now)
			r.near("Explanation.Time", x.Time, now)
			r.near("Began", x.Began.Time, now)
			r.near("History", x.History[0].Time, now)
		})
	}
}

// After a jump during OPEN, its beginning stays and its end is right by the new wall time.
func TestBreaker_jumpInOpen(t *testing.T) {
	for name, jump := range jumps {
		t.Run(name, func(t *testing.T) {
			r := newJumpRig(t)
			_ = r.run(errDown)
			opened := r.hands.Now()
			r.hands.Jump(jump)
			now, s, x := r.hands.Now(), r.Stats(), r.Explain()
			r.near("Stats.Since", s.Since, opened)
			r.near("History", x.History[0].Time, opened)
			r.near("Stats.RetryAt", s.RetryAt, now.Add(10*time.Minute))
			err := r.run(nil)
			rejection, ok := errors.AsType[*resilience.Rejection](err)
			if !ok {
				t.Fatal("not rejected")
			}
			if wait := time.Until(rejection.RetryAt); wait < 9*time.Minute || wait > 10*time.Minute {
				t.Errorf("RetryAt is in %v", wait)
			}
			if !strings.Contains(err.Error(), "retry in 10m0s") && !strings.Contains(err.Error(), "retry in 9m5") {
				t.Errorf("got %v", err)
			}
			if !strings.HasPrefix(x.Next(), "rejects every call for another 10m0s") && !strings.HasPrefix(x.Next(), "rejects every call for another 9m5") {
				t.Errorf("next: %s", x.Next())
			}
		})
	}
}

// The age of a state includes a suspend, and is right after the clock was set back.
func TestExplain_ageAfterJump(t *testing.T) {
	for name, tt := range map[string]struct{ open, began string }{
		"forward": {"8h0m0s", "8h10m0s"},
		"back":    {"3s", "10m3s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newJumpRig(t)
				_ = r.run(errDown)
				time.Sleep(3 * time.Second)
				r.hands.Jump(jumps[name])
				if got := r.Explain().String(); !strings.Contains(got, "OPEN for "+tt.open+", since ") {
					t.Errorf("got %s", got)
				}
				time.Sleep(10 * time.Minute)
				_ = r.run(nil) // the probe
				if got := r.Explain().Why(); !strings.Contains(got, "it opened "+tt.began+" ago") {
					t.Errorf("got %s", got)
				}
			})
		})
	}
}

// Until a call is made after OPEN, the beginning of HALF_OPEN follows the beginning of OPEN.
func TestStats_sinceOfOpenTimeOver(t *testing.T) {
	for name, jump := range jumps {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newJumpRig(t)
				_ = r.run(errDown)
				opened := r.hands.Now()
				time.Sleep(time.Hour)
				r.hands.Jump(jump)
				if s := r.Stats(); s.State != breaker.HalfOpen {
					t.Errorf("state %v", s.State)
				}
				r.near("Since", r.Stats().Since, opened.Add(10*time.Minute))
			})
		})
	}
}
