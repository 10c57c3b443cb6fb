package metrics_test

import (
	"errors"
	"testing"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/resiliencetest"
)

var twoAddresses = []string{"a:1", "b:1"}

func newEndpoints(name string) *endpoint.Set {
	return resilience.Must(endpoint.New(endpoint.Config{Name: name, Clock: clock.NewMock(), Rand: func() uint64 { return 0 }}))
}

// endpoints returns the series of a Set, which have no addresses.
func endpoints(in, probes, failing, unreachable, timeouts, failures float64, states [3]float64) scraped {
	return scraped{
		series("endpoint_picks_total", "e", "kind", "in"):                in,
		series("endpoint_picks_total", "e", "kind", "probe"):             probes,
		series("endpoint_picks_total", "e", "kind", "all_failing"):       failing,
		series("endpoint_ejections_total", "e", "reason", "unreachable"): unreachable,
		series("endpoint_ejections_total", "e", "reason", "timeout"):     timeouts,
		series("endpoint_ejections_total", "e", "reason", "failures"):    failures,
		series("endpoint_replicas", "e", "state", "in"):                  states[0],
		series("endpoint_replicas", "e", "state", "ejected"):             states[1],
		series("endpoint_replicas", "e", "state", "returning"):           states[2],
		series("endpoint_replicas", "e", "state", "suspended"):           0,
	}
}

// end makes an attempt with that result and returns its endpoint.
func end(t *testing.T, s *endpoint.Set, r endpoint.Result) *endpoint.Endpoint {
	t.Helper()
	p, ok := s.Pick(nil)
	if !ok {
		t.Fatal("there are no endpoints")
	}
	defer p.End()
	p.Answered(r, errDown)
	return p.Endpoint()
}

// Attempts and ejections are counted for the Set. No series has an address.
func TestCollector_endpoints(t *testing.T) {
	s := newEndpoints("e")
	s.Update(twoAddresses, nil)
	reg, _ := register(t, s)
	scrape(t, reg).check(t, "e", endpoints(0, 0, 0, 0, 0, 0, [3]float64{2, 0, 0}))
	end(t, s, endpoint.Success)
	end(t, s, endpoint.Unreachable)
	scrape(t, reg).check(t, "e", endpoints(2, 0, 0, 1, 0, 0, [3]float64{1, 1, 0}))
	for range 4 {
		end(t, s, endpoint.Failure)
	}
	scrape(t, reg).check(t, "e", endpoints(5, 0, 1, 1, 0, 0, [3]float64{1, 1, 0}))
}

// The endpoints of all keys of a group are summed, and a key that the group has dropped
// leaves its counts.
func TestCollector_endpointsOfKeys(t *testing.T) {
	root := newEndpoints("e")
	g := newGroup(t, root, keyed.Config{})
	reg, _ := register(t, g)
	for _, key := range []string{"users", "orders"} {
		_ = resilience.Run(t.Context(), g.For(key), resiliencetest.Script(errors.New("makes the key")).Run)
	}
	for n := range resilience.Walk(g) {
		if s, ok := n.Policy.(*endpoint.Set); ok && n.Fork {
			s.Update(twoAddresses, nil)
			end(t, s, endpoint.Unreachable)
		}
	}
	scrape(t, reg).check(t, "e", endpoints(2, 0, 0, 2, 0, 0, [3]float64{2, 2, 0}))
}
