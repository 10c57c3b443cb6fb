package endpoint_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/internal/testkit"
)

const ms = time.Millisecond

var errWork = errors.New("work failed")

// rig is a Set with a clock that the test moves, and random numbers that the test chooses.
type rig struct {
	*endpoint.Set
	t     testing.TB
	clock *testkit.Clock

	mu     sync.Mutex // guards the fields below
	next   []uint64   // the next random numbers
	random *rand.Rand
	events []resilience.Event
}

// newRig returns a rig with the endpoints e00, e01 and so on.
func newRig(t testing.TB, n int) *rig {
	t.Helper()
	r := &rig{t: t, clock: testkit.NewClock(), random: rand.New(rand.NewPCG(1, 2))}
	r.Set = newSet(t, endpoint.Config{
		Name: "orders", Clock: r.clock, Rand: r.rand,
		Observer: testkit.Observer(func(e resilience.Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
		}),
	})
	r.Update(addresses(n), nil)
	return r
}

func newSet(t testing.TB, c endpoint.Config) *endpoint.Set {
	t.Helper()
	s, err := endpoint.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func addresses(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("e%02d", i))
	}
	return all
}

func (r *rig) rand() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.next) == 0 {
		return r.random.Uint64()
	}
	n := r.next[0]
	r.next = r.next[1:]
	return n
}

// draw returns the random number for which Pick compares i and j of n endpoints, i first.
func draw(i, j, n int) uint64 {
	if j > i {
		j--
	}
	return (uint64(i)<<32+uint64(n)-1)/uint64(n) | (uint64(j)<<32+uint64(n-1)-1)/uint64(n-1)<<32
}

// choice returns the endpoint that Pick chooses of i and j, in that order, of n that are in.
// The attempt ends as ignored.
func (r *rig) choice(i, j, n int) string {
	r.t.Helper()
	r.mu.Lock()
	r.next = append(r.next, draw(i, j, n))
	r.mu.Unlock()
	p := r.pick(nil)
	defer p.End()
	return p.Endpoint().Address()
}

// pick is Pick with an endpoint.
func (r *rig) pick(t *endpoint.Trail) *endpoint.Pick {
	r.t.Helper()
	p, ok := r.Pick(t)
	if !ok {
		r.t.Fatal("Pick returned no endpoint")
	}
	return &p
}

// only returns a Trail with all endpoints but i.
func (r *rig) only(i int) *endpoint.Trail {
	var t endpoint.Trail
	for n, e := range r.Endpoints() {
		if n != i {
			t.Add(e)
		}
	}
	return &t
}

// at starts an attempt at endpoint i, which is a probe if that is ejected and a Trail can have
// all others.
func (r *rig) at(i int) *endpoint.Pick {
	r.t.Helper()
	if e := r.Endpoints(); len(e) > 9 {
		p := e[i].PickAt()
		return &p
	}
	p := r.pick(r.only(i))
	if p.Endpoint() != r.Endpoints()[i] {
		r.t.Fatalf("picked %s instead of endpoint %d", p.Endpoint().Address(), i)
	}
	return p
}

// attempt makes an attempt at endpoint i.
func (r *rig) attempt(i int, result endpoint.Result, took time.Duration) {
	r.t.Helper()
	p := r.at(i)
	r.clock.Move(took)
	p.Answered(result, errWork)
	p.End()
}

// warm makes three attempts of 10 ms at each endpoint.
func (r *rig) warm() {
	r.t.Helper()
	for range 3 {
		for i := range r.Endpoints() {
			r.attempt(i, endpoint.Success, 10*ms)
		}
	}
}

// eject ejects endpoint i because it could not be connected.
func (r *rig) eject(i int) {
	r.t.Helper()
	r.attempt(i, endpoint.Unreachable, ms)
	r.want(i, endpoint.Ejected)
}

// want fails the test if endpoint i is not in the state.
func (r *rig) want(i int, state string) {
	r.t.Helper()
	if e := r.Stats().Endpoints[i]; e.State != state {
		r.t.Fatalf("%s is %s, want %s", e.Address, e.State, state)
	}
}

// probed makes n picks of 1 ms that end at once. It returns how many of them were a probe of
// an endpoint, and the number of the first one from 1 on.
func (r *rig) probed(n int, between time.Duration) (probes, first int) {
	r.t.Helper()
	for i := range n {
		r.clock.Move(between)
		p := r.pick(nil)
		result := endpoint.Success
		if p.Probe() {
			result = endpoint.Failure
			if probes++; first == 0 {
				first = i + 1
			}
		}
		p.Answered(result, nil)
		p.End()
	}
	return probes, first
}

// kinds returns the kinds of the events and their endpoints.
func (r *rig) kinds() (kinds []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		kinds = append(kinds, e.Endpoint+" "+e.Kind)
	}
	return kinds
}
