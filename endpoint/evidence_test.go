package endpoint_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/resilience-go/resilience/endpoint"
)

// When no endpoint answers any more, an attempt does not go on at the next one: otherwise
// each client would try all endpoints of a dependency that is down. One answer ends that.
func TestSet_Working_noAnswer(t *testing.T) {
	s, err := endpoint.New(endpoint.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for i := range 20 {
		all = append(all, fmt.Sprintf("h%02d", i))
	}
	s.Update(all, nil)
	attempt := func(r endpoint.Result) {
		p, _ := s.Pick(nil)
		p.Answered(r, nil)
		p.End()
	}
	for _, answer := range []endpoint.Result{endpoint.Success, endpoint.Busy, endpoint.Failure} {
		attempt(answer)
		for n := range 6 {
			if !s.Working(nil) {
				t.Fatalf("no endpoint works after %v and %d attempts without an answer", answer, n)
			}
			attempt(endpoint.Unreachable)
		}
		if s.Working(nil) {
			t.Errorf("an endpoint works although none has answered 6 attempts since %v", answer)
		}
		attempt(endpoint.Ignored)
		if s.Working(nil) {
			t.Error("an ignored attempt counts as an answer")
		}
	}
}

// A timeout that is longer than four times a latency of few samples ejects no endpoint: such a
// latency may be far too short, and a caller's deadline with it.
func TestSet_Answered_fewSamples(t *testing.T) {
	r := newRig(t, 3)
	attempt := func(i int, took time.Duration, result endpoint.Result) {
		p := r.at(i)
		r.clock.Move(took)
		p.Answered(result, nil)
		p.End()
	}
	attempt(1, 2*ms, endpoint.Success)
	attempt(2, 2*ms, endpoint.Success)
	attempt(0, 20*ms, endpoint.Timeout)
	if n := r.Stats().Timeouts; n != 0 {
		t.Errorf("%d ejections after two samples", n)
	}
	for range 4 {
		attempt(1, 2*ms, endpoint.Success)
		attempt(2, 2*ms, endpoint.Success)
	}
	attempt(0, 20*ms, endpoint.Timeout)
	if n := r.Stats().Timeouts; n != 1 {
		t.Errorf("%d ejections after ten samples, want 1", n)
	}
}

// An ejection ends also if the clock is set back to before the Set was made.
func TestSet_Pick_clockSetBack(t *testing.T) {
	r := newRig(t, 2)
	p := r.at(0)
	p.Answered(endpoint.Unreachable, nil)
	p.End()
	r.clock.Move(-time.Hour)
	for failed := range 2 {
		for n := 0; ; n++ {
			if n == 100 {
				t.Fatalf("no probe after %d failed ones", failed)
			}
			r.clock.Move(time.Second)
			p := r.pick(nil)
			probe := p.Probe()
			if probe {
				p.Answered(endpoint.Unreachable, nil)
			} else {
				p.Answered(endpoint.Success, nil)
			}
			p.End()
			if probe {
				break
			}
		}
	}
}
