package endpoint_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/internal/testkit"
)

// However attempts end, on however many goroutines and while the addresses and the time
// change, the set keeps its invariants: in flight is never negative and is 0 when all attempts
// have ended, never are all endpoints ejected, and a probe is alone.
func TestSet_hammer(t *testing.T) {
	clock := testkit.NewClock()
	var s *endpoint.Set
	s = newSet(t, endpoint.Config{Clock: clock, Observer: testkit.Observer(func(e resilience.Event) {
		s.Stats()
		switch rand.IntN(20) {
		case 0:
			panic("observer")
		case 1:
			runtime.Goexit()
		}
	})})
	var used [7]atomic.Pointer[endpoint.Endpoint] // of all rounds, to look at when they are dropped
	look := func() {
		st := s.Stats()
		for _, e := range st.Endpoints {
			if int64(e.InFlight) < 0 || e.Failures < 0 || e.Failures > 1 || e.Latency < 0 {
				t.Errorf("%+v", e)
			}
		}
		if r := s.Report(true); len(r.Values) == 0 || len(s.Explain()) == 0 {
			t.Errorf("%+v", r)
		}
	}
	s.Update(addresses(5), nil)
	const rounds = 400
	testkit.AtOnce(8, func(g int) {
		random := rand.New(rand.NewPCG(uint64(g), 1))
		var trail endpoint.Trail
		for round := range rounds {
			testkit.Unwind(func() error { // the observer may end the goroutine
				switch {
				case g == 0 && round%4 == 0: // at least e00 stays
					all := addresses(1)
					for _, a := range addresses(6)[1:] {
						if random.IntN(3) > 0 {
							all = append(all, a)
						}
					}
					s.Update(all, func(string) any { runtime.Gosched(); return round })
				case g == 1:
					clock.Move([]time.Duration{ms, time.Second, 10 * time.Second, -time.Second}[round%4])
					look()
				case random.IntN(8) == 0:
					return resilience.Run(endpoint.WithTrail(context.Background(), &trail), s, func(context.Context) error {
						if random.IntN(4) == 0 {
							panic("operation")
						}
						return errWork
					})
				default:
					if random.IntN(2) == 0 {
						trail = endpoint.Trail{}
					}
					hammerPick(s, &trail, random, &used)
				}
				return nil
			})
		}
	})
	all := s.Endpoints()
	for i := range used {
		if e := used[i].Load(); e != nil {
			all = append(all, e)
		}
	}
	for _, e := range all {
		if e.InFlight() != 0 {
			t.Errorf("%d in flight at %s", e.InFlight(), e.Address())
		}
	}
	// At rest all endpoints return.
	for range 4000 {
		clock.Move(100 * ms)
		p, _ := s.Pick(nil)
		p.Answered(endpoint.Success, nil)
		p.End()
	}
	for _, e := range s.Stats().Endpoints {
		if e.State == endpoint.Ejected {
			t.Errorf("%+v", e)
		}
	}
}

// hammerPick makes an attempt. Three goroutines answer and end it at once.
func hammerPick(s *endpoint.Set, trail *endpoint.Trail, random *rand.Rand, used *[7]atomic.Pointer[endpoint.Endpoint]) {
	p, ok := s.Pick(trail)
	if !ok {
		panic("no endpoint")
	}
	used[random.IntN(len(used))].Store(p.Endpoint())
	results := [3]endpoint.Result{}
	for i := range results {
		results[i] = endpoint.Result(random.IntN(6))
	}
	if random.IntN(8) == 0 {
		runtime.Gosched()
	}
	testkit.AtOnce(len(results), func(i int) {
		testkit.Unwind(func() error {
			if i > 0 {
				p.Answered(results[i], errWork)
			}
			p.Patience()
			p.End()
			return nil
		})
	})
}

// While all endpoints fail on all goroutines at once, one of them stays in.
func TestSet_hammer_lastEndpoint(t *testing.T) {
	for range 300 {
		s := newSet(t, endpoint.Config{})
		s.Update(addresses(3), nil)
		testkit.AtOnce(6, func(g int) {
			p := s.Endpoints()[g%3].PickAt()
			p.Answered(endpoint.Unreachable, nil)
			p.End()
		})
		in := 0
		for _, e := range s.Stats().Endpoints {
			if e.State != endpoint.Ejected {
				in++
			}
		}
		if c := s.Stats(); in < 1 || in != 3-int(c.Unreachable) {
			t.Fatalf("%d are in: %+v", in, c)
		}
	}
}

// Of many goroutines that retry at the same time, one gets the probe.
func TestSet_hammer_probe(t *testing.T) {
	r := newRig(t, 2)
	r.eject(1)
	for round := range 200 {
		var probes atomic.Int64
		var probe atomic.Pointer[endpoint.Pick]
		r.clock.Move(40 * time.Second)
		testkit.AtOnce(8, func(g int) {
			var trail endpoint.Trail
			for range 3 { // at most two that are due by count, and the probes of retries
				p, _ := r.Pick(&trail)
				if p.Probe() {
					probes.Add(1)
					probe.Store(&p)
					return
				}
				p.Answered(endpoint.Success, nil)
				p.End()
			}
		})
		if n := probes.Load(); n != 1 {
			t.Fatalf("round %d: %d probes at a time", round, n)
		}
		probe.Load().Answered([]endpoint.Result{endpoint.Failure, endpoint.Ignored}[round%2], nil)
		probe.Load().End()
	}
}

// A success and a failure of the same endpoint at the same time lead to one of the two states,
// with one event each.
func TestSet_hammer_events(t *testing.T) {
	for range 100 {
		var kinds []string // events come one at a time
		s := newSet(t, endpoint.Config{Observer: testkit.Observer(func(e resilience.Event) { kinds = append(kinds, e.To) })})
		s.Update(addresses(2), nil)
		e := s.Endpoints()[0]
		testkit.AtOnce(6, func(g int) {
			for i := range 10 {
				p := e.PickAt()
				p.Answered([]endpoint.Result{endpoint.Success, endpoint.Unreachable}[(g+i)%2], nil)
				p.End()
			}
		})
		for i, k := range kinds {
			if want := []string{endpoint.Ejected, endpoint.Returning}[i%2]; k != want {
				t.Fatalf("%q", kinds)
			}
		}
		if out := s.Stats().Endpoints[0].State == endpoint.Ejected; out != (len(kinds)%2 == 1) {
			t.Fatal(fmt.Sprint("ejected: ", out, kinds))
		}
	}
}
