// Package stack combines the policies that are right for most services, in the right
// order and with the right numbers.
//
//	client := &http.Client{Transport: &httpmw.Transport{Policy: stack.Client("payments")}}
//	mux.Handle("/orders", httpmw.Server{Policy: stack.Server("orders")}.Wrap(orders))
//
// The order in front of a dependency is
//
//	total timeout(        off by default: the caller's deadline is the total
//	  keyed(              the policies below, once for each host or method
//	    retry(            within a budget; rejections are not retried
//	      breaker(        judges each attempt
//	        bulkhead(     its slot is free during the backoff
//	          timeout(    of one attempt
//	            operation
//
// and in front of a handler
//
//	limit(                finds by trials how many requests the handler can use at once
//	  bulkhead(           off by default: a number that you set
//	    operation
//
// The one setting that only you know is how long an attempt may take:
//
//	c := stack.DefaultClient("payments")
//	c.Attempt.Timeout = 500 * time.Millisecond
//	p, err := c.New()
//
// To see a stack with its numbers, print its configuration or the result of Describe.
package stack

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/resilience-go/resilience"
)

// Client returns the default stack for calls to a dependency: at most three attempts, a
// breaker, a bulkhead that sizes itself, and 10 s for an attempt to answer. Each key, such
// as a host over HTTP, has its own state. Errors, events and metrics carry name. Client
// panics if name is empty.
func Client(name string) resilience.Policy {
	return resilience.Must(DefaultClient(name).New())
}

// Server returns the default stack for a service: a limit that finds out how many requests
// the service can use at once. The limit rejects nothing before it has proof of an
// overload, unless its queue is full. Requests that take about the same time should share
// one stack. Give a group of routes that takes much longer a stack of its own. Errors,
// events and metrics carry name. Server panics if name is empty.
func Server(name string) resilience.Policy {
	return resilience.Must(DefaultServer(name).New())
}

// Layer is a set of layers of a stack. Combine layers with |, as in
// stack.Retry | stack.Bulkhead.
type Layer uint8

// The layers that the field Without of ClientConfig can leave out are Keyed, Retry,
// Breaker, Bulkhead and Attempt. ServerConfig can leave out Limit. Each comment says what
// happens when the layer is left out.
const (
	Keyed    Layer = 1 << iota // all keys share one state
	Retry                      // each call has one attempt
	Breaker                    // calls are attempted however many have failed
	Bulkhead                   // any number of calls may be in flight
	Attempt                    // an attempt may take as long as its caller waits
	Limit                      // any number of requests may be in the handler

	clientLayers = Keyed | Retry | Breaker | Bulkhead | Attempt
)

var layerNames = []string{"Keyed", "Retry", "Breaker", "Bulkhead", "Attempt", "Limit"}

// String returns the names of the layers as they stand in code, as in
// "stack.Retry|stack.Bulkhead".
func (l Layer) String() string {
	if l == 0 {
		return "0"
	}
	var names []string
	for i, name := range layerNames {
		if bit := Layer(1) << i; l&bit != 0 {
			names = append(names, "stack."+name)
			l &^= bit
		}
	}
	if l != 0 {
		names = append(names, fmt.Sprintf("stack.Layer(%d)", uint8(l)))
	}
	return strings.Join(names, "|")
}

// has reports whether l contains every layer of other.
func (l Layer) has(other Layer) bool { return l&other == other }

// bad returns an error about the stack with that name.
func bad(name, format string, args ...any) error {
	return fmt.Errorf("stack %q: "+format, append([]any{name}, args...)...)
}

// checkName returns an error if a stack has no name.
func checkName(name, example string) error {
	if name == "" {
		return bad(name, "Name is empty: set it to a name that errors, events and metrics can carry, as in %q", example)
	}
	return nil
}

// inherit fills in the name and the observer of a layer that has none.
func inherit(name *string, stackName string, observer *resilience.Observer, stackObserver resilience.Observer) {
	*name = cmp.Or(*name, stackName)
	if *observer == nil {
		*observer = stackObserver
	}
}

// builder collects the policies of the layers that are on, outermost first, and the errors
// of all of them.
type builder struct {
	policies []resilience.Policy
	errs     []error
}

// add makes the policy of a layer if the layer is on.
func add[C any, P resilience.Policy](b *builder, on bool, c C, build func(C) (P, error)) {
	if !on {
		return
	}
	p, err := build(c)
	if err != nil {
		b.errs = append(b.errs, err)
		return
	}
	b.policies = append(b.policies, p)
}

func (b *builder) err() error { return errors.Join(b.errs...) }
