package main

import (
	"net/http"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/stack"
)

// newProtected returns a client with the default stack. The limit of an attempt
// is the only setting, and the observer, which changes nothing, is for the
// display.
func newProtected(name string, base http.RoundTripper, o resilience.Observer) (*http.Client, error) {
	c := stack.DefaultClient(name)
	c.Attempt.Limit = attempt
	c.Breaker.Observer = o
	p, err := c.New()
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &httpmw.Transport{Base: base, Policy: p}}, nil
}
