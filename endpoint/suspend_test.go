package endpoint_test

import (
	"errors"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/internal/testkit"
)

var errBroken = errors.New("broken")

// mockSet returns a set of the addresses that reads the time from the returned clock.
func mockSet(addresses ...string) (*endpoint.Set, *testkit.Clock) {
	clock := testkit.NewClock()
	s := resilience.Must(endpoint.New(endpoint.Config{Name: "x", Clock: clock}))
	s.Update(addresses, nil)
	return s, clock
}

// try makes an attempt that takes a millisecond and ends with r, and returns its address.
func try(s *endpoint.Set, clock *testkit.Clock, r func(address string) endpoint.Result) string {
	p, ok := s.Pick(nil)
	if !ok {
		return ""
	}
	clock.Move(time.Millisecond)
	p.Answered(r(p.Endpoint().Address()), errBroken)
	p.End()
	return p.Endpoint().Address()
}

func well(string) endpoint.Result { return endpoint.Success }

// fails returns results in which the attempts at one address end with r.
func fails(address string, r endpoint.Result) func(string) endpoint.Result {
	return func(a string) endpoint.Result {
		if a == address {
			return r
		}
		return endpoint.Success
	}
}

// suspend suspends the endpoints with the addresses and no others.
func suspend(s *endpoint.Set, addresses ...string) {
	s.Suspend(func(e *endpoint.Endpoint) bool {
		for _, a := range addresses {
			if e.Address() == a {
				return true
			}
		}
		return false
	})
}

// state returns the state of an address.
func state(s *endpoint.Set, address string) string {
	for _, e := range s.Stats().Endpoints {
		if e.Address == address {
			return e.State
		}
	}
	return ""
}

// A suspended endpoint is listed and gets no attempts. A failure of an attempt that was in
// flight still ejects it, and it is still ejected when it is no longer suspended.
func TestSet_Suspend(t *testing.T) {
	s, clock := mockSet("a", "b", "c")
	for range 50 {
		try(s, clock, well)
	}
	var p endpoint.Pick
	for p, _ = s.Pick(nil); p.Endpoint().Address() != "a"; p, _ = s.Pick(nil) {
		p.End()
	}
	suspend(s, "a")
	for range 100 {
		if a := try(s, clock, well); a == "a" {
			t.Fatal("a suspended endpoint was picked")
		}
	}
	if got := state(s, "a"); got != endpoint.Suspended {
		t.Errorf("a is %s", got)
	}
	p.Answered(endpoint.Unreachable, errBroken)
	p.End()
	suspend(s)
	if got := state(s, "a"); got != endpoint.Ejected {
		t.Errorf("a is %s", got)
	}
}

// An ejected endpoint that is no longer suspended gets a probe after a second, not after 30.
func TestSet_Suspend_probe(t *testing.T) {
	s, clock := mockSet("a", "b", "c")
	for state(s, "a") != endpoint.Ejected {
		try(s, clock, fails("a", endpoint.Unreachable))
	}
	suspend(s, "a")
	suspend(s)
	clock.Move(2 * time.Second)
	for i := 0; try(s, clock, well) != "a"; i++ {
		if i == 3 {
			t.Fatal("no probe")
		}
	}
	if got := state(s, "a"); got != endpoint.Returning {
		t.Errorf("a is %s", got)
	}
}

// Pick returns false if all endpoints are suspended, and the last one that is not suspended
// is used even if it was ejected.
func TestSet_Suspend_last(t *testing.T) {
	s, clock := mockSet("a", "b")
	for state(s, "a") != endpoint.Ejected {
		try(s, clock, fails("a", endpoint.Unreachable))
	}
	suspend(s, "b")
	if a := try(s, clock, well); a != "a" {
		t.Errorf("%q was picked", a)
	}
	suspend(s, "a", "b")
	if a := try(s, clock, well); a != "" {
		t.Errorf("%q was picked", a)
	}
}

// Forget ends an ejection, and the endpoint starts slowly.
func TestEndpoint_Forget(t *testing.T) {
	s, clock := mockSet("a", "b", "c")
	for state(s, "a") != endpoint.Ejected {
		try(s, clock, fails("a", endpoint.Failure))
	}
	for _, e := range s.Endpoints() {
		if e.Address() == "a" {
			e.Forget()
		}
	}
	st := s.Stats().Endpoints[0]
	if st.State != endpoint.Returning || st.Failures != 0 || st.Latency != 0 {
		t.Errorf("a is %+v", st)
	}
}

// An attempt that is Untimed owes no answer, and its time is not in the latency.
func TestPick_Untimed(t *testing.T) {
	s, clock := mockSet("a", "b")
	for range 50 {
		try(s, clock, well)
	}
	p, _ := s.Pick(nil)
	p.Untimed()
	lasting := p.Endpoint().Address()
	clock.Move(time.Hour)
	n := 0
	for range 100 {
		if try(s, clock, well) == lasting {
			n++
		}
	}
	if n == 0 {
		t.Error("an endpoint with a lasting attempt is avoided")
	}
	p.Answered(endpoint.Success, nil)
	p.End()
	for _, e := range s.Stats().Endpoints {
		if e.Latency > 10*time.Millisecond || e.InFlight != 0 {
			t.Errorf("%+v", e)
		}
	}
}

// The time for which a set has existed does not delay the probe of an endpoint whose
// failures began while it was the only one.
func TestSet_failedAlone(t *testing.T) {
	s, clock := mockSet("a")
	clock.Move(100 * time.Hour)
	try(s, clock, fails("a", endpoint.Unreachable))
	s.Update([]string{"a", "b", "c"}, nil)
	for state(s, "a") != endpoint.Ejected {
		try(s, clock, fails("a", endpoint.Unreachable))
	}
	if in := s.Stats().Endpoints[0].ProbeAt.Sub(clock.Now()); in > time.Minute {
		t.Errorf("the probe is due in %v", in)
	}
}
