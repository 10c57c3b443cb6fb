package vclock_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/internal/vclock"
)

// Nanos counts from construction, by the Clock or in real time.
func TestClock_Nanos(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mock := clock.NewMock()
		mock.Add(time.Hour)
		faked, actual := vclock.New(mock), vclock.New(nil)
		time.Sleep(time.Second)
		mock.Set(mock.Now().Add(2 * time.Second))
		if n := faked.Nanos(); n != 2e9 {
			t.Errorf("a Clock has %d", n)
		}
		if n := actual.Nanos(); n < 1e9 || n > 1.1e9 { // the mock sleeps a little as it moves
			t.Errorf("real time has %d", n)
		}
		if faked.Real() || !actual.Real() {
			t.Error("Real is wrong")
		}
	})
}

// Nanos is never negative, even if the clock was set back.
func TestClock_Nanos_setBack(t *testing.T) {
	mock := clock.NewMock()
	mock.Set(time.Unix(1e9, 0))
	c := vclock.New(mock)
	for _, back := range []time.Duration{1, time.Second, 1e9 * time.Second} {
		mock.Set(time.Unix(1e9, 0).Add(-back))
		if n := c.Nanos(); n != 0 {
			t.Errorf("%v back: %d", back, n)
		}
	}
}

// At returns the time at which Nanos returned n.
func TestClock_At(t *testing.T) {
	mock := clock.NewMock()
	c := vclock.New(mock)
	mock.Add(time.Minute)
	if at := c.At(c.Nanos()); !at.Equal(c.Now()) || !at.Equal(mock.Now()) {
		t.Errorf("At is %v at %v", at, c.Now())
	}
}

// At is right by the present wall time after a jump, for times before and after now.
func TestClock_At_afterJump(t *testing.T) {
	for _, jump := range []time.Duration{8 * time.Hour, -8 * time.Hour} {
		hands := testkit.NewJumpClock()
		c := vclock.New(hands)
		hands.Jump(jump)
		for _, d := range []time.Duration{0, time.Minute, -time.Minute} {
			at, now := c.At(c.Nanos()+int64(d)), hands.Now()
			if wall := at.Round(0).Sub(now.Round(0)); wall > d || wall < d-time.Second {
				t.Errorf("jump of %v: %v from now is in %v by wall time", jump, d, wall)
			}
			if until := time.Until(at); until > d || until < d-time.Second {
				t.Errorf("jump of %v: %v from now is in %v", jump, d, until)
			}
		}
	}
}

// At of Nanos is now, even if the clock was set back to before its construction.
func TestClock_At_setBack(t *testing.T) {
	mock := clock.NewMock()
	mock.Set(time.Unix(1e9, 0))
	c := vclock.New(mock)
	mock.Set(time.Unix(1e8, 0))
	if at := c.At(c.Nanos()); !at.Equal(mock.Now()) {
		t.Errorf("At is %v at %v", at, mock.Now())
	}
}

// Age is the longer of wall time and monotonic time, and never negative.
func TestAge_jump(t *testing.T) {
	for jump, want := range map[time.Duration]time.Duration{0: 0, 8 * time.Hour: 8 * time.Hour, -8 * time.Hour: 0} {
		hands := testkit.NewJumpClock()
		then := hands.Now()
		hands.Jump(jump)
		later := hands.Now().Add(time.Minute)
		if age := vclock.Age(then, later) - want - time.Minute; age < 0 || age > time.Second {
			t.Errorf("a jump of %v makes the age wrong by %v", jump, age)
		}
	}
	then := time.Unix(1e9, 0) // without a monotonic reading
	for d, want := range map[time.Duration]time.Duration{time.Hour: time.Hour, -time.Hour: 0} {
		if age := vclock.Age(then, then.Add(d)); age != want {
			t.Errorf("age %v after %v", age, d)
		}
	}
}

// Wait waits for exactly the duration.
func TestClock_Wait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := vclock.New(nil)
		for _, d := range []time.Duration{-time.Hour, 0, 1, time.Hour} {
			start := time.Now()
			if !c.Wait(t.Context(), d) {
				t.Errorf("%v: false", d)
			}
			if took := time.Since(start); took != max(0, d) {
				t.Errorf("%v: took %v", d, took)
			}
		}
	})
}

// Wait returns at once when the context ends.
func TestClock_Wait_canceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]vclock.Clock{"real": vclock.New(nil), "mock": vclock.New(clock.NewMock())} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			start := time.Now()
			if c.Wait(ctx, time.Hour) {
				t.Errorf("%s: true", name)
			}
			if took := time.Since(start); took > 1100*time.Millisecond {
				t.Errorf("%s: took %v", name, took)
			}
		}
	})
}

// Wait returns false if the context is already done.
func TestClock_Wait_contextDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := vclock.New(nil)
	for _, d := range []time.Duration{-1, 0, time.Hour} {
		if c.Wait(ctx, d) {
			t.Errorf("%v: true", d)
		}
	}
}

// Wait returns false if the context ends at the instant the timer fires.
func TestClock_Wait_sameInstant(t *testing.T) {
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		c := vclock.New(testkit.InstantClock{Mock: clock.NewMock(), OnTimer: cancel})
		if c.Wait(ctx, time.Second) {
			t.Fatal("true")
		}
	}
}

// A canceled Wait leaves no timer in a mock clock.
func TestClock_Wait_noTimerLeft(t *testing.T) {
	mock := clock.NewMock()
	ctx, cancel := context.WithCancel(t.Context())
	c := vclock.New(cancelling{mock, cancel})
	if c.Wait(ctx, time.Hour) {
		t.Error("true")
	}
	if left := mock.WaitForAllTimers(); !left.Equal(time.Unix(0, 0)) {
		t.Errorf("a timer is left until %v", left)
	}
}

// cancelling is a clock that cancels a context when it makes a timer.
type cancelling struct {
	*clock.Mock
	cancel func()
}

func (c cancelling) Timer(d time.Duration) *clock.Timer {
	defer c.cancel()
	return c.Mock.Timer(d)
}

// AfterFunc calls the function unless it is stopped before.
func TestClock_AfterFunc(t *testing.T) {
	for name, mocked := range map[string]bool{"real": false, "mock": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, pass := vclock.New(nil), time.Sleep
				if mocked {
					mock := clock.NewMock()
					c, pass = vclock.New(mock), mock.Add
				}
				called := 0
				stop := c.AfterFunc(time.Second, func() { called++ })
				pass(2 * time.Second)
				synctest.Wait()
				if called != 1 || stop() {
					t.Errorf("called %d times, or stopped too late", called)
				}
				stop = c.AfterFunc(time.Second, func() { called++ })
				if !stop() {
					t.Error("not stopped in time")
				}
				pass(2 * time.Second)
				synctest.Wait()
				if called != 1 {
					t.Error("called though stopped")
				}
			})
		})
	}
}
