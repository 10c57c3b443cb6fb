package stack

import (
	"cmp"
	"context"
	"errors"
	"math"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
)

// ClientConfig configures a client stack. Only Name is required: every other zero value is
// a good default, and every layer but Total is on until Without leaves it out.
//
// A ClientConfig is a value: assigning to a field of a copy does not change the original.
// A copy shares the map Keyed.Keys and the slice Breaker.Trip, so replace them instead of
// changing their elements. New copies both.
type ClientConfig struct {
	// Name is the name of the dependency. Layers without a name take it, and Total takes
	// the name with " total" after it.
	Name string
	// Observer is called with the events of all layers that have no Observer. nil: none.
	Observer resilience.Observer
	// Classify returns the outcome of an error that has no Outcome method of its own, for
	// all layers: whether the dependency worked. nil means Failure. Over HTTP and gRPC,
	// errors have outcomes already; see the Classify of httpmw.Transport and grpcmw.Client.
	Classify func(error) resilience.Outcome

	// Total is the timeout of all attempts and of the waits between them. It is on when
	// Total.Timeout is set.
	Total timeout.Config
	// Keyed gives each key, such as a host over HTTP, its own state.
	Keyed keyed.Config
	// Retry repeats an attempt that has failed.
	Retry retry.Config
	// Breaker rejects calls while the dependency does not answer. A ProbeTimeout of 0
	// becomes the larger of 15 s and 1.25 * min(Attempt.Timeout + Bulkhead.MaxWait,
	// Total.Timeout). Without Attempt, only the wait and Total count. New rejects a
	// ProbeTimeout that you set and that is not longer than a probe may take, and other
	// settings that let a probe take forever.
	Breaker breaker.Config
	// Bulkhead bounds how many attempts are in flight.
	Bulkhead bulkhead.Config
	// Attempt is the timeout of one attempt, which includes sending a request body. Its
	// Until is resilience.Answered unless you set it, so that a long download works.
	Attempt timeout.Config

	// Without leaves layers out, as in stack.Retry | stack.Bulkhead. The configuration of
	// a layer that is left out is ignored, except Keyed.Keys, which is an error.
	Without Layer
}

// DefaultClient returns the configuration of Client, to change before New.
func DefaultClient(name string) ClientConfig { return ClientConfig{Name: name} }

// New returns the stack, or an error that says what to change. It checks each layer, and
// that the layers fit together: for example, an attempt must not be longer than the total.
// A stack needs a name and at least one policy that guards something. A breaker needs a
// timeout of Attempt or Total. To use it without one, set Without to stack.Attempt.
func (c ClientConfig) New() (resilience.Policy, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	var inside, outside builder
	add(&inside, c.on(Retry), c.Retry, retry.New)
	add(&inside, c.on(Breaker), c.Breaker, breaker.New)
	add(&inside, c.on(Bulkhead), c.Bulkhead, bulkhead.New)
	add(&inside, c.on(Attempt), c.Attempt, timeout.New)
	if c.Classify != nil {
		inside.policies = append(inside.policies, classifier(c.Classify))
	}
	template := resilience.Compose(inside.policies...)
	add(&outside, c.Total.Timeout != 0 && c.Total.Timeout != timeout.Unbounded, c.Total, timeout.New)
	add(&outside, c.on(Keyed), c.Keyed, func(k keyed.Config) (*keyed.Group, error) { return keyed.New(template, k) })
	if err := errors.Join(outside.err(), inside.err()); err != nil {
		return nil, err
	}
	if !c.on(Keyed) {
		outside.policies = append(outside.policies, template)
	}
	return resilience.Compose(outside.policies...), nil
}

// classifier gives the errors of the operation the outcome of ClientConfig.Classify. It is
// the innermost policy, so that all layers see that outcome.
type classifier func(error) resilience.Outcome

// Apply implements resilience.Policy.
func (c classifier) Apply(ctx context.Context, next resilience.Next) error {
	err := next.Run(ctx)
	if err == nil {
		return nil
	}
	_, err = policykit.Classify(ctx, err, c)
	return err
}

// String describes the policy for people.
func (classifier) String() string { return "classify errors" }

// on reports whether a layer is not left out.
func (c *ClientConfig) on(l Layer) bool { return !c.Without.has(l) }

// withDefaults returns c with the defaults that the stack gives to its layers.
func (c ClientConfig) withDefaults() ClientConfig {
	inherit(&c.Total.Name, c.Name+" total", &c.Total.Observer, c.Observer)
	c.Keyed.Name = cmp.Or(c.Keyed.Name, c.Name)
	inherit(&c.Retry.Name, c.Name, &c.Retry.Observer, c.Observer)
	inherit(&c.Breaker.Name, c.Name, &c.Breaker.Observer, c.Observer)
	inherit(&c.Bulkhead.Name, c.Name, &c.Bulkhead.Observer, c.Observer)
	inherit(&c.Attempt.Name, c.Name, &c.Attempt.Observer, c.Observer)
	if c.Attempt.Until == 0 {
		c.Attempt.Until = resilience.Answered
	}
	if c.Classify != nil {
		c.Breaker.Classify = c.Classify // also for errors after Run has returned
	}
	if c.Breaker.ProbeTimeout == 0 {
		c.Breaker.ProbeTimeout = c.probeTimeout()
	}
	return c
}

// validate returns an error if the stack as a whole or the combination of two layers is
// wrong. The layers validate themselves.
func (c ClientConfig) validate() error {
	if err := checkName(c.Name, "payments"); err != nil {
		return err
	}
	if !clientLayers.has(c.Without) {
		return bad(c.Name, "Without has %v, which a client does not have: its layers are %v", c.Without&^clientLayers, clientLayers)
	}
	attempt, total := c.attemptTimeout(), c.Total.Timeout
	if total == 0 && (c.Total.Name != "" || c.Total.Until != 0 || c.Total.Observer != nil) {
		return bad(c.Name, "Total has other settings but no Timeout, and so is off: set Total.Timeout, or remove the settings")
	}
	if idle, nothing := c.guardsNothing(); nothing {
		return bad(c.Name, "Without is %v%s, and Total.Timeout is not set, so nothing is guarded: keep a layer, or use resilience.Compose() for no policy", c.Without, idle)
	}
	if c.on(Breaker) && c.on(Attempt) && attempt == timeout.Unbounded && !c.totalBoundsProbe() {
		if total > 0 {
			return bad(c.Name, "Attempt.Timeout is timeout.Unbounded and Total.Until is resilience.Answered, but Breaker.Until is resilience.Ended, so the breaker would not notice a response that hangs: change one Until, set Attempt.Timeout and Attempt.Until, or confirm with Without: stack.Attempt")
		}
		return bad(c.Name, "Attempt.Timeout is timeout.Unbounded and Total.Timeout is not set, so the breaker would not notice a dependency that hangs: set one of them, or confirm with Without: stack.Attempt")
	}
	if attempt > 0 && total > 0 && attempt > total {
		what := ""
		if c.Attempt.Timeout == 0 {
			what = ", the default"
		}
		return bad(c.Name, "Attempt.Timeout is %v%s, longer than Total.Timeout, which is %v: an attempt could never use its time; shorten it or lengthen the total", attempt, what, total)
	}
	// A MaxDelay above the total is fine: it bounds waits, and retry does not begin a wait
	// that would end after the deadline.
	if r := c.Retry; c.on(Retry) && r.Backoff == nil && total > 0 && r.BaseDelay >= total && r.MaxAttempts != 1 {
		return bad(c.Name, "Retry.BaseDelay is %v, but Total.Timeout is %v: hardly any retry could begin in time; shorten BaseDelay or lengthen the total", r.BaseDelay, total)
	}
	if c.Classify != nil && c.Breaker.Classify != nil {
		return bad(c.Name, "Classify and Breaker.Classify are both set: keep Classify, which all layers use")
	}
	if err := c.validateKeys(); err != nil {
		return err
	}
	return c.validateProbe()
}

// guardsNothing reports whether no layer has an effect. If so, idle names the layers that are on
// without an effect.
func (c *ClientConfig) guardsNothing() (idle string, nothing bool) {
	if c.on(Breaker) || c.on(Bulkhead) || c.Total.Timeout > 0 {
		return "", false
	}
	if c.on(Retry) {
		if c.Retry.MaxAttempts != 1 {
			return "", false
		}
		idle += ", Retry.MaxAttempts is 1"
	}
	if c.on(Attempt) {
		if c.Attempt.Timeout != timeout.Unbounded {
			return "", false
		}
		idle += ", Attempt.Timeout is timeout.Unbounded"
	}
	if c.on(Keyed) && len(c.Keyed.Keys) > 0 {
		for _, p := range c.Keyed.Keys {
			if first, _ := split([]resilience.Policy{p}); first != nil {
				return "", false
			}
		}
		idle += ", the policies in Keyed.Keys guard nothing"
	}
	return idle, true
}

// attemptTimeout returns the timeout of an attempt. It is 0 if the layer is left out and
// negative if the layer has no timeout.
func (c *ClientConfig) attemptTimeout() time.Duration {
	if !c.on(Attempt) {
		return 0
	}
	return cmp.Or(c.Attempt.Timeout, policykit.DefaultTimeout)
}

// maxDuration is the longest time.Duration.
const maxDuration = time.Duration(math.MaxInt64)

// probeMargin is the divisor of the time that a probe may take: a ProbeTimeout of 0 becomes
// longer than that time by one part in probeMargin. A quarter covers a probe that is slow to
// notice the end of its context.
const probeMargin = 4

// probeTimeout returns the ProbeTimeout that follows the other layers. It is never shorter
// than the breaker's own default, so that an operation that does not watch its context can
// still close the breaker. If only the caller's deadline bounds a probe, just the wait for a
// slot counts: an unbounded ProbeTimeout would let one probe that hangs keep the breaker in
// HALF_OPEN forever.
func (c *ClientConfig) probeTimeout() time.Duration {
	longest, _ := c.longestProbe()
	if longest == unbounded {
		longest = max(c.maxWait(), 0)
	}
	return max(sum(longest, longest/probeMargin).Round(time.Second), policykit.DefaultProbeTimeout)
}

// unbounded is the result of longestProbe if nothing in the stack bounds a probe.
const unbounded time.Duration = -1

// longestProbe returns how long a probe may take until the breaker judges it, and what
// shortens it.
func (c *ClientConfig) longestProbe() (longest time.Duration, remedy string) {
	attempt, wait := c.attemptTimeout(), c.maxWait()
	switch {
	case attempt <= 0: // the total bounds it, or the caller's deadline
		longest, remedy = unbounded, "set Attempt.Timeout"
	case c.Breaker.Until == resilience.Ended && c.Attempt.Until != resilience.Ended:
		longest, remedy = unbounded, "change Breaker.Until to resilience.Answered or Attempt.Until to resilience.Ended"
	case wait < 0:
		longest, remedy = unbounded, "set Bulkhead.MaxWait"
	case wait > 0:
		longest, remedy = sum(attempt, wait), "shorten Bulkhead.MaxWait or Attempt.Timeout"
	default:
		longest, remedy = attempt, "shorten Attempt.Timeout"
	}
	if total := c.Total.Timeout; c.totalBoundsProbe() && (longest == unbounded || longest > total) {
		longest = total
	}
	return longest, remedy
}

// totalBoundsProbe reports whether Total is on and lasts until the breaker judges.
func (c *ClientConfig) totalBoundsProbe() bool {
	return c.Total.Timeout > 0 && (c.Breaker.Until != resilience.Ended || c.Total.Until != resilience.Answered)
}

// sum returns a + b, at most maxDuration. Neither may be negative.
func sum(a, b time.Duration) time.Duration { return a + min(b, maxDuration-a) }

// maxWait returns how long an attempt may wait for a slot of the bulkhead. It is 0 if an
// attempt never waits and negative if the wait is unbounded.
func (c *ClientConfig) maxWait() time.Duration {
	if !c.on(Bulkhead) || c.Bulkhead.MaxQueue < 0 {
		return 0
	}
	return cmp.Or(c.Bulkhead.MaxWait, policykit.DefaultMaxWait)
}

// validateProbe returns an error if a ProbeTimeout that the user has set may be over before
// a probe ends. The breaker would then ignore the probe's success and never close. It also
// returns an error if the user has set something that lets a probe take forever.
func (c *ClientConfig) validateProbe() error {
	lease := c.Breaker.ProbeTimeout
	if !c.on(Breaker) || lease < 0 {
		return nil
	}
	const forever = "Breaker.ProbeTimeout is %v, but a probe may take forever and would then never close the breaker: %s, or set a Total"
	longest, remedy := c.longestProbe()
	switch {
	case longest == unbounded && c.attemptTimeout() <= 0: // bounded by the caller's deadline
		return nil
	case longest == unbounded && lease == 0:
		return bad(c.Name, forever, 0, remedy)
	case longest == unbounded:
		return bad(c.Name, forever+" that is shorter than ProbeTimeout", lease, remedy)
	case longest < lease || lease == 0:
		return nil
	default:
		return bad(c.Name, "Breaker.ProbeTimeout is %v, but a probe may take %v and would then never close the breaker: lengthen ProbeTimeout or set it to 0, or %s", lease, longest, remedy)
	}
}
