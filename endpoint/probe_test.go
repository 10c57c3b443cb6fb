package endpoint_test

import (
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/resiliencetest"
)

// A probe comes after a second and 200 picks.
func TestSet_probe_due(t *testing.T) {
	r := newRig(t, 3)
	r.warm()
	r.eject(1)
	if n, _ := r.probed(999, 0); n != 0 {
		t.Fatalf("%d probes in the first second", n)
	}
	r.clock.Move(time.Second)
	if n, _ := r.probed(1, 0); n != 1 {
		t.Fatal("no probe after a second and 999 picks")
	}
	// It failed: the next one comes after as much again.
	if n, first := r.probed(1000, 10*ms); n < 4 || first != 200 {
		t.Errorf("%d probes in 1000 picks, the first is pick %d", n, first)
	}
}

// With fewer picks a probe comes after 30 s ± 20 %, but only after as many picks as there are
// endpoints. So rare calls are not all probes.
func TestSet_probe_fewPicks(t *testing.T) {
	for name, c := range map[string]struct {
		n           int
		between     time.Duration
		first, last int // the pick that is the first probe
	}{
		"each second": {3, time.Second, 24, 36},
		"each minute": {3, time.Minute, 3, 3},
		"each hour":   {20, time.Hour, 20, 20},
	} {
		r := newRig(t, c.n)
		r.eject(1)
		if _, first := r.probed(50, c.between); first < c.first || first > c.last {
			t.Errorf("%s: the first probe is pick %d", name, first)
		}
	}
}

// The time of the probe is random, so that clients do not probe together.
func TestSet_probe_random(t *testing.T) {
	for random, want := range map[uint64]time.Duration{0: 24 * time.Second, 1 << 63: 30 * time.Second, 1<<64 - 1<<11: 36 * time.Second} {
		r := newRig(t, 2)
		p := r.at(0)
		r.next = []uint64{random}
		p.Answered(endpoint.Unreachable, nil)
		got := r.Stats().Endpoints[0].ProbeAt.Sub(r.clock.Now())
		if d := got - want; d < -ms || d > ms {
			t.Errorf("due in %v, want %v", got, want)
		}
	}
}

// In an outage of hours, a probe still comes within 36 s.
func TestSet_probe_longOutage(t *testing.T) {
	r := newRig(t, 3)
	r.warm()
	r.eject(1)
	last, gap := 0, 0
	for i := range 10_000 {
		r.clock.Move(time.Second)
		p := r.pick(nil)
		if p.Probe() {
			gap, last = i-last, i
			p.Answered(endpoint.Timeout, nil)
		}
		p.Answered(endpoint.Success, nil)
		p.End()
		if i-last > 36 {
			t.Fatalf("no probe for %d s", i-last)
		}
	}
	if gap < 24 {
		t.Errorf("the last two probes are %d s apart", gap)
	}
}

// In a long outage with many calls, a probe comes after an eighth of the outage.
func TestSet_probe_eighth(t *testing.T) {
	r := newRig(t, 3)
	r.warm()
	r.eject(1)
	for range 60 {
		r.probed(200, 5*ms)
	}
	r.clock.Move(4 * time.Second) // the outage lasts for 64 s, and the last probe was before
	r.attempt(1, endpoint.Failure, 0)
	if _, first := r.probed(2000, 5*ms); first < 1600 || first > 1650 {
		t.Errorf("the first probe is pick %d, want that after 8 s", first)
	}
}

// When another endpoint is ejected or returns, the one that has been ejected for the longest
// time gets a probe at once.
func TestSet_probe_atChange(t *testing.T) {
	r := newRig(t, 4)
	r.warm()
	r.eject(0)
	r.clock.Move(2 * time.Second)
	r.eject(1)
	p := r.pick(nil)
	if !p.Probe() || p.Endpoint() != r.Endpoints()[0] {
		t.Fatalf("after an ejection: probe %v of %s", p.Probe(), p.Endpoint().Address())
	}
	p.Answered(endpoint.Failure, nil)
	r.eject(2)
	r.clock.Move(2 * time.Second)
	r.attempt(2, endpoint.Success, ms)
	p = r.pick(nil)
	if !p.Probe() || p.Endpoint() != r.Endpoints()[0] && p.Endpoint() != r.Endpoints()[1] {
		t.Fatalf("after a return: probe %v of %s", p.Probe(), p.Endpoint().Address())
	}
}

// All ejected endpoints together get at most one pick in 100, or one in five seconds.
func TestSet_probe_together(t *testing.T) {
	for between, most := range map[time.Duration]int{ms: 21, 100 * ms: 41, time.Second: 400} {
		r := newRig(t, 20)
		r.warm()
		for i := range 10 {
			r.eject(i)
		}
		r.clock.Move(time.Minute)
		if n, _ := r.probed(2000, between); n > most || n < most/2 {
			t.Errorf("a pick in %v: %d probes in 2000 picks, want %d at most", between, n, most)
		}
	}
}

// An ejected endpoint gets one probe at a time. A probe that does not answer gives way after
// 15 s, and its result then neither ends the lease of the next probe nor moves the next one.
func TestSet_probe_lease(t *testing.T) {
	for _, result := range []endpoint.Result{endpoint.Ignored, endpoint.Timeout} {
		r := newRig(t, 2)
		r.warm()
		r.eject(1)
		first := r.at(1)
		next := func() *endpoint.Pick { return r.pick(r.only(1)) }
		if p := next(); p.Probe() {
			t.Fatal("a second probe")
		}
		r.clock.Move(15*time.Second - 1)
		if p := next(); p.Probe() {
			t.Fatal("a second probe within 15 s")
		}
		r.clock.Move(1)
		second := next()
		if !second.Probe() {
			t.Fatal("no probe after 15 s")
		}
		before := r.Stats().Endpoints[1].ProbeAt
		first.Answered(result, nil)
		if after := r.Stats().Endpoints[1].ProbeAt; after != before {
			t.Errorf("%v of the first probe moves the next one by %v", result, after.Sub(before))
		}
		if p := next(); p.Probe() {
			t.Errorf("%v of the first probe ends the lease of the second", result)
		}
		second.Answered(endpoint.Ignored, nil)
		if p := next(); !p.Probe() {
			t.Error("no probe after one that was ignored")
		}
	}
}

// A call that has tried all endpoints that are in probes an ejected one, due or not.
func TestSet_probe_untried(t *testing.T) {
	r := newRig(t, 2)
	r.eject(1)
	var trail endpoint.Trail
	if p := r.pick(&trail); p.Probe() || p.Endpoint() != r.Endpoints()[0] {
		t.Errorf("first %s", p.Endpoint().Address())
	}
	if p := r.pick(&trail); !p.Probe() || p.Endpoint() != r.Endpoints()[1] {
		t.Errorf("then %s, probe %v", p.Endpoint().Address(), p.Probe())
	}
	// While the probe holds the endpoint, and those that are in work, a retry stays with them.
	trail = endpoint.Trail{}
	r.pick(&trail)
	if p := r.pick(&trail); p.Endpoint() != r.Endpoints()[0] {
		t.Errorf("a second attempt at %s", p.Endpoint().Address())
	}
	// When they have failed twice, it goes to the ejected one all the same.
	r.attempt(0, endpoint.Failure, ms)
	r.attempt(0, endpoint.Failure, ms)
	trail = endpoint.Trail{}
	r.pick(&trail)
	if p := r.pick(&trail); p.Endpoint() != r.Endpoints()[1] || p.Probe() {
		t.Errorf("after failures %s, probe %v", p.Endpoint().Address(), p.Probe())
	}
	if s := r.Stats(); s.Probes != 1 || s.PicksOfFailing != 1 {
		t.Errorf("%+v", s)
	}
}

// A probe that succeeds, or is answered that the endpoint is busy, ends the ejection. Any
// other result does not.
func TestSet_probe_result(t *testing.T) {
	for result, want := range map[endpoint.Result]string{
		endpoint.Success: endpoint.Returning, endpoint.Busy: endpoint.Returning, endpoint.Failure: endpoint.Ejected,
		endpoint.Timeout: endpoint.Ejected, endpoint.Unreachable: endpoint.Ejected, endpoint.Ignored: endpoint.Ejected, 99: endpoint.Ejected,
	} {
		r := newRig(t, 2)
		r.eject(1)
		r.attempt(1, result, ms)
		if got := r.Stats().Endpoints[1].State; got != want {
			t.Errorf("%v: %s", result, got)
		}
	}
}

// An endpoint that works again returns, however rare the calls are.
func TestSet_probe_returns(t *testing.T) {
	for _, between := range []time.Duration{ms, time.Second, 10 * time.Minute} {
		for _, n := range []int{2, 3, 20} {
			r := newRig(t, n)
			r.warm()
			r.eject(1)
			calls := 0
			for ; r.Stats().Endpoints[1].State == endpoint.Ejected && calls < 5000; calls++ {
				r.clock.Move(between)
				p := r.pick(nil)
				p.Answered(endpoint.Success, nil)
				p.End()
			}
			if calls > 1100 {
				t.Errorf("%d endpoints, a call each %v: still ejected after %d calls", n, between, calls)
			}
		}
	}
}

// An endpoint that returns starts slowly: one attempt in flight, and one more after each
// success, until it is as good as the others.
func TestSet_slowStart(t *testing.T) {
	r := newRig(t, 2)
	r.eject(1)
	r.attempt(1, endpoint.Success, ms)
	for n := range 63 {
		r.want(1, endpoint.Returning)
		var held []*endpoint.Pick
		for range 100 { // the other one gets the work beyond the credit
			held = append(held, r.pick(nil))
		}
		if got := r.Endpoints()[1].InFlight(); got > int64(n+2) || got < min(int64(n+2), 50) {
			t.Fatalf("%d in flight after %d successes", got, n+1)
		}
		for _, p := range held {
			p.End()
		}
		r.attempt(1, endpoint.Success, ms)
	}
	r.want(1, endpoint.In)
	if since := r.Stats().Endpoints[1].Since; since != r.clock.Now() {
		t.Errorf("IN since %v", since)
	}
}

// During a slow start, only a success adds to the attempts in flight. An endpoint whose
// attempts are ignored still gets work.
func TestSet_slowStart_ignored(t *testing.T) {
	r := newRig(t, 2)
	r.eject(1)
	r.attempt(1, endpoint.Success, ms)
	got := 0
	for range 200 {
		p := r.pick(nil)
		if p.Endpoint() == r.Endpoints()[1] {
			got++
		}
		p.Answered(endpoint.Ignored, nil)
		p.End()
	}
	if got < 50 {
		t.Errorf("%d picks of 200", got)
	}
	if why := r.Endpoints()[1].Report(true).Next; why != "starts slowly, with 2 in flight at most" {
		t.Error(why)
	}
}

// When the only other endpoints are gone, those that are ejected return.
func TestSet_Update_lastIsGone(t *testing.T) {
	r := newRig(t, 3)
	r.eject(0)
	r.eject(1)
	r.Update([]string{"e00", "e01"}, nil)
	r.want(0, endpoint.Returning)
	r.want(1, endpoint.Returning)
	r.attempt(0, endpoint.Unreachable, ms)
	r.Update([]string{"e00"}, nil)
	r.want(0, endpoint.In)
	want := []string{"e00 endpoint ejected", "e01 endpoint ejected", "e00 endpoint returned", "e01 endpoint returned", "e00 endpoint ejected", "e00 endpoint returned"}
	if got := r.kinds(); len(got) != len(want) || got[2] != want[2] || got[5] != want[5] {
		t.Errorf("%q", got)
	}
}

// A set in which an endpoint is ejected, and one in which all are new, keep the contract.
func TestSet_contract(t *testing.T) {
	newSet := func() *rig { return newRig(t, 3) }
	resiliencetest.TestPolicy(t, func() resilience.Policy { return newSet().Set })
	resiliencetest.TestPolicy(t, func() resilience.Policy { return newSet().Endpoints()[0] })
	resiliencetest.TestPolicy(t, func() resilience.Policy {
		r := newSet()
		r.eject(0)
		return r.Set
	})
}
