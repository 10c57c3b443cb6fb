package limit

import (
	"fmt"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
)

// Config says how a Limit works. The zero value is a good default.
type Config struct {
	// Name appears in errors and events.
	Name string
	// Max is the most requests that may ever be in flight, for a service that would
	// run out of something else: memory, connections to a database. With 0, the
	// default, the limit may rise to 1048576. Below 4 it is the limit, which then
	// stays as it is whatever tests say.
	Max int
	// MaxQueue is how many requests may wait in front of the handler, whether there is
	// overload or not. The default is ten times the limit and 1000 more; a negative
	// value lets nobody wait, and so takes from the limit what it learns from.
	MaxQueue int
	// Shadow has the limit refuse nobody and hold nobody up: it counts in Stats whom it
	// would have refused. It tries higher limits only, as far as the load reaches them, so
	// it may miss an overload that a limit in force would find.
	Shadow bool
	// Observer hears of each begin and end of an overload. nil: none.
	Observer resilience.Observer
	// Clock is the time to use, nil for real time.
	Clock clock.Clock
}

const (
	initial = 64      // what a limit starts with
	least   = 4       // what it falls to
	most    = 1 << 20 // what it rises to
)

// withDefaults returns c with its defaults filled in, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	if c.Max < 0 || c.Max > most {
		return c, fmt.Errorf("limit %q: Config.Max is %d: must be 1 to %d, or 0 for the latter; leave the limit out to have none", c.Name, c.Max, most)
	}
	if c.MaxQueue > 1<<30 {
		return c, fmt.Errorf("limit %q: Config.MaxQueue is %d: must be at most %d, 0 for ten times the limit and 1000 more, or negative for no queue", c.Name, c.MaxQueue, 1<<30)
	}
	if c.Max == 0 {
		c.Max = most
	}
	return c, nil
}
