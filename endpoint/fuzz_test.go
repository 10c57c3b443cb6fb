package endpoint_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/resilience-go/resilience/endpoint"
)

// modelMoves are the steps of the clock. Some are around the times of the algorithm.
var modelMoves = []time.Duration{
	ms, 10 * ms, 30 * ms, 100 * ms, 400 * ms, time.Second, 5 * time.Second, 15 * time.Second, 37 * time.Second, 59 * time.Second,
	time.Hour, 20 * time.Hour, 37*time.Hour + 17*time.Minute, 365 * 24 * time.Hour, -time.Second, -time.Hour,
}

// An attempt is a Pick and its twin in the model.
type attempt struct {
	pick  *endpoint.Pick
	model *modelPick
}

// pair is a Set and its model.
type pair struct {
	r        *rig
	m        *model
	start    time.Time
	attempts []attempt
	trails   [3]endpoint.Trail
	twins    [3]modelTrail
}

func newPair(t *testing.T, seed uint64) *pair {
	r := newRig(t, 0)
	r.random = rand.New(rand.NewPCG(seed, 0))
	return &pair{r: r, m: &model{random: rand.New(rand.NewPCG(seed, 0))}, start: r.clock.Now()}
}

// FuzzModel runs attempts that overlap in any way against the model, with changes of the
// addresses and a clock that jumps both ways. The first byte is the seed of the random
// numbers; each pair of the others is a step.
func FuzzModel(f *testing.F) {
	f.Add([]byte{1, 7, 7, 0, 0, 0, 0, 3, 0, 3, 0x10, 6, 3, 8, 0x31, 6, 5, 9, 30, 8, 0, 6, 7, 0, 1, 3, 0})
	f.Add([]byte{2, 7, 31, 9, 40, 8, 0x40, 8, 0x41, 6, 8, 9, 200, 9, 200, 7, 3, 7, 4, 9, 9})
	f.Add([]byte{3, 7, 3, 9, 9, 8, 0x20, 8, 0x20, 8, 0x20, 8, 0x20, 6, 6, 2, 0, 2, 0, 4, 0x20, 6, 15, 9, 210})
	f.Add([]byte{4, 7, 15, 9, 100, 8, 0x42, 6, 5, 8, 0x43, 0, 0, 6, 7, 0, 0, 3, 0x30, 6, 4, 3, 0x01, 6, 10, 0, 0, 7, 1, 0, 0, 7, 3})
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) < 3 || len(steps) > 400 {
			return
		}
		p := newPair(t, uint64(steps[0]))
		for i := 1; i+1 < len(steps); i += 2 {
			p.step(steps[i]%10, steps[i+1])
			p.check(fmt.Sprintf("step %d (%d, %#x)", i/2, steps[i]%10, steps[i+1]))
		}
		for _, a := range p.attempts {
			a.pick.End()
			p.m.end(a.model)
		}
		p.check("at the end")
		for _, e := range p.r.Endpoints() {
			if e.InFlight() != 0 {
				t.Errorf("%d in flight at %s at the end", e.InFlight(), e.Address())
			}
		}
	})
}

// Long schedules with the parts of the fuzzer in a realistic mix.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 99))
		p := newPair(t, seed)
		p.step(7, byte(random.IntN(32)))
		for i := range 300 {
			op := []byte{0, 1, 2, 3, 3, 3, 4, 5, 5, 6, 6, 8, 8, 8, 9, 9, 10}[random.IntN(17)]
			arg := byte(random.Uint32())
			switch {
			case op == 10 && i%7 > 0:
				continue
			case op == 10:
				op = 7
			case op == 6 && i%50 > 0:
				arg = byte(random.IntN(10)) // no jumps
			}
			p.step(op, arg)
			p.check(fmt.Sprintf("seed %d, step %d (%d, %#x)", seed, i, op, arg))
		}
	}
}

// step takes one step in the set and in the model.
func (p *pair) step(op, arg byte) {
	p.r.clock.Move(1) // so that no two steps are at one time
	p.m.move(p.r.clock.Now().Sub(p.start))
	switch op {
	case 0:
		p.pick(nil, nil)
	case 1:
		p.trails[arg%3], p.twins[arg%3] = endpoint.Trail{}, modelTrail{}
		fallthrough
	case 2:
		p.pick(&p.trails[arg%3], &p.twins[arg%3])
	case 3, 4: // an answer; the upper bits are the result
		if a, ok := p.attempt(arg & 15); ok {
			a.pick.Answered(endpoint.Result(arg>>4%7), errWork)
			p.m.answered(a.model, endpoint.Result(arg>>4%7))
		}
	case 5:
		if a, ok := p.attempt(arg & 15); ok {
			a.pick.End()
			p.m.end(a.model)
			if arg&16 == 0 && a.model.answered {
				i := slices.Index(p.attempts, a)
				p.attempts = slices.Delete(p.attempts, i, i+1)
			}
		}
	case 6:
		p.r.clock.Move(modelMoves[int(arg)%len(modelMoves)])
		p.m.move(p.r.clock.Now().Sub(p.start))
	case 7:
		var all []string
		for i, a := range addresses(5) {
			if arg>>i&1 == 1 {
				all = append(all, a)
			}
		}
		dropped, want := p.r.Update(append(all, all...), nil), p.m.update(all)
		if len(dropped) != want {
			p.r.t.Fatalf("dropped %d endpoints, the model %d", len(dropped), want)
		}
	case 8: // an attempt at a certain endpoint, with a result, that ends at once
		if n := len(p.m.all); n > 0 {
			i := int(arg&15) % n
			pick := p.r.Endpoints()[i].PickAt()
			p.attempts = append(p.attempts, attempt{&pick, p.m.start(p.m.all[i], true, false)})
			if arg < 0x80 {
				p.r.clock.Move(20 * ms)
				p.m.move(p.r.clock.Now().Sub(p.start))
				pick.Answered(endpoint.Result(arg>>4), errWork)
				p.m.answered(p.attempts[len(p.attempts)-1].model, endpoint.Result(arg>>4))
			}
		}
	case 9: // many quick successes; attempts at an ejected endpoint fail
		for range arg {
			p.pick(nil, nil)
			if len(p.m.all) == 0 {
				return
			}
			a := p.attempts[len(p.attempts)-1]
			result := endpoint.Success
			if a.model.e.out != nil {
				result = endpoint.Result(2 + arg%4)
			}
			a.pick.Answered(result, nil)
			p.m.answered(a.model, result)
			a.pick.End()
			p.m.end(a.model)
			p.attempts = p.attempts[:len(p.attempts)-1]
		}
	}
}

func (p *pair) attempt(i byte) (attempt, bool) {
	if len(p.attempts) == 0 {
		return attempt{}, false
	}
	return p.attempts[int(i)%len(p.attempts)], true
}

// pick picks in both. The choice is the same, and an endpoint of the set.
func (p *pair) pick(trail *endpoint.Trail, twin *modelTrail) {
	p.r.t.Helper()
	got, ok := p.r.Pick(trail)
	want := p.m.pick(twin)
	switch {
	case ok != (want != nil):
		p.r.t.Fatalf("picked %v, the model %v", ok, want != nil)
	case !ok:
		return
	case got.Endpoint().Address() != want.e.address || got.Probe() != want.probe || !slices.Contains(p.r.Endpoints(), got.Endpoint()):
		p.r.t.Fatalf("picked %s, probe %v, the model %s, %v\n%s", got.Endpoint().Address(), got.Probe(), want.e.address, want.probe, p.m.describe())
	}
	if patience := p.m.patience(want); got.Patience() != patience {
		p.r.t.Fatalf("patience %v, the model %v", got.Patience(), patience)
	}
	p.attempts = append(p.attempts, attempt{&got, want})
}

// check compares the set with its model and checks what is always true.
func (p *pair) check(when string) {
	p.r.t.Helper()
	if got, want := p.r.describe(p.start), p.m.describe(); got != want {
		p.r.t.Fatalf("%s:\n%s\nthe model:\n%s", when, got, want)
	}
	if got, want := p.r.takeEvents(p.start), p.m.events; !slices.Equal(got, want) {
		p.r.t.Fatalf("%s: events %q\nthe model %q", when, got, want)
	}
	p.m.events = nil
	for i := range p.trails {
		if got, want := p.r.Working(&p.trails[i]), p.m.working(&p.twins[i]); got != want {
			p.r.t.Fatalf("%s: working %v, the model %v", when, got, want)
		}
	}
	if len(p.m.all) > 0 && len(p.m.in()) == 0 {
		p.r.t.Fatalf("%s: all are ejected", when)
	}
}
