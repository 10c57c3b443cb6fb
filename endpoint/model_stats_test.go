package endpoint_test

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/resilience-go/resilience/endpoint"
)

// modelAverage has the precision of the average of the Set.
type modelAverage struct {
	value   float32
	tick    int64
	samples uint // in thirds
}

const modelTick = 1 << 26

func modelFade(age, halfLife float64) float64 {
	if age < halfLife/64 {
		return 1
	}
	return math.Exp2(-age / halfLife)
}

func (a modelAverage) age(now int64) float64 {
	ticks := now>>26 - a.tick
	switch {
	case ticks >= 0:
		return float64(ticks) * modelTick
	case ticks > -1024:
		return 0
	default: // the clock was set back
		return float64(ticks+1<<27) * modelTick
	}
}

func (a modelAverage) at(now int64) float64 {
	if a.value == 0 {
		return 0
	}
	return float64(a.value) * modelFade(a.age(now), 1e10*max(.1, min(1, float64(a.samples)/3/10)))
}

func (a *modelAverage) set(value, samples float64, now int64) {
	*a = modelAverage{float32(value), now >> 26, min(31, uint(samples*3+.5))}
}

func (a *modelAverage) add(sample float64, now int64, weight float64) {
	if sample == 0 && a.value == 0 && a.samples >= 30 && float64(a.age(now)) < 1e10/64 {
		return
	}
	samples := min(10, float64(a.samples)/3*modelFade(a.age(now), 1e10)+1)
	value := float64(a.value)
	value += max(weight, 1/samples) * (sample - value)
	if sample == 0 && value < .01 {
		value = 0
	}
	a.set(value, samples, now)
}

func (a *modelAverage) raise(least float64, now int64) {
	if a.at(now) < least {
		a.set(least, max(1, float64(a.samples)/3), now)
	}
}

// enough returns how many failures in a row eject e, the last of which had the result r.
func (m *model) enough(e *modelEndpoint, r endpoint.Result, unanswered bool, took int64) int {
	failures, latency, samples, others, known := 0., 0., 0., 0., 0.
	for _, o := range m.in() {
		if o == e {
			continue
		}
		others++
		failures += o.failures.at(m.now)
		if o.latency.value > 0 {
			known++
			latency += float64(o.latency.value)
			samples += float64(o.latency.samples) / 3
		}
	}
	failures, latency = failures/max(1, others), latency/max(1, known)
	if unanswered && (r == endpoint.Unreachable && failures < .5 || failures < .2 && known > 0 && float64(took) > 4*latency*max(1, 10/samples)) {
		return 1
	}
	if failures > .9 {
		return math.MaxInt
	}
	return int(math.Ceil(math.Log(1e-5) / math.Log(max(.03, failures))))
}

// schedule sets when the next probe of e is due, after a failure.
func (m *model) schedule(e *modelEndpoint) {
	o := e.out
	late := int64(30e9 * (.8 + .4*(float64(m.random.Uint64()>>11)/(1<<53))))
	o.failed, o.probe = m.now, nil
	o.late, o.latePick = m.now+late, m.picks+len(m.all)
	o.soon, o.soonPick = m.now+min(late, max(1e9, (m.now-o.began)/8)), m.picks+200
}

// probeNow makes the first probe due if its endpoint has had none for a second.
func (m *model) probeNow() {
	if out := m.ejected(); len(out) > 0 && m.now-out[0].out.failed > 1e9 {
		out[0].out.late, out[0].out.latePick = math.MinInt64, 0
		m.probeAt = m.now
	}
}

// working is Set.Working.
func (m *model) working(t *modelTrail) bool {
	if m.unanswered >= 6 {
		return false
	}
	for _, e := range m.in() {
		if !t.has(e) && e.run == 0 {
			return true
		}
	}
	return false
}

// patience is Pick.Patience.
func (m *model) patience(p *modelPick) time.Duration {
	sum, n := 0., 0.
	for _, o := range m.in() {
		if o != p.e && o.latency.value > 0 {
			sum += float64(o.latency.value)
			n++
		}
	}
	if !p.probe || n == 0 {
		return 0
	}
	return max(50*time.Millisecond, time.Duration(8*(sum/n)))
}

// state is an endpoint's state, for people.
func (e *modelEndpoint) state() string {
	switch {
	case e.out != nil:
		return endpoint.Ejected
	case e.credit > 0:
		return endpoint.Returning
	default:
		return endpoint.In
	}
}

// describe returns all that Stats has.
func (m *model) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%+v", m.counts)
	for _, e := range m.all {
		probe := time.Duration(0)
		if e.out != nil {
			at := max(m.now, e.out.late)
			if e.out.probe != nil {
				at = max(at, e.out.leased+15e9)
			}
			probe = m.wall(at)
		}
		fmt.Fprintf(&b, "\n%s %s since %v, %d attempts, %d in flight, latency %v, failures %v, probe at %v",
			e.address, e.state(), m.wall(e.since), e.attempts, e.inFlight, time.Duration(e.latency.at(m.now)), e.failures.at(m.now), probe)
	}
	return b.String()
}

// describe returns what the model returns. start is the time at which the set was made.
func (r *rig) describe(start time.Time) string {
	var b strings.Builder
	s := r.Stats()
	fmt.Fprintf(&b, "%+v", s.Counters)
	for _, e := range s.Endpoints {
		probe := time.Duration(0)
		if e.State == endpoint.Ejected {
			probe = e.ProbeAt.Sub(start)
		}
		fmt.Fprintf(&b, "\n%s %s since %v, %d attempts, %d in flight, latency %v, failures %v, probe at %v",
			e.Address, e.State, e.Since.Sub(start), e.Attempts, e.InFlight, e.Latency, e.Failures, probe)
	}
	return b.String()
}

// takeEvents returns the events since the last call as the model has them.
func (r *rig) takeEvents(start time.Time) (all []string) {
	for _, e := range r.events {
		all = append(all, fmt.Sprint(e.Endpoint, strings.TrimPrefix(e.Kind, "endpoint"), " at ", e.Time.Sub(start), ", failed ", e.Failures, " times"))
	}
	r.events = nil
	return all
}
