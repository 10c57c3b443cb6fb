package breaker

import (
	"cmp"
	"fmt"
	"sync"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

// Unbounded is the value of Config.ProbeTimeout that never ends a probe's lease.
const Unbounded = -1

const (
	// defaultCloseAfter is the credit above which HALF_OPEN closes. It was chosen by
	// simulation: the slow start is long enough for a dependency in a brown-out.
	defaultCloseAfter = 64
	// defaultMaxOpenFor bounds an OPEN that follows the silence. It was chosen by
	// simulation: a long outage does not cost minutes after its end.
	defaultMaxOpenFor = 5 * time.Second

	// minOpenFor is the shortest OPEN that follows the silence, before jitter.
	minOpenFor = 50 * time.Millisecond
	// maxRetryAfter bounds the OPEN that a failure's RetryAfter asks for.
	maxRetryAfter = time.Minute
	// silenceShare is the part of the silence that OPEN lasts: 1/32. The delay of a
	// recovery is then in proportion to the outage, and few calls probe.
	silenceShare = 32
)

// defaultTrip is shared by all breakers and never changed.
var defaultTrip = []Rule{Silence{Failures: 7, Span: time.Second}}

// defaultRules is defaultTrip compiled. All breakers with the default share it, which
// keeps a breaker below 1 KB.
var defaultRules = sync.OnceValue(func() []rule {
	c, _ := compile(defaultTrip[0]) // which is valid
	return []rule{c}
})

// Config configures a Breaker. The zero value is a good default.
type Config struct {
	// Name appears in errors and events.
	Name string
	// Trip has the rules that open the breaker. The first rule that holds opens it.
	// The default is Silence{Failures: 7, Span: time.Second}. If all of them are a
	// Silence or a Consecutive, they also judge HALF_OPEN; see Breaker.
	Trip []Rule
	// OpenFor is how long OPEN lasts. It must be set if Trip has a Rate or a Slow.
	//
	// With 0, the default, OPEN follows the silence. It lasts one thirty-second of
	// the time since the first failure in a row, at least 50 ms and at most
	// MaxOpenFor. It is shorter if failures come so quickly that more than 3 % of the
	// usual calls would be rejected per failure. Jitter of 20 % keeps the clients of
	// one dependency from probing at the same time.
	OpenFor time.Duration
	// MaxOpenFor bounds OPEN. With OpenFor 0 it defaults to 5 s. With OpenFor set it
	// defaults to OpenFor; if it is larger, OPEN doubles, up to MaxOpenFor, each time
	// HALF_OPEN fails without a success.
	MaxOpenFor time.Duration
	// CloseAfter is how many successes HALF_OPEN needs to close if no failure takes
	// credit: 1 to 4095, by default 64. HALF_OPEN admits one call at first and one more
	// at a time for each success. 1 closes at the first success; the default is a slow
	// start.
	CloseAfter int
	// ProbeTimeout is how long a call can hold a slot in HALF_OPEN, by default 15 s.
	// After it another call can take the slot and the result of the first is ignored.
	// It should be longer than the timeout of a call. Unbounded never frees the slot.
	ProbeTimeout time.Duration
	// Until is when a success counts, by default resilience.Answered: a stream that
	// lasts an hour does not hold its slot for an hour. A failure counts at once.
	Until resilience.Moment
	// Classify returns the outcome of an error that has no Outcome method of its own.
	// It is called last, as resilience.OutcomeOf describes. nil means Failure.
	Classify func(error) resilience.Outcome
	// Observer is called with each transition. nil means none.
	Observer resilience.Observer
	// Clock is the source of time. nil means real time.
	Clock clock.Clock
}

// withDefaults returns c with its defaults filled in and its rules compiled, or an
// error that says what to change.
func (c Config) withDefaults() (Config, []rule, error) {
	bad := func(field string, value any, want string) (Config, []rule, error) {
		return c, nil, fmt.Errorf("breaker %q: Config.%s is %v: %s", c.Name, field, value, want)
	}
	if len(c.Trip) == 0 {
		c.Trip = defaultTrip
	}
	if err := cmp.Or(
		policykit.CheckDuration(policy, c.Name, "Config.OpenFor", c.OpenFor, c.Clock),
		policykit.CheckDuration(policy, c.Name, "Config.ProbeTimeout", c.ProbeTimeout, c.Clock),
	); err != nil {
		return c, nil, err
	}
	rules, err := c.compile()
	if err != nil {
		return c, nil, err
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
	switch {
	case c.ProbeTimeout == 0:
		c.ProbeTimeout = policykit.DefaultProbeTimeout
	case c.ProbeTimeout < 0 && c.ProbeTimeout != Unbounded:
		return bad("ProbeTimeout", c.ProbeTimeout, fmt.Sprintf("must be positive, 0 for the default of %v, or breaker.Unbounded", policykit.DefaultProbeTimeout))
	}
	c.Until, err = policykit.Until(policy, c.Name, "Config.Until", c.Until, resilience.Answered)
	return c, rules, err
}

// compile returns the rules of Trip in the form that calls evaluate.
func (c Config) compile() ([]rule, error) {
	if &c.Trip[0] == &defaultTrip[0] {
		return defaultRules(), nil
	}
	rules := make([]rule, len(c.Trip))
	slows := 0
	for i, given := range c.Trip {
		at := fmt.Sprintf("Config.Trip[%d]", i)
		r, err := compile(given)
		if err != nil {
			return nil, fmt.Errorf("breaker %q: %s %w", c.Name, at, err)
		}
		if err := r.checkUnits(c.Name, at, c.Clock); err != nil {
			return nil, err
		}
		if r.needsOpenFor() && c.OpenFor == 0 {
			return nil, fmt.Errorf("breaker %q: Config.OpenFor is 0, and %s is %s, which measures no silence for OPEN to follow: set OpenFor, such as 5*time.Second", c.Name, at, r.text)
		}
		if r.kind == slow {
			slows++
		}
		rules[i] = r
	}
	if slows > maxSlow {
		return nil, fmt.Errorf("breaker %q: Config.Trip has %d rules of type Slow: must be at most %d", c.Name, slows, maxSlow)
	}
	return rules, nil
}
