package breaker_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/resilience-go/resilience/breaker"
)

// TestModel_randomSchedules: random schedules agree with the model.
func TestModel_randomSchedules(t *testing.T) {
	for seed := range uint64(1000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var rules []modelRule
		for _, i := range rng.Perm(len(modelRules))[:1+rng.IntN(len(modelRules))] {
			rules = append(rules, modelRules[i])
		}
		r, m := newRig(t, modelConfig(rules)), newModel(rules)
		var flights []flight
		for i := range 300 {
			// Calls and their ends mostly, failures in bursts, seldom anything else.
			kinds := []byte{0, 0, 0, 2, 2, 1, 3}
			if i/20%2 == 0 {
				kinds = []byte{0, 0, 0, 1, 1, 1, 3}
			}
			b := kinds[rng.IntN(len(kinds))]
			if rng.IntN(40) == 0 {
				b = byte(4 + rng.IntN(4))
			}
			flights = step(t, r, m, flights, i, b|byte(rng.IntN(32))<<3)
			if got, want := r.describe(), m.describe(); got != want {
				t.Fatalf("seed %d, step %d: %s, model: %s", seed, i, got, want)
			}
		}
		if got, want := r.counts(), m.counts(); got != want {
			t.Fatalf("seed %d: counted\n%s, model:\n%s", seed, got, want)
		}
	}
}

// A world is a model with the calls that are in flight in it.
type world struct {
	*model
	calls  map[int]modelCall
	closed bool // HALF_OPEN has closed since the others began
}

// stale is the generation of a call that changes nothing any more.
const stale = -1

// key differs for worlds that will behave differently.
func (w world) key() string {
	for id, c := range w.calls {
		if c.gen != w.gen {
			w.calls[id] = modelCall{gen: stale}
		}
	}
	s := fmt.Sprintf("%+v", w.cur)
	if w.under != nil {
		s += fmt.Sprintf(" %+v", *w.under)
	}
	for _, id := range slices.Sorted(maps.Keys(w.calls)) {
		c := w.calls[id]
		s += fmt.Sprint(" ", id, c.gen == stale, c.start)
	}
	return s
}

// An action is one that goroutines do at the same time.
type action struct {
	name     string           // for people
	do       func()           // in the breaker
	in       func(world) bool // in a model; false if the breaker saw it go another way
	admitted func() bool      // the breaker admitted the call that it is
	id       int
}

// TestModel_goroutines: goroutines at once agree with the model in some order.
//
// It has up to four goroutines start calls, end
// them, change the mode and reset at the same time, and then looks for an order of
// these in which the model comes to the same.
func TestModel_goroutines(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 20
	}
	for i, rule := range modelRules {
		t.Run(fmt.Sprint(rule.rule), func(t *testing.T) {
			t.Parallel()
			for seed := range seeds {
				race(t, []modelRule{rule}, rand.New(rand.NewPCG(seed, uint64(i))))
			}
		})
	}
}

func race(t *testing.T, rules []modelRule, rng *rand.Rand) {
	t.Helper()
	r := newRig(t, modelConfig(rules))
	worlds := []world{{newModel(rules), map[int]modelCall{}, false}}
	permits := map[int]*breaker.Permit{}
	for round := range 40 {
		d := time.Duration(rng.IntN(30)) * 5 * time.Millisecond
		r.clock.add(d)
		for _, w := range worlds {
			w.now += d
		}
		actions := r.draw(rng, permits, round)
		begin := make(chan struct{})
		var all sync.WaitGroup
		for _, a := range actions {
			all.Go(func() { <-begin; a.do() })
		}
		close(begin)
		all.Wait()
		got := r.describe()
		next := map[string]world{}
		for _, w := range worlds {
			w.orders(actions, func(w world) {
				if w.describe() == got {
					w.closed = false
					next[w.key()] = w
				}
			})
		}
		if len(next) > 50 {
			return // too much is possible now
		}
		if len(next) == 0 {
			var names []string
			for _, a := range actions {
				name := a.name
				if a.admitted != nil && !a.admitted() {
					name += ", rejected"
				}
				names = append(names, name)
			}
			t.Fatalf("round %d: %q at once led to %s, which no order of them does from %s with the calls %+v",
				round, names, got, worlds[0].describe(), worlds[0].calls)
		}
		worlds = worlds[:0]
		for _, w := range next {
			worlds = append(worlds, w)
		}
		r.checkEvents()
	}
}

// draw chooses actions. Calls that begin are numbered within the round.
func (r *rig) draw(rng *rand.Rand, permits map[int]*breaker.Permit, round int) (actions []action) {
	for i := range 1 + rng.IntN(4) {
		kind := rng.IntN(20)
		switch {
		case kind == 0:
			mode := breaker.Mode(rng.IntN(4))
			actions = append(actions, action{
				name: fmt.Sprintf("SetMode(%v)", mode),
				do:   func() { r.SetMode(mode) },
				in:   func(w world) bool { w.setMode(mode); return true },
			})
		case kind == 1:
			actions = append(actions, action{
				name: "Reset",
				do:   r.Reset,
				in:   func(w world) bool { w.reset(); return true },
			})
		case kind < 10 || len(permits) == 0:
			actions = append(actions, r.acquire(permits, 10*round+i))
		default:
			for id, p := range permits { // any
				delete(permits, id)
				end := ignored // seldom
				if n := rng.IntN(20); n < 18 {
					end = []result{succeeds, succeeds, fails, timesOut}[n/5]
				}
				actions = append(actions, action{
					name: fmt.Sprintf("Done of %d with %v", id, end.err),
					do:   func() { p.Done(end.err) },
					in: func(w world) bool {
						w.settle(w.calls[id], end)
						delete(w.calls, id)
						return true
					},
				})
				break
			}
		}
	}
	return actions
}

var permitsMu sync.Mutex

func (r *rig) acquire(permits map[int]*breaker.Permit, id int) action {
	var got *breaker.Permit
	return action{
		name: fmt.Sprintf("Acquire %d", id),
		do: func() {
			if got, _ = r.Acquire(r.t.Context()); got != nil {
				permitsMu.Lock()
				defer permitsMu.Unlock()
				permits[id] = got
			}
		},
		in: func(w world) bool {
			c, ok := w.admit(id)
			if ok {
				w.calls[id] = c
			}
			return ok == (got != nil)
		},
		admitted: func() bool { return got != nil },
		id:       id,
	}
}

// orders yields what the actions come to in all of their orders that go as the
// breaker did.
func (w world) orders(actions []action, yield func(world)) {
	if len(actions) == 0 {
		yield(w)
		return
	}
	for i, a := range actions {
		rest := append(append([]action(nil), actions[:i]...), actions[i+1:]...)
		next := world{w.clone(), maps.Clone(w.calls), w.closed}
		if a.in(next) {
			next.closed = w.closed || w.cur.state == breaker.HalfOpen && next.cur.state == breaker.Closed
			next.orders(rest, yield)
		}
		// At the instant at which HALF_OPEN closes, a call may be admitted whose
		// result changes nothing.
		if w.closed && w.cur.state == breaker.Closed && a.admitted != nil && a.admitted() {
			late := world{w.clone(), maps.Clone(w.calls), true}
			late.calls[a.id] = modelCall{gen: stale}
			late.orders(rest, yield)
		}
	}
}
