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
// a layer, or what does not fit together.
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

// validate checks what concerns more than one layer.
func (c ClientConfig) validate() error {
	attempt := limit(c.Attempt)
	if total := limit(c.Total); attempt > 0 && total > 0 && attempt > total {
		return fmt.Errorf("stack: Attempt.Limit is %v, longer than Total.Limit, which is %v: an attempt could never use its time; shorten it or lengthen the total", attempt, total)
	}
	if c.Breaker == nil || c.Attempt == nil || attempt < 0 {
		return nil
	}
	lease := or(c.Breaker.ProbeTimeout, defaults.ProbeTimeout)
	longest := attempt
	if c.Bulkhead != nil && c.Bulkhead.MaxQueue >= 0 {
		wait := max(0, or(c.Bulkhead.MaxWait, defaults.MaxWait))
		longest += min(wait, math.MaxInt64-longest)
	}
	if lease >= 0 && lease <= longest {
		return fmt.Errorf("stack: Breaker.ProbeTimeout is %v, but a probe may take %v to wait for a slot and answer (Bulkhead.MaxWait and Attempt.Limit): lengthen ProbeTimeout, or shorten the others, or a slow dependency could never close the breaker", lease, longest)
	}
	return nil
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
// layer that is nil is left out.
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
