package testkit

import (
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/benbjohnson/clock"
)

// Clock is a clock.Clock that stands still unless a test moves it, in either direction.
// Move does not fire its timers; for timers use the Mock.
type Clock struct {
	*clock.Mock
	OnSince func() // called before each Since, unless nil

	mu  sync.Mutex // guards now
	now time.Time
}

// NewClock returns a Clock at an arbitrary time.
func NewClock() *Clock { return &Clock{Mock: clock.NewMock(), now: time.Unix(1e9, 0)} }

// Now implements clock.Clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Since implements clock.Clock.
func (c *Clock) Since(t time.Time) time.Duration {
	if c.OnSince != nil {
		c.OnSince()
	}
	return c.Now().Sub(t)
}

// Move moves the clock by d, which may be negative.
func (c *Clock) Move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// InstantClock is a clock.Clock whose timers fire when they are made. It calls OnTimer at
// that instant.
type InstantClock struct {
	*clock.Mock
	OnTimer func()
}

// Timer implements clock.Clock.
func (c InstantClock) Timer(d time.Duration) *clock.Timer {
	timer := c.Mock.Timer(d)
	c.Add(d)
	c.OnTimer()
	return timer
}

// JumpClock is the real clock of a machine that was suspended or whose wall time was set.
// Jump moves the wall time of its readings. Their monotonic time, by which Go measures
// durations, runs on.
type JumpClock struct {
	clock.Clock
	seconds atomic.Int64
}

// NewJumpClock returns a JumpClock with the present wall time.
func NewJumpClock() *JumpClock { return &JumpClock{Clock: clock.New()} }

// Jump moves the wall time by whole seconds, forward or back.
func (c *JumpClock) Jump(d time.Duration) { c.seconds.Add(int64(d / time.Second)) }

// Now implements clock.Clock. No function of package time makes such a reading, so Now
// writes it into a time.Time. In a synctest bubble, where time.Now has no monotonic time,
// Now adds one.
func (c *JumpClock) Now() time.Time {
	const (
		monotonic  = 1 << 63 // the reading has a monotonic time
		secondBits = 30      // the first of 33 bits with the seconds since 1885
	)
	t := time.Now()
	r := (*struct {
		wall uint64
		ext  int64 // the monotonic time in ns, if the reading has one
		loc  *time.Location
	})(unsafe.Pointer(&t))
	if r.wall&monotonic == 0 {
		seconds := t.Unix() - time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
		r.wall, r.ext = r.wall|monotonic|uint64(seconds)<<secondBits, t.UnixNano()
	}
	r.wall += uint64(c.seconds.Load()) << secondBits
	return t
}

// Since implements clock.Clock.
func (c *JumpClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }
