package cascade_test

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// A scenario is a dependency, its trouble, and what the stack has to do about it.
// A new one is an entry in failing, outages, slow or healthy.
type scenario struct {
	name    string
	fleets  []fleet // nil: few and many
	service service // zero: usual
	// attempt is the timeout of an attempt, 0 for 500 ms.
	attempt time.Duration
	// hops is how many clients there are in a row, 0 for one: each has a fleet like
	// the first, and only the last calls the dependency.
	hops int
	// lead is how long all goes well before the trouble: 0 for 5 s, negative for not at
	// all.
	lead time.Duration
	// trouble is how long the trouble lasts, and after how long the calls go on
	// after it. All of these calls count, except during the first skip.
	trouble, after, skip time.Duration
	reply                func(at time.Duration, luck *rand.Rand) answer // as in server
	work                 func(at, busy time.Duration) time.Duration     // as in server
	// deaf says that a request stays in the queue of the dependency when its caller has left.
	deaf bool
	// slow is by how much the work takes longer that begins so long after the trouble has
	// begun, and surge is by how much more calls there are then. If one of them is set, a
	// success is in percent of the calls that the workers could have completed.
	slow, surge func(at time.Duration) float64
	// leaves returns after what time the caller of a call leaves by itself, 0 for never.
	leaves func(luck *rand.Rand) time.Duration
	// hurries returns the deadline of a call, if that is shorter than usual.
	hurries func(luck *rand.Rand) time.Duration

	// worse is by how many points the stack may be worse than no protection, 0 for
	// one point. atLeast is how many percent must succeed.
	worse   float64
	atLeast map[fleet]float64
	// recovery says that nothing works during the trouble and all does after it,
	// and within what time nine of ten processes have to notice, if they make 50
	// calls a second.
	recovery time.Duration
	// load is how many requests may reach the dependency for each call, 0 for any
	// number.
	load float64
	// closed says that no breaker may open, if a process makes 50 calls a second.
	closed bool
	// admitsAll says that no policy may reject a call.
	admitsAll bool
	// short marks the scenarios that also run with the race detector.
	short bool
	// reported says that there is no demand, for the reason that README.md gives.
	reported bool
}

const (
	// cold is the lead of a trouble that begins with the first calls.
	cold = -1
	// burst is how many calls the callers of a fleet make that has callers.
	burst = 10_000
)

// usual is half busy with the calls of few or many.
var usual = service{workers: 20, mean: 20 * time.Millisecond}

// every is the same load in processes of three sizes.
var every = []fleet{few, many, alone}

// small are processes with few calls.
var small = []fleet{{processes: 100, rate: 1, seeds: 10}, {processes: 20, rate: 5, seeds: 10}, {processes: 10, rate: 10, seeds: 10}}

// withTimeout has attempts with another timeout. The work of the dependency takes the same
// share of it as usual, and there are as many workers as this needs.
func withTimeout(timeout time.Duration, s scenario) scenario {
	s.name = fmt.Sprintf("%s, timeout %v s", s.name, timeout.Seconds())
	s.attempt = timeout
	if s.recovery > time.Second { // the last call that hangs fails after the timeout
		s.recovery += timeout - attempt
	}
	s.service.mean = usual.mean * timeout / attempt
	s.service.workers = usual.workers * int64(timeout) / int64(attempt)
	return s
}

// called has s called by other fleets.
func called(s scenario, fleets ...fleet) scenario {
	s.fleets = fleets
	return s
}

// surgeAfter is the surge at a time after the beginning, which is before the trouble.
func (s *scenario) surgeAfter(before time.Duration) func(time.Duration) float64 {
	if s.surge == nil {
		return nil
	}
	return func(since time.Duration) float64 {
		if since < before {
			return 1
		}
		return s.surge(since - before)
	}
}

// possible returns how many calls of f could succeed in a run with so many calls: all,
// unless there are more than workers with that capacity can complete.
func (s *scenario) possible(f fleet, capacity float64, calls int) float64 {
	if s.slow == nil && s.surge == nil {
		return float64(calls)
	}
	const step = 10 * time.Millisecond
	offered, able := 0., 0. // in multiples of the usual rate
	for at := s.skip; at < s.trouble+s.after; at += step {
		surge, slow := 1., 1.
		if s.surge != nil {
			surge = s.surge(at)
		}
		if s.slow != nil {
			slow = s.slow(at)
		}
		offered += surge
		able += min(surge, capacity/slow/(f.rate*float64(f.processes)))
	}
	return float64(calls) * able / offered
}
