package breaker

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/check"
	"github.com/resilience-go/resilience/internal/defaults"
)

const (
	// The defaults were chosen by simulation, together with those of the other
	// policies in package stack.
	defaultCloseAfter = 64
	defaultMaxOpenFor = 5 * time.Second

	minOpenFor    = 50 * time.Millisecond
	maxRetryAfter = time.Minute
	silenceShare  = 32 // OPEN lasts this part of the silence
)

var defaultTrip = []Rule{Silence(7, time.Second)} // one for all, which nobody changes

// Config says how a Breaker works. The zero value is a good default.
type Config struct {
	// Name appears in errors and events.
	Name string
	// Trip holds the rules that open the breaker; any one of them does, the first
	// that holds. The default is Silence(7, time.Second).
	Trip []Rule
	// OpenFor is how long OPEN lasts. With 0, the default, it follows the silence:
	// one thirty-second of the time since the dependency fell silent, at least
	// 50 ms and at most MaxOpenFor, less if the failures came so quickly that 3 %
	// of the usual calls are more, and then changed by up to 20 % at random, so
	// that the clients of one dependency do not probe it together.
	OpenFor time.Duration
	// MaxOpenFor bounds OPEN. With OpenFor 0 it defaults to 5 s. With OpenFor set
	// it defaults to OpenFor; a larger value lets OPEN double, up to it, each time
	// that HALF_OPEN has failed without a success.
	MaxOpenFor time.Duration
	// CloseAfter is how many more successes than failures HALF_OPEN needs to
	// close, 1 to 4095, by default 64. HALF_OPEN admits one call at first and one
	// more at a time for each success: 1 closes at the first success, the default
	// is a slow start.
	CloseAfter int
	// ProbeTimeout is how long a call may hold a place in HALF_OPEN, by default
	// 15 s; a negative value sets no limit. After it the place is free for another
	// and the result of the call is ignored. It should be longer than the time limit of
	// a call.
	ProbeTimeout time.Duration
	// Until is when a success counts, by default resilience.Answered: an hour-long
	// stream is not an hour-long probe. A failure counts as soon as it is known.
	Until resilience.Moment
	// Classify judges errors that do not say themselves what they are. It is asked
	// last, as resilience.OutcomeOf describes; nil judges them as failures.
	Classify func(error) resilience.Outcome
	// Observer hears of each transition. nil: none.
	Observer resilience.Observer
	// Clock is the time to use, nil for real time.
	Clock clock.Clock
}

// withDefaults returns c with its defaults filled in, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	bad := func(field string, value any, want string) (Config, error) {
		return c, fmt.Errorf("breaker %q: Config.%s is %v: %s", c.Name, field, value, want)
	}
	if c.Trip = slices.Clone(c.Trip); len(c.Trip) == 0 {
		c.Trip = defaultTrip
	}
	if err := cmp.Or(
		check.Duration(policy, c.Name, "Config.OpenFor", c.OpenFor, c.Clock),
		check.Duration(policy, c.Name, "Config.ProbeTimeout", c.ProbeTimeout, c.Clock),
	); err != nil {
		return c, err
	}
	slow := 0
	for i, r := range c.Trip {
		if err := r.validate(); err != nil {
			return c, fmt.Errorf("breaker %q: Config.Trip[%d] %w", c.Name, i, err)
		}
		if err := cmp.Or(
			check.Duration(policy, c.Name, fmt.Sprintf("Config.Trip[%d]'s span", i), r.span, c.Clock),
			check.Duration(policy, c.Name, fmt.Sprintf("Config.Trip[%d]'s slowerThan", i), r.slower, c.Clock),
		); err != nil {
			return c, err
		}
		if r.kind == slowRate {
			slow++
		}
	}
	if slow > maxSlow {
		return c, fmt.Errorf("breaker %q: Config.Trip has %d rules SlowRate: must be at most %d", c.Name, slow, maxSlow)
	}
	if c.OpenFor < 0 {
		return bad("OpenFor", c.OpenFor, "must not be negative; 0 follows the silence of the dependency")
	}
	if c.MaxOpenFor < 0 {
		return bad("MaxOpenFor", c.MaxOpenFor, "must not be negative; 0 is the default")
	}
	switch {
	case c.OpenFor > 0 && c.MaxOpenFor == 0:
		c.MaxOpenFor = c.OpenFor
	case c.MaxOpenFor == 0:
		c.MaxOpenFor = defaultMaxOpenFor
	case c.OpenFor > 0 && c.MaxOpenFor < c.OpenFor:
		return bad("MaxOpenFor", c.MaxOpenFor, fmt.Sprintf("must be at least OpenFor, which is %v, or 0 for the default", c.OpenFor))
	case c.OpenFor == 0 && c.MaxOpenFor < minOpenFor:
		return bad("MaxOpenFor", c.MaxOpenFor, fmt.Sprintf("must be at least %v, or 0 for the default of %v", minOpenFor, defaultMaxOpenFor))
	}
	if c.CloseAfter == 0 {
		c.CloseAfter = defaultCloseAfter
	}
	if c.CloseAfter < 1 || c.CloseAfter > maxCredit {
		return bad("CloseAfter", c.CloseAfter, fmt.Sprintf("must be 1 to %d, or 0 for the default of %d", maxCredit, defaultCloseAfter))
	}
	if c.ProbeTimeout == 0 {
		c.ProbeTimeout = defaults.ProbeTimeout
	}
	switch c.Until {
	case 0:
		c.Until = resilience.Answered
	case resilience.Answered, resilience.Ended:
	default:
		return bad("Until", uint8(c.Until), "must be resilience.Answered or resilience.Ended, or 0 for the default")
	}
	return c, nil
}
