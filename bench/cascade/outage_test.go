package cascade_test

import (
	"math/rand/v2"
	"time"
)

// outages are dependencies that are down for a while.
var outages = []scenario{
	outage("refuses for 3.2 s", refuses, 3200*time.Millisecond),
	outage("refuses for 10 s", refuses, 10*time.Second),
	outage("refuses for 63 s", refuses, 63*time.Second),
	alsoWithRace(outage("hangs for 3.2 s", hangs, 3200*time.Millisecond)),
	outage("hangs for 10 s", hangs, 10*time.Second),
	outage("hangs for 63 s", hangs, 63*time.Second),
	behind(3, outage("refuses for 30 s, three hops away", refuses, 30*time.Second)),
	behind(3, outage("hangs for 30 s, three hops away", hangs, 30*time.Second)),

	called(outage("refuses for 10 s", refuses, 10*time.Second), small...),
	called(outage("refuses for 63 s", refuses, 63*time.Second), small...),
	since(cold, called(outage("hangs for 10 s from the first call on", hangs, 10*time.Second), every...)),
	since(time.Second, called(outage("hangs for 10 s after 1 s", hangs, 10*time.Second), every...)),
	withTimeout(50*time.Millisecond, outage("hangs for 10 s", hangs, 10*time.Second)),
	withTimeout(10*time.Second, outage("hangs for 10 s", hangs, 10*time.Second)),
	leaving(200*time.Millisecond, outage("hangs for 10 s, callers leave after 200 ms", hangs, 10*time.Second)),

	{name: "flaps 3 s/3 s", trouble: 30 * time.Second, reply: flapping(3 * time.Second), worse: 2},
	{name: "flaps 2 s/2 s", trouble: 30 * time.Second, reply: flapping(2 * time.Second), worse: 2},
	{name: "flaps 1 s/1 s", short: true, trouble: 30 * time.Second, reply: flapping(time.Second)},
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

// since has the trouble of s begin after another lead. The demand on the recovery is for a
// trouble in good health.
func since(lead time.Duration, s scenario) scenario {
	s.lead, s.recovery = lead, 0
	return s
}

// leaving has all callers leave that wait for so long, before the timeout of an attempt. Their
// calls do not count, so the calls that the open breaker rejects are all that is lost.
func leaving(after time.Duration, s scenario) scenario {
	s.leaves = func(*rand.Rand) time.Duration { return after }
	s.recovery, s.reported = 0, true
	return s
}

func alsoWithRace(s scenario) scenario {
	s.short = true
	return s
}

// behind has the dependency of s called through a chain of clients, each of which
// may take a second to notice that the next one has recovered.
func behind(hops int, s scenario) scenario {
	s.hops, s.fleets, s.load = hops, []fleet{{processes: few.processes, rate: few.rate, seeds: 6}}, 0.2
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
