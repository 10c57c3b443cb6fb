package retry

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/check"
)

const (
	defaultMaxAttempts = 3
	maxMaxAttempts     = 1000
	defaultBaseDelay   = 50 * time.Millisecond
	defaultMaxDelay    = time.Second
	defaultBudget      = 20
)

// Config says how a Retry works. The zero value is a good default.
type Config struct {
	// Name appears in errors and events.
	Name string
	// MaxAttempts is how often a call is tried, the first time included: at most
	// 1000, by default 3. A negative value tries once.
	MaxAttempts int
	// BaseDelay bounds the wait after the first attempt, by default 50 ms; the
	// bound doubles with each further attempt. A negative value waits only when an
	// error asks for it. Less than a microsecond is taken for a unit that is
	// missing, and so it is in MaxDelay, unless there is a Clock.
	BaseDelay time.Duration
	// MaxDelay bounds every wait, by default 1 s, or BaseDelay if that is more; a
	// negative value sets no bound. An error that asks for a longer wait is not
	// retried.
	MaxDelay time.Duration
	// Backoff returns the wait after attempt number attempt, the first being 1.
	// The default is Exponential(BaseDelay, MaxDelay, 100). What it returns is kept
	// between 0 and MaxDelay.
	Backoff func(attempt int) time.Duration
	// Budget is how many units the budget starts with and can hold at least, 5 or
	// more; the type Retry describes it. The default is 20, or 5 for each retry of
	// one call if that is more. A negative value has no budget, and also retries
	// while everything fails.
	Budget int
	// Retryable chooses the errors to retry, those of policies that refused the
	// attempt included. By default these are all errors but rejections, those that
	// say by a method Retryable() bool that they are not, and those that say by a
	// method Outcome that they are no failure. An error made by Permanent is never
	// retried, and neither is any once the context of the caller is done.
	Retryable func(error) bool
	// Observer hears of each retry and of each call that was given up. nil hears
	// nothing.
	Observer resilience.Observer
	// Clock is the time to use, nil for real time. Deadlines are always real time.
	Clock clock.Clock
}

// withDefaults returns c with its defaults filled in, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	if err := cmp.Or(
		check.Duration(policy, c.Name, "Config.BaseDelay", c.BaseDelay, c.Clock),
		check.Duration(policy, c.Name, "Config.MaxDelay", c.MaxDelay, c.Clock),
	); err != nil {
		return c, err
	}
	switch {
	case c.MaxAttempts == 0:
		c.MaxAttempts = defaultMaxAttempts
	case c.MaxAttempts < 0:
		c.MaxAttempts = 1
	case c.MaxAttempts > maxMaxAttempts:
		return c, fmt.Errorf("retry %q: Config.MaxAttempts is %d: must be at most %d, 0 for the default of %d, or negative to try once", c.Name, c.MaxAttempts, maxMaxAttempts, defaultMaxAttempts)
	}
	switch {
	case c.BaseDelay == 0 && c.MaxDelay > 0:
		c.BaseDelay = min(defaultBaseDelay, c.MaxDelay)
	case c.BaseDelay == 0:
		c.BaseDelay = defaultBaseDelay
	case c.BaseDelay < 0:
		c.BaseDelay = 0
	}
	switch {
	case c.MaxDelay == 0:
		c.MaxDelay = max(defaultMaxDelay, c.BaseDelay)
	case c.MaxDelay < 0:
		c.MaxDelay = math.MaxInt64
	case c.MaxDelay < c.BaseDelay:
		return c, fmt.Errorf("retry %q: Config.MaxDelay is %v: must be at least BaseDelay, which is %v, 0 for the default, or negative for no bound", c.Name, c.MaxDelay, c.BaseDelay)
	}
	if c.Backoff == nil {
		c.Backoff = Exponential(c.BaseDelay, c.MaxDelay, 100)
	}
	switch {
	case c.Budget == 0:
		c.Budget = max(defaultBudget, quickPrice*(c.MaxAttempts-1))
	case c.Budget > 0 && c.Budget < quickPrice:
		return c, fmt.Errorf("retry %q: Config.Budget is %d: must be at least %d, the price of one retry, 0 for the default, or negative for no budget", c.Name, c.Budget, quickPrice)
	}
	return c, nil
}
