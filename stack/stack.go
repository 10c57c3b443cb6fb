// Package stack has the policies that are right for most services, in the right
// order and with the right numbers.
//
//	client := &http.Client{Transport: &httpmw.Transport{Policy: stack.Client("payments")}}
//	mux.Handle("/orders", httpmw.Server{Policy: stack.Server("orders")}.Wrap(orders))
//
// The order is
//
//	total timeout(        off by default: the caller's deadline is the total
//	  keyed(              what follows, for each host or method
//	    retry(            within a budget; not what a policy further in rejects
//	      breaker(        judges each attempt
//	        bulkhead(     free during the backoff
//	          timeout(    of one attempt
//	            operation
//
// The one setting that only you know is how long an attempt may take:
//
//	c := stack.DefaultClient("payments")
//	c.Attempt.Limit = 500 * time.Millisecond
//	p, err := c.New()
//
// To see a stack with its numbers, print its configuration, or what Describe returns.
package stack

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/defaults"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
)

// Client returns the default stack for calls to a dependency, called name in
// errors and events: at most three attempts, a breaker, a bulkhead that
// sizes itself, and 10 s for an attempt to answer, with state of its own for each
// key (over HTTP the host).
func Client(name string) resilience.Policy {
	return resilience.Must(DefaultClient(name).New())
}

// Server returns the default stack for a service, called name in errors and
// events: a bulkhead of 1000 calls without a queue, and nothing else. A long-lived
// stream holds its place until it ends.
func Server(name string) resilience.Policy {
	return resilience.Must(DefaultServer(name).New())
}

// ClientConfig says what a client stack is made of. Start with DefaultClient. A
// layer that is nil is left out, so the zero value guards nothing; a Keyed that is
// nil has all keys share one state.
type ClientConfig struct {
	// Observer hears of the events of all layers that have no Observer of their
	// own. nil: none.
	Observer resilience.Observer

	Total    *timeout.Config // of all attempts and the waits between them
	Keyed    *keyed.Config
	Retry    *retry.Config
	Breaker  *breaker.Config
	Bulkhead *bulkhead.Config
	Attempt  *timeout.Config
}

// DefaultClient returns the configuration of Client, to change before New.
func DefaultClient(name string) ClientConfig {
	return ClientConfig{
		Keyed:    &keyed.Config{Name: name},
		Retry:    &retry.Config{Name: name},
		Breaker:  &breaker.Config{Name: name},
		Bulkhead: &bulkhead.Config{Name: name},
		Attempt:  &timeout.Config{Name: name, Until: resilience.Answered},
	}
}

// New returns the stack, or an error that says what to change: what is wrong with
// a layer, or what does not fit together, such as an attempt longer than the total or
// a probe of the breaker that outlasts its lease. What has no limit in the stack is
// left to the deadline of the caller.
func (c ClientConfig) New() (resilience.Policy, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	c.observe()
	p, inside := layers(
		layer(c.Retry, retry.New),
		layer(c.Breaker, breaker.New),
		layer(c.Bulkhead, bulkhead.New),
		layer(c.Attempt, timeout.New),
	)
	all, outside := layers(
		layer(c.Total, timeout.New),
		layer(c.Keyed, func(k keyed.Config) (*keyed.Group, error) { return keyed.New(p, k) }),
	)
	if err := errors.Join(outside, inside); err != nil {
		return nil, err
	}
	if c.Keyed == nil {
		all = resilience.Compose(all, p)
	}
	return all, nil
}

// observe gives Observer to the layers, in copies of their configurations.
func (c *ClientConfig) observe() {
	c.Total = observed(c.Total, c.Observer, func(l *timeout.Config) *resilience.Observer { return &l.Observer })
	c.Retry = observed(c.Retry, c.Observer, func(l *retry.Config) *resilience.Observer { return &l.Observer })
	c.Breaker = observed(c.Breaker, c.Observer, func(l *breaker.Config) *resilience.Observer { return &l.Observer })
	c.Bulkhead = observed(c.Bulkhead, c.Observer, func(l *bulkhead.Config) *resilience.Observer { return &l.Observer })
	c.Attempt = observed(c.Attempt, c.Observer, func(l *timeout.Config) *resilience.Observer { return &l.Observer })
}

func observed[C any](layer *C, o resilience.Observer, field func(*C) *resilience.Observer) *C {
	if layer == nil || o == nil || *field(layer) != nil {
		return layer
	}
	c := *layer
	*field(&c) = o
	return &c
}

// validate checks what concerns more than one layer. It refuses what the layers
// themselves say cannot work. What they leave to the deadline of the caller, as a
// stack without a limit of an attempt does, it cannot know.
func (c ClientConfig) validate() error {
	attempt, total := limit(c.Attempt), limit(c.Total)
	if attempt > 0 && total > 0 && attempt > total {
		return fmt.Errorf("stack: Attempt.Limit is %v, longer than Total.Limit, which is %v: an attempt could never use its time; shorten it or lengthen the total", attempt, total)
	}
	// A MaxDelay above the total is fine: it bounds waits, and none that would end
	// after a deadline begins.
	if r := c.Retry; r != nil && r.Backoff == nil && total > 0 && r.BaseDelay >= total && r.MaxAttempts >= 0 && r.MaxAttempts != 1 {
		return fmt.Errorf("stack: Retry.BaseDelay is %v, but Total.Limit is %v: hardly any retry could begin in time; shorten BaseDelay or lengthen the total", r.BaseDelay, total)
	}
	if c.Breaker == nil || c.Breaker.ProbeTimeout < 0 {
		return nil
	}
	return c.validateProbe(attempt, total)
}

// unbounded is a time without a limit.
const unbounded = time.Duration(math.MaxInt64)

// validateProbe checks that a probe ends before its lease does: of a dependency that
// takes longer no success would count, and the breaker never close.
func (c ClientConfig) validateProbe(attempt, total time.Duration) error {
	lease := or(c.Breaker.ProbeTimeout, defaults.ProbeTimeout)
	toEnd := c.Breaker.Judge == resilience.Ended // a success counts only then
	waits := c.Bulkhead != nil && c.Bulkhead.MaxQueue >= 0
	longest, change := unbounded, ""
	switch {
	case attempt <= 0: // the total bounds it, or the deadline of the caller
		change = "set Attempt.Limit"
	case toEnd && c.Attempt.Until == resilience.Answered:
		change = "change Breaker.Judge to resilience.Answered or Attempt.Until to resilience.Ended"
	case waits && c.Bulkhead.MaxWait < 0:
		change = "set Bulkhead.MaxWait"
	case waits:
		longest = attempt + min(or(c.Bulkhead.MaxWait, defaults.MaxWait), unbounded-attempt)
		change = "shorten Bulkhead.MaxWait or Attempt.Limit"
	default:
		longest, change = attempt, "shorten Attempt.Limit"
	}
	bounded := total > 0 && !(toEnd && c.Total.Until == resilience.Answered)
	if bounded {
		longest = min(longest, total)
	}
	switch {
	case longest < lease, attempt <= 0 && !bounded:
		return nil
	case longest == unbounded:
		return fmt.Errorf("stack: Breaker.ProbeTimeout is %v, but a probe may take for ever, and would then never close the breaker: %s, or set a Total that is shorter than ProbeTimeout", lease, change)
	default:
		return fmt.Errorf("stack: Breaker.ProbeTimeout is %v, but a probe may take %v, and would then never close the breaker: %s, or lengthen ProbeTimeout", lease, longest, change)
	}
}

// limit returns the limit of c, 0 if there is no c and negative if it is off.
func limit(c *timeout.Config) time.Duration {
	if c == nil {
		return 0
	}
	return or(c.Limit, defaults.Limit)
}

func or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// ServerConfig says what a server stack is made of. Start with DefaultServer. A
// layer that is nil is left out, so the zero value guards nothing.
type ServerConfig struct {
	Bulkhead *bulkhead.Config
}

// DefaultServer returns the configuration of Server, to change before New.
func DefaultServer(name string) ServerConfig {
	return ServerConfig{Bulkhead: &bulkhead.Config{Name: name, Limit: 1000, MaxQueue: -1}}
}

// New returns the stack, or an error that says what to change.
func (c ServerConfig) New() (resilience.Policy, error) {
	p, err := layers(layer(c.Bulkhead, bulkhead.New))
	if err != nil {
		return nil, err
	}
	return p, nil
}

// layer makes the policy of a layer when it is called; of one that is left out it
// makes nil.
func layer[C any, P resilience.Policy](c *C, make func(C) (P, error)) func() (resilience.Policy, error) {
	return func() (resilience.Policy, error) {
		if c == nil {
			return nil, nil
		}
		p, err := make(*c)
		if err != nil {
			return nil, err
		}
		return p, nil
	}
}

// layers composes what makers make, or returns all that is wrong with it.
func layers(makers ...func() (resilience.Policy, error)) (*resilience.Pipeline, error) {
	var policies []resilience.Policy
	var errs []error
	for _, make := range makers {
		p, err := make()
		policies, errs = append(policies, p), append(errs, err)
	}
	return resilience.Compose(policies...), errors.Join(errs...)
}
