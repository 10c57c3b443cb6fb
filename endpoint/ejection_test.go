package endpoint_test

import (
	"math"
	"testing"
	"time"

	"github.com/resilience-go/resilience/endpoint"
)

// An endpoint that cannot be connected is ejected at once.
func TestSet_ejects_unreachable(t *testing.T) {
	r := newRig(t, 3)
	r.eject(1)
	r.want(0, endpoint.In)
	r.want(2, endpoint.In)
	if c := r.Stats().Counters; c.Unreachable != 1 || c.Timeouts+c.Failures != 0 {
		t.Errorf("%+v", c)
	}
}

// An endpoint that has answered another attempt since the dial began is not ejected at once.
func TestSet_ejects_unreachableAnswered(t *testing.T) {
	r := newRig(t, 3)
	dial := r.at(1)
	r.clock.Move(time.Second)
	r.attempt(1, endpoint.Success, ms)
	dial.Answered(endpoint.Unreachable, nil)
	r.want(1, endpoint.In)
}

// An endpoint is ejected when an attempt timed out and it has answered no other attempt since
// that began.
func TestSet_ejects_timeout(t *testing.T) {
	r := newRig(t, 3)
	r.warm()
	first, second := r.at(1), r.at(1)
	r.clock.Move(ms)
	second.Answered(endpoint.Success, nil)
	r.clock.Move(time.Second)
	first.Answered(endpoint.Timeout, nil)
	r.want(1, endpoint.In)
	r.attempt(1, endpoint.Timeout, time.Second)
	r.want(1, endpoint.Ejected)
	if c := r.Stats().Counters; c.Timeouts != 1 || c.Unreachable+c.Failures != 0 {
		t.Errorf("%+v", c)
	}
}

// A timeout is no reason to eject at once if it was short, if nothing is known about the
// others, or if a fifth of their attempts fail.
func TestSet_ejects_timeoutIsNoEvidence(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*rig)
		took    time.Duration
	}{
		"short":               {func(r *rig) { r.warm() }, 40 * ms},
		"short after a pause": {func(r *rig) { r.warm(); r.clock.Move(5 * time.Minute) }, 40 * ms},
		"cold":                {func(*rig) {}, time.Second},
		"others fail": {func(r *rig) {
			r.warm()
			r.attempt(0, endpoint.Failure, 10*ms)
			r.attempt(2, endpoint.Failure, 10*ms)
		}, time.Second},
	} {
		r := newRig(t, 3)
		c.prepare(r)
		r.attempt(1, endpoint.Timeout, c.took)
		if s := r.Stats().Endpoints[1].State; s != endpoint.In {
			t.Errorf("%s: %s", name, s)
		}
		r.warm()
		r.attempt(1, endpoint.Timeout, time.Second)
		if c.took < time.Second {
			r.want(1, endpoint.Ejected)
		}
	}
}

// Four failures in a row eject an endpoint if the others do not fail. A success ends the row.
func TestSet_ejects_failures(t *testing.T) {
	r := newRig(t, 3)
	r.warm()
	for range 3 {
		r.attempt(1, endpoint.Failure, ms)
	}
	r.attempt(1, endpoint.Success, ms)
	for range 3 {
		r.attempt(1, endpoint.Failure, ms)
	}
	r.want(1, endpoint.In)
	r.attempt(1, endpoint.Failure, ms)
	r.want(1, endpoint.Ejected)
	if c := r.Stats().Counters; c.Failures != 1 || c.Unreachable+c.Timeouts != 0 {
		t.Errorf("%+v", c)
	}
}

// If half of the answers of the others are failures, it takes 17 failures in a row to eject.
func TestSet_ejects_failuresOfHalf(t *testing.T) {
	r := newRig(t, 2)
	for range 40 {
		r.attempt(0, endpoint.Success, ms)
		r.attempt(0, endpoint.Failure, ms)
	}
	failures := 0
	for ; failures < 30 && r.Stats().Endpoints[1].State == endpoint.In; failures++ {
		r.attempt(1, endpoint.Failure, 0)
	}
	share := r.Stats().Endpoints[0].Failures
	want := int(math.Ceil(math.Log(1e-5) / math.Log(share)))
	if failures != want || want < 16 || want > 20 {
		t.Errorf("%d failures while the other fails %.2f, want %d", failures, share, want)
	}
}

// Where all fail alike, none is ejected.
func TestSet_ejects_noneIfAllFail(t *testing.T) {
	for _, succeed := range []uint64{0, 1, 5, 9} { // of ten
		r := newRig(t, 3)
		for round := range uint64(500) {
			for i := range 3 {
				result := endpoint.Success
				if round >= 3 && r.rand()%10 >= succeed {
					result = endpoint.Failure
				}
				r.attempt(i, result, ms)
			}
		}
		if c := r.Stats().Counters; c.Failures != 0 {
			t.Errorf("%d of ten succeed: %+v", succeed, c)
		}
	}
}

// A failure that comes more than a minute after the last one begins a new row.
func TestSet_ejects_age(t *testing.T) {
	for pause, want := range map[time.Duration]string{50 * time.Second: endpoint.Ejected, time.Hour: endpoint.In} {
		r := newRig(t, 3)
		r.warm()
		for range 3 {
			r.attempt(1, endpoint.Failure, ms)
		}
		r.clock.Move(pause)
		r.attempt(1, endpoint.Failure, ms)
		r.want(1, want)
	}
	// A hang is no pause.
	r := newRig(t, 3)
	r.warm()
	for range 4 {
		r.want(1, endpoint.In)
		p := r.at(1)
		r.clock.Move(2 * time.Minute)
		p.Answered(endpoint.Failure, nil)
	}
	r.want(1, endpoint.Ejected)
}

// The last endpoint is never ejected.
func TestSet_ejects_notTheLast(t *testing.T) {
	r := newRig(t, 3)
	r.warm()
	r.eject(0)
	r.eject(1)
	for _, result := range []endpoint.Result{endpoint.Unreachable, endpoint.Timeout, endpoint.Failure} {
		for range 10 {
			p := r.pick(nil)
			r.clock.Move(time.Second)
			p.Answered(result, nil)
			p.End()
		}
		r.want(2, endpoint.In)
	}
}

// While all that are left fail, Pick chooses among all.
func TestSet_Pick_allFail(t *testing.T) {
	r := newRig(t, 3)
	r.eject(0)
	r.attempt(1, endpoint.Unreachable, ms)
	for range 3 {
		r.attempt(2, endpoint.Failure, ms)
	}
	seen := map[string]bool{}
	for range 50 {
		p := r.pick(nil)
		seen[p.Endpoint().Address()] = true
		if p.Probe() {
			t.Fatal("a probe")
		}
	}
	if len(seen) != 3 || r.Stats().PicksOfFailing != 50 {
		t.Errorf("picked %v, %+v", seen, r.Stats().Counters)
	}
}

// Results of attempts that began before the ejection, or before the return, change nothing.
func TestSet_stale(t *testing.T) {
	for _, result := range []endpoint.Result{
		endpoint.Success, endpoint.Busy, endpoint.Failure, endpoint.Timeout, endpoint.Unreachable, endpoint.Ignored,
	} {
		r := newRig(t, 3)
		r.warm()
		old := []*endpoint.Pick{r.at(1), r.at(1), r.at(1), r.at(1), r.at(1), r.at(1), r.at(1), r.at(1), r.at(1), r.at(1)}
		r.eject(1)
		before := r.Stats().Endpoints[1]
		r.clock.Move(900 * ms)
		for _, p := range old[:5] {
			p.Answered(result, errWork)
		}
		if after := r.Stats().Endpoints[1]; after.State != before.State || after.ProbeAt != before.ProbeAt || after.Since != before.Since {
			t.Fatalf("%v: %+v and then %+v", result, before, after)
		}
		r.attempt(1, endpoint.Success, 10*ms)
		r.want(1, endpoint.Returning)
		r.attempt(1, endpoint.Success, 10*ms)
		r.clock.Move(10 * time.Second)
		before = r.Stats().Endpoints[1]
		for _, p := range old[5:] {
			p.Answered(result, errWork)
		}
		if after := r.Stats().Endpoints[1]; after != before {
			t.Errorf("%v: %+v and then %+v", result, before, after)
		}
	}
}

// An attempt that hangs from before the ejection is no silence of the endpoint that returned.
func TestSet_stale_silence(t *testing.T) {
	r := newRig(t, 2)
	r.warm()
	r.at(1)
	r.eject(1)
	r.clock.Move(2 * time.Second)
	for range 5 {
		r.attempt(1, endpoint.Success, 10*ms)
	}
	r.at(0) // so that both have one in flight
	r.clock.Move(39 * ms)
	if got := r.choice(1, 0, 2); got != "e01" {
		t.Errorf("picked %s", got)
	}
}

// A clock that is set back neither keeps an endpoint ejected nor a lease.
func TestSet_clockSetBack(t *testing.T) {
	for _, lease := range []bool{false, true} {
		r := newRig(t, 3)
		r.clock.Move(3 * time.Hour)
		r.warm()
		r.eject(1)
		if lease {
			r.at(1)
		}
		r.clock.Move(-2 * time.Hour)
		if probes, first := r.probed(200, 0); probes == 0 || first > 100 {
			t.Errorf("lease %v: %d probes, the first is pick %d", lease, probes, first)
		}
		r.attempt(1, endpoint.Success, ms)
		r.want(1, endpoint.Returning)
	}
}

// A clock that is set forward a year, or back, keeps no endpoint out of work: within seven minutes
// the wrong latency has faded.
func TestSet_clockJumps(t *testing.T) {
	for _, jump := range []time.Duration{365 * 24 * time.Hour, -time.Hour} {
		r := newRig(t, 2)
		r.clock.Move(2 * time.Hour)
		r.warm()
		p := r.at(1)
		r.clock.Move(jump)
		p.Answered(endpoint.Success, nil)
		p.End()
		picked := 0
		for range 4000 {
			p := r.pick(nil)
			r.clock.Move(100 * ms)
			if p.Endpoint() == r.Endpoints()[1] {
				picked++
			}
			p.Answered(endpoint.Success, nil)
			p.End()
		}
		if s := r.Stats(); picked < 50 || s.Unreachable+s.Timeouts+s.Failures > 0 {
			t.Errorf("%v: %d picks of 4000, %+v", jump, picked, s)
		}
	}
}
