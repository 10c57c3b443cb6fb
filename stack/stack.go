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
// in front of a dependency, and in front of a handler
//
//	limit(                finds by experiment how many requests it can use at once
//	  bulkhead(           left out by default: a number of your own
//	    operation
//
// The one setting that only you know is how long an attempt may take:
//
//	c := stack.DefaultClient("payments")
//	c.Attempt.Timeout = 500 * time.Millisecond
//	p, err := c.New()
//
// To see a stack with its numbers, print its configuration, or what Describe returns.
package stack

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/defaults"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
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
// events: a limit that finds out how many requests the service can use at once, and
// nothing else. It refuses nobody before it has proof of an overload, except where so
// many are waiting that memory would run out. Requests that take about as long as each
// other should share one; give a group of routes that take much longer its own.
func Server(name string) resilience.Policy {
	return resilience.Must(DefaultServer(name).New())
}

// ClientConfig says what a client stack is made of. Start with DefaultClient. A
// layer that is nil is left out, so the zero value guards nothing; a Keyed that is
// nil has all keys share one state.
type ClientConfig struct {
	// Name is that of all layers that have no name of their own; Total gets
	// "total" after it. It also appears in the errors of New.
	Name string
	// Observer hears of the events of all layers that have no Observer of their
	// own. nil: none.
	Observer resilience.Observer

	Total    *timeout.Config // of all attempts and the waits between them
	Keyed    *keyed.Config
	Retry    *retry.Config
	Breaker  *breaker.Config
	Bulkhead *bulkhead.Config
	Attempt  *timeout.Config // of one attempt until it is answered, with the time to send a body
}

// DefaultClient returns the configuration of Client, to change before New.
func DefaultClient(name string) ClientConfig {
	return ClientConfig{
		Name:     name,
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
	c.inherit()
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

// inherit gives Name and Observer to the layers that have none, in copies of their
// configurations.
func (c *ClientConfig) inherit() {
	total := c.Name
	if total != "" {
		total += " total"
	}
	c.Total = with(c.Total, func(l *timeout.Config) { inherit(&l.Name, total, &l.Observer, c.Observer) })
	c.Keyed = with(c.Keyed, func(l *keyed.Config) { l.Name = cmp.Or(l.Name, c.Name) })
	c.Retry = with(c.Retry, func(l *retry.Config) { inherit(&l.Name, c.Name, &l.Observer, c.Observer) })
	c.Breaker = with(c.Breaker, func(l *breaker.Config) { inherit(&l.Name, c.Name, &l.Observer, c.Observer) })
	c.Bulkhead = with(c.Bulkhead, func(l *bulkhead.Config) { inherit(&l.Name, c.Name, &l.Observer, c.Observer) })
	c.Attempt = with(c.Attempt, func(l *timeout.Config) { inherit(&l.Name, c.Name, &l.Observer, c.Observer) })
}

// with returns a copy of layer with what change does to it, nil if there is none.
func with[C any](layer *C, change func(*C)) *C {
	if layer == nil {
		return nil
	}
	c := *layer
	change(&c)
	return &c
}

func inherit(name *string, ofStack string, observer *resilience.Observer, all resilience.Observer) {
	*name = cmp.Or(*name, ofStack)
	if *observer == nil {
		*observer = all
	}
}

// validate checks what concerns more than one layer. It refuses what the layers
// themselves say cannot work. What they leave to the deadline of the caller, as a
// stack without a limit of an attempt does, it cannot know.
func (c ClientConfig) validate() error {
	attempt, total := limitOf(c.Attempt), limitOf(c.Total)
	if attempt > 0 && total > 0 && attempt > total {
		return c.bad("Attempt.Timeout is %v, longer than Total.Timeout, which is %v: an attempt could never use its time; shorten it or lengthen the total", attempt, total)
	}
	// A MaxDelay above the total is fine: it bounds waits, and none that would end
	// after a deadline begins.
	if r := c.Retry; r != nil && r.Backoff == nil && total > 0 && r.BaseDelay >= total && r.MaxAttempts >= 0 && r.MaxAttempts != 1 {
		return c.bad("Retry.BaseDelay is %v, but Total.Timeout is %v: hardly any retry could begin in time; shorten BaseDelay or lengthen the total", r.BaseDelay, total)
	}
	if c.Breaker == nil || c.Breaker.ProbeTimeout < 0 {
		return nil
	}
	return c.validateProbe(attempt, total)
}

func (c ClientConfig) bad(what string, args ...any) error {
	return fmt.Errorf("stack %q: "+what, append([]any{c.Name}, args...)...)
}

// unbounded is a time without a limit.
const unbounded = time.Duration(math.MaxInt64)

// validateProbe checks that a probe ends before its lease does: of a dependency that
// takes longer no success would count, and the breaker never close.
func (c ClientConfig) validateProbe(attempt, total time.Duration) error {
	lease := cmp.Or(c.Breaker.ProbeTimeout, defaults.ProbeTimeout)
	toEnd := c.Breaker.Until == resilience.Ended // a success counts only then
	waits := c.Bulkhead != nil && c.Bulkhead.MaxQueue >= 0
	longest, change := unbounded, ""
	switch {
	case attempt <= 0: // the total bounds it, or the deadline of the caller
		change = "set Attempt.Timeout"
	case toEnd && c.Attempt.Until == resilience.Answered:
		change = "change Breaker.Until to resilience.Answered or Attempt.Until to resilience.Ended"
	case waits && c.Bulkhead.MaxWait < 0:
		change = "set Bulkhead.MaxWait"
	case waits:
		longest = attempt + min(cmp.Or(c.Bulkhead.MaxWait, defaults.MaxWait), unbounded-attempt)
		change = "shorten Bulkhead.MaxWait or Attempt.Timeout"
	default:
		longest, change = attempt, "shorten Attempt.Timeout"
	}
	bounded := total > 0 && !(toEnd && c.Total.Until == resilience.Answered)
	if bounded {
		longest = min(longest, total)
	}
	switch {
	case longest < lease, attempt <= 0 && !bounded:
		return nil
	case longest == unbounded:
		return c.bad("Breaker.ProbeTimeout is %v, but a probe may take for ever, and would then never close the breaker: %s, or set a Total that is shorter than ProbeTimeout", lease, change)
	default:
		return c.bad("Breaker.ProbeTimeout is %v, but a probe may take %v, and would then never close the breaker: %s, or lengthen ProbeTimeout", lease, longest, change)
	}
}

// limitOf returns the limit of c, 0 if there is no c and negative if it is off.
func limitOf(c *timeout.Config) time.Duration {
	if c == nil {
		return 0
	}
	return cmp.Or(c.Timeout, defaults.Limit)
}

// ServerConfig says what a server stack is made of. Start with DefaultServer. A
// layer that is nil is left out, so the zero value guards nothing.
type ServerConfig struct {
	// Name is that of all layers that have no name of their own.
	Name string
	// Observer hears of the events of all layers that have no Observer of their
	// own. nil: none.
	Observer resilience.Observer

	Limit *limit.Config // its Max is the hard bound of what is in the handler
	// Bulkhead is left out by default. It counts streams and upgraded connections
	// until they end, which Limit no longer does once they have answered: set one, with
	// a Limit of its own and a negative MaxQueue, to bound how many are open.
	Bulkhead *bulkhead.Config
}

// DefaultServer returns the configuration of Server, to change before New.
func DefaultServer(name string) ServerConfig {
	return ServerConfig{Name: name, Limit: &limit.Config{Name: name}}
}

// New returns the stack, or an error that says what to change: what is wrong with a
// layer.
func (c ServerConfig) New() (resilience.Policy, error) {
	c.inherit()
	p, err := layers(layer(c.Limit, limit.New), layer(c.Bulkhead, bulkhead.New))
	if err != nil {
		return nil, err
	}
	return p, nil
}

// inherit is as that of a ClientConfig.
func (c *ServerConfig) inherit() {
	c.Limit = with(c.Limit, func(l *limit.Config) { inherit(&l.Name, c.Name, &l.Observer, c.Observer) })
	c.Bulkhead = with(c.Bulkhead, func(l *bulkhead.Config) { inherit(&l.Name, c.Name, &l.Observer, c.Observer) })
}

// layer makes the policy of a layer when it is called; of one that is left out it
// makes nil.
func layer[C any, P resilience.Policy](c *C, build func(C) (P, error)) func() (resilience.Policy, error) {
	return func() (resilience.Policy, error) {
		if c == nil {
			return nil, nil
		}
		p, err := build(*c)
		if err != nil {
			return nil, err
		}
		return p, nil
	}
}

// layers composes what builders make, or returns all that is wrong with it.
func layers(builders ...func() (resilience.Policy, error)) (resilience.Policy, error) {
	var policies []resilience.Policy
	var errs []error
	for _, build := range builders {
		p, err := build()
		policies, errs = append(policies, p), append(errs, err)
	}
	return resilience.Compose(policies...), errors.Join(errs...)
}
