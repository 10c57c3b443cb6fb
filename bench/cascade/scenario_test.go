package cascade_test

import (
	"math/rand/v2"
	"time"
)

// A scenario is a dependency, its trouble, and what the stack has to do about it.
// A new one is an entry in scenarios.
type scenario struct {
	name    string
	fleets  []fleet // nil: few and many
	service service // zero: usual
	// hops is how many clients there are in a row, 0 for one: each has a fleet like
	// the first, and only the last calls the dependency.
	hops int
	// cold says that the trouble begins with the first calls, and not when all has
	// gone well for a while.
	cold bool
	// trouble is how long the trouble lasts, and after how long the calls go on
	// after it. All of these calls count, except during the first skip.
	trouble, after, skip time.Duration
	reply                func(at time.Duration, luck *rand.Rand) answer // as in server
	work                 func(at, busy time.Duration) time.Duration     // as in server

	// worse is by how many points the stack may be worse than no protection, 0 for
	// one point.
	worse float64
	// recovery says that nothing works during the trouble and all does after it,
	// and within what time nine of ten processes have to notice, if they make 50
	// calls a second.
	recovery time.Duration
	// load is how many requests may reach the dependency for each call, 0 for any
	// number.
	load float64
	// closed says that no breaker may open, if a process makes 50 calls a second.
	closed bool
	// short marks the scenarios that also run with the race detector.
	short bool
	// reported says that there is no demand, for the reason that README.md gives.
	reported bool
}

// usual is half busy with the calls of few or many.
var usual = service{workers: 20, mean: 20 * time.Millisecond}

// alone is one process with so many calls that it matters what a bulkhead does.
var alone = fleet{processes: 1, rate: 500, seeds: 3}

var scenarios = []scenario{
	{name: "one of three replicas refuses", trouble: 20 * time.Second,
		reply: some(refuses, 1./3)},
	{name: "one of three replicas hangs", short: true, trouble: 20 * time.Second,
		reply: some(hangs, 1./3)},

	outage("refuses for 3.2 s", refuses, 3200*time.Millisecond),
	outage("refuses for 10 s", refuses, 10*time.Second),
	outage("refuses for 63 s", refuses, 63*time.Second),
	alsoWithRace(outage("hangs for 3.2 s", hangs, 3200*time.Millisecond)),
	outage("hangs for 10 s", hangs, 10*time.Second),
	outage("hangs for 63 s", hangs, 63*time.Second),
	behind(3, 1, outage("refuses for 30 s, three hops away", refuses, 30*time.Second)),
	behind(3, 1.5, outage("hangs for 30 s, three hops away", hangs, 30*time.Second)), // loses 0.9 points, but not always

	{name: "flaps 3 s/3 s", trouble: 30 * time.Second, reply: flapping(3 * time.Second), worse: 2},
	{name: "flaps 1 s/1 s", short: true, trouble: 30 * time.Second, reply: flapping(time.Second)},

	{name: "pauses 200 ms every 3 s", trouble: 30 * time.Second, work: pausing(200 * time.Millisecond), closed: true},
	{name: "pauses 400 ms every 3 s", trouble: 30 * time.Second, work: pausing(400 * time.Millisecond), closed: true},
	{name: "pauses 800 ms every 3 s", short: true, trouble: 30 * time.Second, work: pausing(800 * time.Millisecond), closed: true},
	{name: "pauses 400 ms every 3 s", trouble: 30 * time.Second, work: pausing(400 * time.Millisecond), fleets: []fleet{alone}, reported: true},
	{name: "pauses 800 ms every 3 s", trouble: 30 * time.Second, work: pausing(800 * time.Millisecond), fleets: []fleet{alone}, reported: true},

	{name: "5 % errors", trouble: time.Minute, closed: true, reply: some(refuses, 0.05)},
	{name: "back cold, 20 to 100 % in 20 s", service: service{workers: 14, mean: 20 * time.Millisecond},
		trouble: 40 * time.Second, skip: 10 * time.Second, reply: down(refuses, 10*time.Second),
		work: func(at, busy time.Duration) time.Duration {
			warm := float64(at-10*time.Second) / float64(20*time.Second)
			return time.Duration(float64(busy) / min(1, 0.2+0.8*max(0, warm)))
		}},
	{name: "cold start that needs 70 in flight", cold: true, trouble: 20 * time.Second, closed: true,
		service: service{workers: 100, mean: 100 * time.Millisecond},
		fleets:  []fleet{{processes: 1, rate: 700, seeds: 3}, {processes: 10, rate: 70, seeds: 1}}},
	{name: "back at 50 %", trouble: 60 * time.Second, skip: 10 * time.Second, reported: true,
		reply: func(at time.Duration, luck *rand.Rand) answer {
			if at < 10*time.Second {
				return refuses
			}
			return some(refuses, 0.5)(at, luck)
		}},
}

// outage is a dependency that is down for so long once in two minutes. A process
// whose last call hangs as the outage ends notices only at the timeout of the call.
func outage(name string, how answer, long time.Duration) scenario {
	s := scenario{name: name, trouble: long, after: 2*time.Minute - long, reply: down(how, long), recovery: time.Second}
	if how == hangs {
		s.recovery += attempt
	}
	return s
}

func alsoWithRace(s scenario) scenario {
	s.short = true
	return s
}

// behind has the dependency of s called through a chain of clients, each of which
// may take a second to notice that the next one has recovered.
func behind(hops int, worse float64, s scenario) scenario {
	s.hops, s.worse, s.fleets, s.load = hops, worse, []fleet{few}, 0.2
	s.recovery += time.Duration(hops-1) * time.Second
	return s
}

func down(how answer, long time.Duration) func(time.Duration, *rand.Rand) answer {
	return func(at time.Duration, _ *rand.Rand) answer {
		if at < long {
			return how
		}
		return serves
	}
}

// flapping is down for half, then up for half.
func flapping(half time.Duration) func(time.Duration, *rand.Rand) answer {
	return func(at time.Duration, _ *rand.Rand) answer {
		if at%(2*half) < half {
			return refuses
		}
		return serves
	}
}

// pausing has workers take up nothing for so long, every 3 s.
func pausing(long time.Duration) func(at, busy time.Duration) time.Duration {
	return func(at, busy time.Duration) time.Duration {
		return busy + max(0, long-at%(3*time.Second))
	}
}

// some is what a share of the requests gets, while the others are served.
func some(how answer, share float64) func(time.Duration, *rand.Rand) answer {
	return func(_ time.Duration, luck *rand.Rand) answer {
		if luck.Float64() < share {
			return how
		}
		return serves
	}
}
