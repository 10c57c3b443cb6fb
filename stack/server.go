package stack

import (
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/limit"
)

// ServerConfig configures a server stack. Only Name is required: every other zero value is
// a good default. A ServerConfig is a value: a copy shares nothing with the original.
type ServerConfig struct {
	// Name is the name of the service. Layers without a name take it.
	Name string
	// Observer is called with the events of all layers that have no Observer. nil: none.
	Observer resilience.Observer

	// Limit finds out how many requests the handler can use at once. Its Max bounds the
	// requests in the handler.
	Limit limit.Config
	// Bulkhead bounds streams and upgraded connections, which it counts until they end:
	// Limit does not count them once they have answered. It is on when Bulkhead.Slots is
	// set. Its MaxQueue should be bulkhead.NoQueue, since Limit has a queue of its own.
	Bulkhead bulkhead.Config

	// Without leaves layers out: stack.Limit is the only one that can be left out. The
	// configuration of a layer that is left out is ignored.
	Without Layer
}

// DefaultServer returns the configuration of Server, to change before New.
func DefaultServer(name string) ServerConfig { return ServerConfig{Name: name} }

// New returns the stack, or an error that says what to change. It checks each layer. A
// stack needs a name and at least one policy that guards something.
func (c ServerConfig) New() (resilience.Policy, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	inherit(&c.Limit.Name, c.Name, &c.Limit.Observer, c.Observer)
	inherit(&c.Bulkhead.Name, c.Name, &c.Bulkhead.Observer, c.Observer)
	var b builder
	add(&b, !c.Without.has(Limit), c.Limit, limit.New)
	add(&b, c.Bulkhead.Slots != 0, c.Bulkhead, bulkhead.New)
	if err := b.err(); err != nil {
		return nil, err
	}
	return resilience.Compose(b.policies...), nil
}

// validate returns an error if the stack as a whole is wrong. The layers validate
// themselves.
func (c ServerConfig) validate() error {
	if err := checkName(c.Name, "orders"); err != nil {
		return err
	}
	if !Limit.has(c.Without) {
		return bad(c.Name, "Without has %v, and only %v can be left out of a server: a Bulkhead without Slots is off", c.Without&^Limit, Limit)
	}
	if b := c.Bulkhead; b.Slots == 0 && (b.Name != "" || b.MaxQueue != 0 || b.MaxWait != 0) {
		return bad(c.Name, "Bulkhead has other settings but no Slots, and so is off: set Bulkhead.Slots, or remove the settings")
	}
	if c.Without.has(Limit) && c.Bulkhead.Slots == 0 {
		return bad(c.Name, "Without is %v and Bulkhead.Slots is not set, so nothing is guarded: keep the limit, or use resilience.Compose() for no policy", c.Without)
	}
	return nil
}
