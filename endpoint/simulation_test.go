package endpoint_test

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/resilience-go/resilience/endpoint"
)

// simulation is one client in virtual time. Its calls come at random, and each makes up to
// three attempts of at most 500 ms.
type simulation struct {
	rate      int // calls in a second
	n         int // endpoints
	duration  time.Duration
	answer    answer
	seed      uint64
	after     time.Duration // the counts are of calls from then on
	calls     int
	succeeded int
	attempts  []int // by endpoint
	took      []time.Duration
	counters  endpoint.Counters
}

// answer returns how endpoint i answers an attempt that starts at now, if all is well after
// took.
type answer func(i int, now, took time.Duration, random *rand.Rand) (time.Duration, endpoint.Result)

type simEvent struct {
	at time.Duration
	do func()
}

type simEvents []simEvent

func (e simEvents) Len() int           { return len(e) }
func (e simEvents) Less(i, j int) bool { return e[i].at < e[j].at }
func (e simEvents) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *simEvents) Push(x any)        { *e = append(*e, x.(simEvent)) }
func (e *simEvents) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (s *simulation) run(t *testing.T) {
	r := newRig(t, s.n)
	r.random = rand.New(rand.NewPCG(s.seed, 5))
	random := rand.New(rand.NewPCG(s.seed, 6))
	s.attempts = make([]int, s.n)
	index := map[*endpoint.Endpoint]int{}
	for i, e := range r.Endpoints() {
		index[e] = i
	}
	start := r.clock.Now()
	now := func() time.Duration { return r.clock.Now().Sub(start) }
	var events simEvents
	exp := func(mean time.Duration) time.Duration { return time.Duration(random.ExpFloat64() * float64(mean)) }
	var attempt func(trail *endpoint.Trail, left int, began time.Duration)
	attempt = func(trail *endpoint.Trail, left int, began time.Duration) {
		p := r.pick(trail)
		i := index[p.Endpoint()]
		took, result := s.answer(i, now(), exp(20*ms), random)
		if took > 500*ms {
			took, result = 500*ms, endpoint.Timeout
		}
		if began >= s.after {
			s.attempts[i]++
		}
		heap.Push(&events, simEvent{now() + took, func() {
			p.Answered(result, nil)
			p.End()
			switch {
			case result != endpoint.Success && left > 1:
				attempt(trail, left-1, began)
			case began >= s.after:
				s.calls++
				s.took = append(s.took, now()-began)
				if result == endpoint.Success {
					s.succeeded++
				}
			}
		}})
	}
	var arrive func()
	arrive = func() {
		attempt(new(endpoint.Trail), 3, now())
		if next := now() + exp(time.Second/time.Duration(s.rate)); next < s.duration {
			heap.Push(&events, simEvent{next, arrive})
		}
	}
	heap.Push(&events, simEvent{0, arrive})
	for len(events) > 0 {
		e := heap.Pop(&events).(simEvent)
		r.clock.Move(e.at - now())
		e.do()
	}
	s.counters = r.Stats().Counters
	slices.Sort(s.took)
}

func (s *simulation) ejections() uint64 {
	return s.counters.Failures + s.counters.Timeouts + s.counters.Unreachable
}

func (s *simulation) share(i int) float64 {
	all := 0
	for _, n := range s.attempts {
		all += n
	}
	return float64(s.attempts[i]) / float64(all)
}

func (s *simulation) String() string {
	return fmt.Sprintf("%d endpoints, %d/s: %d of %d succeeded, p99 %v, share of the first %.4f, %+v",
		s.n, s.rate, s.succeeded, s.calls, s.took[len(s.took)*99/100], s.share(0), s.counters)
}

func works(_ int, _, took time.Duration, _ *rand.Rand) (time.Duration, endpoint.Result) {
	return took, endpoint.Success
}

// Of 100 000 calls of endpoints that work, or that all fail one time in twenty, at most one
// ejects an endpoint.
func TestSimulation_healthy(t *testing.T) {
	fails := func(_ int, _, took time.Duration, random *rand.Rand) (time.Duration, endpoint.Result) {
		if random.IntN(20) == 0 {
			return took, endpoint.Failure
		}
		return took, endpoint.Success
	}
	for name, answer := range map[string]answer{"works": works, "5 % fail": fails} {
		s := simulation{rate: 50, n: 3, duration: 35 * time.Minute, answer: answer, seed: 1}
		s.run(t)
		if t.Logf("%s: %v", name, &s); s.ejections() > 1 || s.calls < 100_000 {
			t.Errorf("%s: %v", name, &s)
		}
	}
}

// If one endpoint refuses connections, hangs or answers failures, no call fails and the
// endpoint gets at most one attempt in a hundred.
func TestSimulation_oneIsBad(t *testing.T) {
	for name, c := range map[string]struct {
		result endpoint.Result
		took   time.Duration
	}{
		"refuses": {endpoint.Unreachable, ms}, "hangs": {endpoint.Timeout, time.Second}, "fails": {endpoint.Failure, ms},
	} {
		for n, rate := range map[int]int{2: 50, 3: 500, 20: 50} {
			s := simulation{rate: rate, n: n, after: 4 * time.Second, duration: 30 * time.Second, seed: 7}
			s.answer = func(i int, now, took time.Duration, _ *rand.Rand) (time.Duration, endpoint.Result) {
				if i == 0 && now > s.after {
					return c.took, c.result
				}
				return took, endpoint.Success
			}
			s.run(t)
			if t.Logf("%s: %v", name, &s); s.succeeded < s.calls || s.share(0) > .01 {
				t.Errorf("%s: %v", name, &s)
			}
		}
	}
}

// An endpoint that was down is back within four seconds at 50 calls a second, and after a
// common outage all endpoints share the work again.
func TestSimulation_recovery(t *testing.T) {
	for _, all := range []bool{false, true} {
		for seed := range uint64(5) {
			s := simulation{rate: 50, n: 3, after: 34 * time.Second, duration: 60 * time.Second, seed: seed}
			s.answer = func(i int, now, took time.Duration, _ *rand.Rand) (time.Duration, endpoint.Result) {
				if (i == 0 || all) && now > 10*time.Second && now < 30*time.Second {
					return time.Second, endpoint.Success // which is a timeout
				}
				return took, endpoint.Success
			}
			s.run(t)
			for i := range 3 {
				if s.succeeded < s.calls || s.share(i) < .2 {
					t.Errorf("all %v, endpoint %d has %.2f: %v", all, i, s.share(i), &s)
				}
			}
		}
	}
}

// Half of 20 endpoints are down, and few calls find that out: no call fails.
func TestSimulation_halfDown(t *testing.T) {
	for _, rate := range []int{2, 50} {
		s := simulation{rate: rate, n: 20, after: 4 * time.Second, duration: 3 * time.Minute, seed: 3}
		s.answer = func(i int, now, took time.Duration, _ *rand.Rand) (time.Duration, endpoint.Result) {
			if i%2 == 0 && now > s.after {
				return ms, endpoint.Unreachable
			}
			return took, endpoint.Success
		}
		s.run(t)
		if t.Log(&s); s.succeeded < s.calls*99/100 {
			t.Error(&s)
		}
	}
}
