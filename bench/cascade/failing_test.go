package cascade_test

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// failing are dependencies of which a part works.
var failing = []scenario{
	replicas("one of three replicas refuses", refuses, 3),
	alsoWithRace(replicas("one of three replicas hangs", hangs, 3)),
	replicas("one of two replicas refuses", refuses, 2),
	replicas("one of two replicas hangs", hangs, 2),

	called(scenario{name: "a tenth answers at once with a timeout", trouble: 30 * time.Second, closed: true, reply: some(gaveUp, 0.1)}, few, alone),
	called(scenario{name: "2 % hang, and bursts of 200", trouble: 5 * time.Minute, reply: some(hangs, 0.02), surge: bursts(200), service: ample}, quiet),
	slowByNature(0.05), slowByNature(0.1), slowByNature(0.2),

	{name: "5 % errors", trouble: time.Minute, closed: true, reply: some(refuses, 0.05)},
	failed(30), failed(50), failed(70), worse(1.5, failed(90)), // with two calls a second it is 0.8 to 1.1

	called(failed(50), small...),
	hanging(50), worse(2, hanging(70)), worse(9, hanging(90)), // nine of ten hang: that is nearly an outage

	// With 70 % the slots may fill before a third of the first calls has answered, as in an outage.
	hangingLong(30), hangingLong(50), hangingLong(60), worse(10, hangingLong(70)),

	back(refuses, 30, nil), back(refuses, 50, map[fleet]float64{few: 55}), back(refuses, 70, nil),
	worse(4, back(hangs, 30, nil)), back(hangs, 50, nil), back(hangs, 70, nil),
}

// replicas is a dependency of which one replica is down. A call goes to any of them.
func replicas(name string, how answer, n int) scenario {
	return scenario{name: name, trouble: 20 * time.Second, reply: some(how, 1/float64(n)), fleets: every}
}

func failed(percent float64) scenario {
	return scenario{name: fmt.Sprintf("%v %% errors", percent), trouble: 30 * time.Second, reply: some(refuses, percent/100)}
}

// hanging is a dependency that hangs for that share of the calls.
func hanging(percent float64) scenario {
	return scenario{name: fmt.Sprintf("%v %% hang", percent), trouble: 30 * time.Second, reply: some(hangs, percent/100), fleets: every}
}

// hangingLong is a dependency that hangs for that share of the calls, with the default timeout of an
// attempt. A call that hangs ends long after those that were admitted with it.
func hangingLong(percent float64) scenario {
	const timeout = 10 * time.Second
	return scenario{name: fmt.Sprintf("%v %% hang, timeout %v s", percent, timeout.Seconds()), trouble: 80 * time.Second, attempt: timeout,
		service: ample, reply: some(hangs, percent/100), fleets: []fleet{few, {processes: 1, rate: 100, seeds: 3}}}
}

// back is a dependency that is down for 10 s, and serves that share of the requests after that.
func back(how answer, percent float64, atLeast map[fleet]float64) scenario {
	up := some(how, 1-percent/100)
	s := scenario{name: fmt.Sprintf("back at %v %%", percent), trouble: 60 * time.Second, skip: 10 * time.Second, atLeast: atLeast,
		reply: func(at time.Duration, luck *rand.Rand) answer {
			if at < 10*time.Second {
				return how
			}
			return up(at, luck)
		}}
	if how == hangs {
		s.name += ", the others hang"
	}
	return s
}

// quiet is one process with few calls.
var quiet = fleet{processes: 1, rate: 5, seeds: 1}

// ample is a service with as many workers as anyone needs.
var ample = service{workers: 100_000, mean: 20 * time.Millisecond}

// bursts are so many calls in a fifth of a second once in a minute, instead of one.
func bursts(calls float64) func(time.Duration) float64 {
	return func(at time.Duration) float64 {
		if at%time.Minute < 200*time.Millisecond {
			return calls
		}
		return 1
	}
}

// slowByNature becomes slow without a queue: calls take 0.6 of their timeout, and some hang.
func slowByNature(hanging float64) scenario {
	return scenario{name: fmt.Sprintf("takes 0.6 of the timeout, %v %% hang", 100*hanging), trouble: time.Minute, fleets: []fleet{alone, {processes: 1, rate: 50, seeds: 3}},
		service: ample, reply: some(hangs, hanging), work: func(_, busy time.Duration) time.Duration { return 6*attempt/10 + busy/2 }}
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

// beginning is reply from a later time on.
func beginning(later time.Duration, reply func(time.Duration, *rand.Rand) answer) func(time.Duration, *rand.Rand) answer {
	return func(at time.Duration, luck *rand.Rand) answer {
		if at < later {
			return serves
		}
		return reply(at, luck)
	}
}
