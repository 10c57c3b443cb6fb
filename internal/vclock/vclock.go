// Package vclock has the time that policies use: nanoseconds since a policy was made, by
// the Clock of its Config or by the real clock.
package vclock

import (
	"context"
	"time"

	"github.com/benbjohnson/clock"
)

// Clock counts nanoseconds from its construction. It may be copied.
type Clock struct {
	base time.Time
	c    clock.Clock // nil is real time, which then needs no call through an interface
}

// New returns a Clock that starts now. A nil c is real time.
func New(c clock.Clock) Clock {
	if c == nil {
		return Clock{base: time.Now()}
	}
	return Clock{base: c.Now(), c: c}
}

// Nanos returns the time since construction. It is never negative, even if the clock was
// set back.
func (c *Clock) Nanos() int64 {
	if c.c == nil {
		return int64(time.Since(c.base))
	}
	return max(0, c.Elapsed())
}

// Elapsed is Nanos for a caller that can do with negative times. It does not stand still if
// the clock was set back to before its construction.
func (c *Clock) Elapsed() int64 {
	if c.c == nil {
		return int64(time.Since(c.base))
	}
	return int64(c.c.Since(c.base))
}

// At returns the time at which Nanos returned n or will return n. It counts from the
// present, because the wall time may have been set since construction and the machine may
// have been suspended.
func (c *Clock) At(n int64) time.Time {
	now := c.Now()
	return now.Add(time.Duration(n - max(0, int64(now.Sub(c.base)))))
}

// Now returns the time of day.
func (c *Clock) Now() time.Time {
	if c.c == nil {
		return time.Now()
	}
	return c.c.Now()
}

// Age returns the time from then to now, two readings of one clock: the longer of their
// wall time and their monotonic time. The monotonic time stops while the machine is
// suspended. The wall time is too short if it was set back, and too long if it was set
// forward, which looks like a suspend. Age is never negative.
func Age(then, now time.Time) time.Duration {
	return max(0, now.Sub(then), now.Round(0).Sub(then.Round(0))) // Round(0) keeps only the wall time
}

// Real reports whether this is real time.
func (c *Clock) Real() bool { return c.c == nil }

// AfterFunc calls f after d on a new goroutine, unless stop is called before. stop reports
// whether it prevented the call.
func (c *Clock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	if c.c == nil {
		return time.AfterFunc(d, f).Stop
	}
	return c.c.AfterFunc(d, f).Stop
}

// Wait waits until d has passed or ctx is done. It returns false if ctx is done, also if
// both happen at one instant.
func (c *Clock) Wait(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		over, stop := c.timer(d)
		select {
		case <-over:
		case <-ctx.Done():
			stop()
		}
	}
	return ctx.Err() == nil
}

func (c *Clock) timer(d time.Duration) (over <-chan time.Time, stop func() bool) {
	if c.c == nil {
		t := time.NewTimer(d)
		return t.C, t.Stop
	}
	t := c.c.Timer(d)
	return t.C, t.Stop
}
