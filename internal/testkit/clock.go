package testkit

import (
	"sync"
	"time"

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
