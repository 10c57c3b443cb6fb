package bulkhead

import (
	"cmp"
	"fmt"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

// Special values of a Config. No other negative number is valid.
const (
	// NoQueue, as Config.MaxQueue, rejects a call that finds no free slot.
	NoQueue = -1
	// Unbounded, as Config.MaxWait, lets a queued caller wait until its context ends.
	Unbounded time.Duration = -1
)

// Config configures a Bulkhead. The zero value is a good default.
type Config struct {
	// Name appears in errors, events and reports.
	Name string
	// Slots is how many calls may be in flight. With 0, the default, the bulkhead sizes
	// itself; see Bulkhead.
	Slots int
	// MaxQueue is how many callers may wait for a slot, by default half of the slots,
	// rounded up. NoQueue rejects instead. If the bulkhead sizes itself, the slots that a burst
	// has added take the place of the queue.
	MaxQueue int
	// MaxWait is how long a caller may wait for a slot, by default 100 ms. With Unbounded
	// it waits until its context ends.
	MaxWait time.Duration
	// Observer is called with each rejection. nil: none.
	Observer resilience.Observer
	// Clock is the time to use, nil for real time.
	Clock clock.Clock
}

// maxSlots bounds Slots and MaxQueue, so that sums of both do not overflow.
const maxSlots = 1 << 30

// withDefaults returns c with its defaults filled in, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	if c.Slots < 0 || c.Slots > maxSlots {
		return c, fmt.Errorf("bulkhead %q: Config.Slots is %d: must be 1 to %d, or 0 to size itself; leave the bulkhead out to bound nothing", c.Name, c.Slots, maxSlots)
	}
	if c.MaxQueue > maxSlots {
		return c, fmt.Errorf("bulkhead %q: Config.MaxQueue is %d: must be at most %d, 0 for half of the slots, or bulkhead.NoQueue", c.Name, c.MaxQueue, maxSlots)
	}
	if err := cmp.Or(
		policykit.CheckNegative(policy, c.Name, "Config.MaxQueue", c.MaxQueue, "bulkhead.NoQueue"),
		policykit.CheckNegative(policy, c.Name, "Config.MaxWait", c.MaxWait, "bulkhead.Unbounded"),
		policykit.CheckDuration(policy, c.Name, "Config.MaxWait", c.MaxWait, c.Clock),
	); err != nil {
		return c, err
	}
	if c.MaxWait == 0 {
		c.MaxWait = policykit.DefaultMaxWait
	}
	return c, nil
}
