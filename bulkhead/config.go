package bulkhead

import (
	"fmt"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/check"
	"github.com/resilience-go/resilience/internal/defaults"
)

// Config says how a Bulkhead works. The zero value is a good default.
type Config struct {
	// Name appears in errors and events.
	Name string
	// Slots is how many calls may be in flight. With 0, the default, the bulkhead
	// sizes itself, as its type describes.
	Slots int
	// MaxQueue is how many callers may wait for a slot. The default is half of the
	// limit, rounded up; a negative value lets nobody wait.
	MaxQueue int
	// MaxWait is how long a caller may wait for a slot, by default 100 ms; a
	// negative value lets it wait until its context ends.
	MaxWait time.Duration
	// Observer hears of each rejection. nil: none.
	Observer resilience.Observer
	// Clock is the time to use, nil for real time.
	Clock clock.Clock
}

// maxLimit leaves room for what the limit is compared with.
const maxLimit = 1 << 30

// withDefaults returns c with its defaults filled in, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	if c.Slots < 0 || c.Slots > maxLimit {
		return c, fmt.Errorf("bulkhead %q: Config.Slots is %d: must be 1 to %d, or 0 to size itself; leave the bulkhead out to have no limit", c.Name, c.Slots, maxLimit)
	}
	if c.MaxQueue > maxLimit {
		return c, fmt.Errorf("bulkhead %q: Config.MaxQueue is %d: must be at most %d, 0 for half of the limit, or negative for no queue", c.Name, c.MaxQueue, maxLimit)
	}
	if err := check.Duration(policy, c.Name, "Config.MaxWait", c.MaxWait, c.Clock); err != nil {
		return c, err
	}
	if c.MaxWait == 0 {
		c.MaxWait = defaults.MaxWait
	}
	return c, nil
}
