package retry

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

const (
	defaultMaxAttempts = 3
	maxMaxAttempts     = 1000
	defaultBaseDelay   = 50 * time.Millisecond
	defaultMaxDelay    = time.Second
	defaultBudget      = 20
)

// Special values of a Config. No other negative number is valid.
const (
	// NoDelay, as Config.BaseDelay, retries at once, unless an error asks for a wait.
	NoDelay time.Duration = -1
	// Unbounded, as Config.MaxDelay, sets no bound.
	Unbounded time.Duration = -1
	// NoBudget, as Config.Budget, sets no budget and retries also while all calls fail.
	NoBudget = -1
)

// Config configures a Retry. The zero value is a good default.
type Config struct {
	// Name appears in errors, events and reports.
	Name string
	// MaxAttempts is how often a call is tried, including the first attempt: 1 to 1000,
	// by default 3.
	MaxAttempts int
	// BaseDelay bounds the wait after the first attempt, by default 50 ms. The bound
	// doubles with each attempt. NoDelay waits only if an error asks for it.
	BaseDelay time.Duration
	// MaxDelay bounds every wait, by default 1 s or BaseDelay, whichever is more. An
	// error that asks for a longer wait is not retried. Unbounded sets no bound.
	MaxDelay time.Duration
	// Backoff returns the wait after the given attempt, the first being 1. The default
	// is Exponential(BaseDelay, MaxDelay, 100). Values below 0 count as 0, values above
	// MaxDelay as MaxDelay.
	Backoff func(attempt int) time.Duration
	// Budget is how many units the budget starts with and can always hold, 5 or more;
	// see Retry. The default is 20, or 5 for each retry of one call if that is more.
	// NoBudget retries without a budget, also while all calls fail.
	Budget int
	// Retryable reports whether to retry after an error, which may be a rejection by an
	// inner policy. The default is true, except for rejections, for errors whose method
	// Retryable() bool returns false, and for errors whose method Outcome returns
	// another outcome than resilience.Failure. An error made by Permanent is never
	// retried. No error is retried after the caller's context has ended.
	Retryable func(error) bool
	// Observer is called with each retry and with each call that was given up. nil: none.
	Observer resilience.Observer
	// Clock is the time to use, nil for real time. Deadlines are always real time.
	Clock clock.Clock
}

// withDefaults returns c with its defaults filled in, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	if err := cmp.Or(
		policykit.CheckDuration(policy, c.Name, "Config.BaseDelay", c.BaseDelay, c.Clock),
		policykit.CheckDuration(policy, c.Name, "Config.MaxDelay", c.MaxDelay, c.Clock),
		policykit.CheckNegative(policy, c.Name, "Config.BaseDelay", c.BaseDelay, "retry.NoDelay"),
		policykit.CheckNegative(policy, c.Name, "Config.MaxDelay", c.MaxDelay, "retry.Unbounded"),
		policykit.CheckNegative(policy, c.Name, "Config.Budget", c.Budget, "retry.NoBudget"),
	); err != nil {
		return c, err
	}
	switch {
	case c.MaxAttempts == 0:
		c.MaxAttempts = defaultMaxAttempts
	case c.MaxAttempts < 0 || c.MaxAttempts > maxMaxAttempts:
		return c, fmt.Errorf("retry %q: Config.MaxAttempts is %d: must be 1 to %d, where 1 never retries, or 0 for the default of %d", c.Name, c.MaxAttempts, maxMaxAttempts, defaultMaxAttempts)
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
		return c, fmt.Errorf("retry %q: Config.MaxDelay is %v: must be at least BaseDelay, which is %v, 0 for the default, or retry.Unbounded", c.Name, c.MaxDelay, c.BaseDelay)
	}
	if c.Backoff == nil {
		c.Backoff = Exponential(c.BaseDelay, c.MaxDelay, 100)
	}
	switch {
	case c.Budget == 0:
		c.Budget = max(defaultBudget, quickPrice*(c.MaxAttempts-1))
	case c.Budget > 0 && c.Budget < quickPrice:
		return c, fmt.Errorf("retry %q: Config.Budget is %d: must be at least %d, the price of one retry, 0 for the default, or retry.NoBudget", c.Name, c.Budget, quickPrice)
	}
	return c, nil
}
