package main

import (
	"net/http"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/metrics"
	"github.com/resilience-go/resilience/stack"
)

// newProtected returns a client with the default stack, and its policy. The
// timeout of an attempt is the only setting. The observer and the histogram change
// nothing; they are for the display and for the pages.
func newProtected(name string, base http.RoundTripper, o resilience.Observer) (*http.Client, resilience.Policy, error) {
	c := stack.DefaultClient(name)
	c.Attempt.Timeout = attempt
	c.Breaker.Observer = o
	p, err := c.New()
	if err != nil {
		return nil, nil, err
	}
	h, err := metrics.NewHistogram(metrics.HistogramConfig{Name: name})
	if err != nil {
		return nil, nil, err
	}
	p = resilience.Compose(h, p)
	return &http.Client{Transport: &httpmw.Transport{Base: base, Policy: p}}, p, nil
}
