package endpoint_test

import (
	"math"
	"testing"
	"time"

	"github.com/resilience-go/resilience/endpoint"
)

// Of two endpoints that are taken at random, Pick returns the one with fewer attempts in
// flight, and the first of equal ones. Every pair is taken equally often.
func TestPick_inFlight(t *testing.T) {
	r := newRig(t, 3)
	if got := r.choice(1, 2, 3) + r.choice(2, 1, 3) + r.choice(0, 2, 3); got != "e01e02e00" {
		t.Errorf("of equal ones %s", got)
	}
	r.at(1)
	if got := r.choice(1, 2, 3) + r.choice(2, 1, 3) + r.choice(0, 1, 3); got != "e02e02e00" {
		t.Errorf("beside a busy one %s", got)
	}
	counts := map[string]int{}
	for range 3000 {
		p := r.pick(nil)
		counts[p.Endpoint().Address()]++
		p.End()
	}
	if counts["e01"] != 0 || counts["e00"] < 1400 || counts["e02"] < 1400 {
		t.Errorf("%v", counts)
	}
}

// With attempts in flight, latency decides in proportion, if it differs by 1.5 times.
func TestPick_latency(t *testing.T) {
	for took, want := range map[time.Duration]string{14 * ms: "e00", 16 * ms: "e01"} {
		r := newRig(t, 2)
		for range 10 {
			r.attempt(0, endpoint.Success, took)
			r.attempt(1, endpoint.Success, 10*ms)
		}
		if got := r.choice(0, 1, 2); got != want {
			t.Errorf("%v against 10ms: %s", took, got)
		}
	}
	r := newRig(t, 2)
	for range 10 {
		r.attempt(0, endpoint.Success, 35*ms)
		r.attempt(1, endpoint.Success, 10*ms)
	}
	for inFlight, want := range []string{"e01", "e01", "e01", "e00"} {
		if got := r.choice(0, 1, 2); got != want {
			t.Errorf("with %d in flight at the quicker: %s", inFlight, got)
		}
		r.at(1)
	}
}

// The share of failures counts with its fourth power.
func TestPick_failures(t *testing.T) {
	r := newRig(t, 2)
	r.warm()
	for range 5 {
		for range 3 {
			r.attempt(0, endpoint.Success, 10*ms)
		}
		r.attempt(0, endpoint.Busy, 10*ms)
	}
	share := r.Stats().Endpoints[0].Failures
	ratio := math.Pow((1.02-r.Stats().Endpoints[1].Failures)/(1.02-share), 4)
	for inFlight := range 20 {
		want := "e01"
		if float64(inFlight+1) >= ratio {
			want = "e00"
		}
		if got := r.choice(0, 1, 2); got != want {
			t.Errorf("failures %.2f, with %d in flight at the other: %s", share, inFlight, got)
		}
		r.at(1)
	}
	if share < .2 || share > .5 {
		t.Errorf("failures are %.2f", share)
	}
}

// What an endpoint has shown fades within seconds without samples.
func TestPick_fades(t *testing.T) {
	r := newRig(t, 2)
	r.warm()
	r.attempt(0, endpoint.Busy, 100*ms)
	if got := r.choice(0, 1, 2); got != "e01" {
		t.Errorf("picked %s", got)
	}
	r.clock.Move(30 * time.Second)
	if got := r.choice(0, 1, 2); got != "e00" {
		t.Errorf("after 30 s %s", got)
	}
}

// An endpoint that owes answers and has given none for four times its latency counts with
// that time as its latency. An answer ends the silence.
func TestPick_silence(t *testing.T) {
	r := newRig(t, 2)
	r.warm()
	r.at(0)
	second := r.at(0)
	for range 15 {
		r.at(1)
	}
	r.clock.Move(39 * ms)
	if got := r.choice(0, 1, 2); got != "e00" {
		t.Errorf("after 39 ms %s", got)
	}
	r.clock.Move(11 * ms)
	r.attempt(1, endpoint.Success, 0)
	if got := r.choice(0, 1, 2); got != "e01" {
		t.Errorf("after 50 ms %s", got)
	}
	second.Answered(endpoint.Success, nil)
	r.clock.Move(30 * ms)
	r.attempt(1, endpoint.Success, 0)
	if got := r.choice(0, 1, 2); got != "e00" {
		t.Errorf("30 ms after an answer %s", got)
	}
}

// The silence of an endpoint starts when it begins to owe an answer.
func TestPick_silence_afterPause(t *testing.T) {
	r := newRig(t, 2)
	r.warm()
	r.clock.Move(5 * time.Second)
	for range 3 {
		r.at(1)
	}
	r.at(0)
	if got := r.choice(0, 1, 2); got != "e00" {
		t.Errorf("picked %s", got)
	}
	// That an endpoint was the only one is no silence.
	r = newRig(t, 1)
	r.at(0)
	r.clock.Move(time.Hour)
	r.Update(addresses(2), nil)
	for range 3 {
		r.attempt(1, endpoint.Success, 10*ms)
	}
	r.at(1)
	r.at(1)
	if got := r.choice(0, 1, 2); got != "e00" {
		t.Errorf("picked %s", got)
	}
}

// An attempt that waits for an event, as a long poll does, keeps work away for a second. An
// answer to another attempt ends that for as long as further attempts are answered. While none
// is, the silence counts for twice as long each time.
func TestPick_silence_longPoll(t *testing.T) {
	r := newRig(t, 2)
	r.warm()
	r.at(0) // the long poll
	for range 15 {
		r.at(1)
	}
	want := func(when, address string) {
		t.Helper()
		r.attempt(1, endpoint.Success, 0) // so that the other one is not silent
		if got := r.choice(0, 1, 2); got != address {
			t.Errorf("%s: %s", when, got)
		}
	}
	r.clock.Move(900 * ms)
	want("after 0.9 s", "e01")
	r.clock.Move(150 * ms)
	want("after 1.05 s without an attempt", "e00")
	hung := r.at(0)
	r.clock.Move(900 * ms)
	want("0.9 s after the second attempt", "e01")
	r.clock.Move(200 * ms)
	want("1.1 s after the second attempt, which came after 1.05 s", "e00")
	hung.Answered(endpoint.Success, nil)
	r.clock.Move(time.Hour)
	want("an hour after an answer", "e00")
}

// A timeout shows that the latency is at least so long, as do attempts that are ignored. A
// Failure says nothing about it.
func TestPick_leastLatency(t *testing.T) {
	for result, want := range map[endpoint.Result]time.Duration{
		endpoint.Timeout: 30 * ms, endpoint.Ignored: 30 * ms, endpoint.Failure: 10 * ms, endpoint.Busy: 10 * ms, endpoint.Unreachable: 10 * ms,
	} {
		r := newRig(t, 2)
		r.attempt(1, endpoint.Success, 10*ms)
		r.attempt(0, endpoint.Success, 10*ms)
		r.attempt(0, result, 30*ms)
		if got := r.Stats().Endpoints[0].Latency; got < want-ms || got > want {
			t.Errorf("%v: %v, want %v", result, got, want)
		}
	}
}

// Pick avoids the endpoints of the Trail and adds its choice, until all were tried. A Trail
// of two attempts at one endpoint has it once.
func TestPick_trail(t *testing.T) {
	for _, n := range []int{1, 2, 3, 8} {
		r := newRig(t, n)
		var trail endpoint.Trail
		seen := map[*endpoint.Endpoint]bool{}
		for range n {
			seen[r.pick(&trail).Endpoint()] = true
		}
		if len(seen) != n {
			t.Errorf("%d of %d endpoints", len(seen), n)
		}
		for range 20 {
			r.pick(&trail)
		}
		r.Update(addresses(n+1), nil)
		if n < 8 {
			if p := r.pick(&trail); seen[p.Endpoint()] {
				t.Errorf("%s again, of %d, while a new one is untried", p.Endpoint().Address(), n+1)
			}
		}
	}
}

// A Trail keeps the first eight endpoints. A nil Trail records nothing.
func TestTrail_eight(t *testing.T) {
	r := newRig(t, 10)
	var trail endpoint.Trail
	for _, e := range r.Endpoints() {
		trail.Add(e)
		trail.Add(e)
	}
	for i, e := range r.Endpoints() {
		if trail.Has(e) != (i < 8) {
			t.Errorf("endpoint %d: %v", i, trail.Has(e))
		}
	}
	var none *endpoint.Trail
	none.Add(r.Endpoints()[0])
	if none.Has(r.Endpoints()[0]) {
		t.Error("a nil Trail has an endpoint")
	}
}

// TrailOf returns the Trail of the context, or nil.
func TestTrailOf(t *testing.T) {
	var trail endpoint.Trail
	if ctx := endpoint.WithTrail(t.Context(), &trail); endpoint.TrailOf(ctx) != &trail || endpoint.TrailOf(t.Context()) != nil {
		t.Error("TrailOf")
	}
}

// Working reports an endpoint that is not in the Trail, is not ejected, and did not fail last.
func TestSet_Working(t *testing.T) {
	r := newRig(t, 2)
	if !r.Working(nil) || !r.Working(r.only(0)) {
		t.Error("new endpoints do not work")
	}
	r.attempt(0, endpoint.Failure, ms)
	if r.Working(r.only(0)) || !r.Working(nil) {
		t.Error("an endpoint that failed last")
	}
	r.attempt(0, endpoint.Busy, ms)
	if r.Working(r.only(0)) {
		t.Error("an endpoint that failed and was busy")
	}
	r.attempt(0, endpoint.Success, ms)
	if !r.Working(r.only(0)) {
		t.Error("an endpoint that succeeded last")
	}
	r.eject(0)
	if r.Working(r.only(0)) || !r.Working(nil) {
		t.Error("an endpoint that is ejected")
	}
	r.Update(nil, nil)
	if r.Working(nil) {
		t.Error("no endpoints")
	}
}

// Patience is eight times the latency of the others, at least 50 ms, also after a pause. It
// is 0 if the attempt is no probe, or if nothing is known about the others.
func TestPick_Patience(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{0: 0, ms: 50 * ms, 10 * ms: 80 * ms, time.Second: 8 * time.Second} {
		for _, pause := range []time.Duration{0, time.Hour} {
			r := newRig(t, 3)
			for range 5 {
				r.attempt(0, endpoint.Success, took)
				r.attempt(2, endpoint.Success, took)
			}
			if p := r.at(0); p.Patience() != 0 || p.Probe() {
				t.Errorf("no probe: %v", p.Patience())
			}
			r.eject(1)
			r.clock.Move(pause)
			if p := r.at(1); !p.Probe() || p.Patience().Round(ms) != want {
				t.Errorf("%v, after %v: %v, want %v", took, pause, p.Patience(), want)
			}
		}
	}
}

// Answered and End count once, in any order and number. End before Answered is Ignored.
func TestPick_once(t *testing.T) {
	for _, n := range []int{1, 3} {
		r := newRig(t, n)
		e := r.Endpoints()[0]
		p := r.at(0)
		if e.InFlight() != 1 {
			t.Errorf("%d in flight", e.InFlight())
		}
		p.Answered(endpoint.Success, nil)
		if e.InFlight() != 1 {
			t.Errorf("answered: %d in flight", e.InFlight())
		}
		for range 3 {
			p.End()
			p.Answered(endpoint.Unreachable, nil)
		}
		if e.InFlight() != 0 || r.Stats().Endpoints[0].State != endpoint.In {
			t.Errorf("%+v", r.Stats())
		}
		p = r.at(0)
		p.End()
		p.Answered(endpoint.Unreachable, nil)
		p.End()
		if s := r.Stats(); s.Endpoints[0].InFlight != 0 || s.Unreachable != 0 || s.Endpoints[0].Failures != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// The zero Pick, which a Set without endpoints returns, does nothing.
func TestPick_zero(t *testing.T) {
	r := newRig(t, 0)
	p, ok := r.Pick(nil)
	if ok || p.Endpoint() != nil || p.Probe() || p.Patience() != 0 {
		t.Error("a Pick without an endpoint")
	}
	p.Answered(endpoint.Failure, nil)
	p.End()
}
