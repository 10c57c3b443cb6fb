package cascade_test

import (
	"fmt"
	"math"
	"time"
)

// slow are dependencies that work, but not as fast as they are called.
var slow = []scenario{
	{name: "pauses 200 ms every 3 s", trouble: 30 * time.Second, work: pausing(200 * time.Millisecond), closed: true},
	{name: "pauses 400 ms every 3 s", trouble: 30 * time.Second, work: pausing(400 * time.Millisecond), closed: true},
	{name: "pauses 800 ms every 3 s", short: true, trouble: 30 * time.Second, work: pausing(800 * time.Millisecond), closed: true},
	alonePauses(200*time.Millisecond, 3*time.Second, 97, 2000),
	alonePauses(400*time.Millisecond, 3*time.Second, 97, 500, 750),
	alonePauses(400*time.Millisecond, 2*time.Second, 97, 500, 750),
	alonePauses(800*time.Millisecond, 3*time.Second, 0, 500),

	{name: "pauses 800 ms every 3 s", trouble: 30 * time.Second, work: pausing(800 * time.Millisecond), closed: true,
		fleets: []fleet{{processes: 10, rate: 75, seeds: 3}, {processes: 250, rate: 3, seeds: 1}}, worse: 1.5},
	{name: "pauses 800 ms every 3 s, requests stay in the queue", trouble: 30 * time.Second, work: pausing(800 * time.Millisecond), deaf: true,
		fleets: []fleet{{processes: 10, rate: 75, seeds: 3}, {processes: 250, rate: 3, seeds: 1}}, worse: 1.5},
	withTimeout(50*time.Millisecond, scenario{name: "pauses 40 ms every 3 s", trouble: 30 * time.Second,
		work: pausing(40 * time.Millisecond), closed: true, fleets: every}),
	withTimeout(10*time.Second, scenario{name: "pauses 2 s every 10 s", trouble: 30 * time.Second,
		work: pausingEvery(2*time.Second, 10*time.Second), closed: true, fleets: every}),

	brownOut(2, nil),
	brownOut(5, map[fleet]float64{few: 80}),
	brownOut(10, nil),
	twiceTheLoad("overload 2x", map[fleet]float64{few: 95, many: 85}),
	coldThenTwice(),
	herd(),
	withTimeout(50*time.Millisecond, brownOut(5, nil)),
	withTimeout(10*time.Second, longer(30*time.Second, brownOut(5, nil))),
	queueLeft(brownOut(5, nil)),
	withoutQueue("0.9 of the timeout", attempt, func(u float64) float64 { return -.9 * math.Log(1-u) }),
	withoutQueue("half or twice the timeout", attempt, func(u float64) float64 {
		if u < .6 {
			return .5
		}
		return 2
	}),
	// The bulkhead cannot tell it from an overload without a check, which takes some timeouts. A
	// process with few calls needs more of them.
	called(withoutQueue("0.9 to 1.1 of the timeout", attempt, aboutTheTimeout), few, alone),
	called(worse(4.5, withoutQueue("0.9 to 1.1 of the timeout", attempt, aboutTheTimeout)), many),
	called(worse(13, longer(time.Minute, withoutQueue("0.9 to 1.1 of the timeout", 2*time.Second, aboutTheTimeout))),
		few, fleet{processes: 10, rate: 1, seeds: 3}, fleet{processes: 10, rate: 5, seeds: 3}),
	queueLeft(twiceTheLoad("overload 2x", nil)),
	{name: "back cold, 20 to 100 % in 20 s", service: service{workers: 14, mean: 20 * time.Millisecond},
		trouble: 40 * time.Second, skip: 10 * time.Second, reply: down(refuses, 10*time.Second),
		work: func(at, busy time.Duration) time.Duration {
			warm := float64(at-10*time.Second) / float64(20*time.Second)
			return time.Duration(float64(busy) / min(1, 0.2+0.8*max(0, warm)))
		}},
}

// alonePauses has one process with so many calls a second that the bulkhead matters. The
// first pause is lost, since until then the dependency could as well be hanging. If atLeast
// is set, it replaces the demand not to be worse than no protection.
func alonePauses(long, every time.Duration, atLeast float64, rates ...float64) scenario {
	s := scenario{name: fmt.Sprintf("pauses %d ms every %d s", long.Milliseconds(), every/time.Second), trouble: 30 * time.Second,
		service: service{workers: 10, mean: 10 * time.Millisecond}, work: pausingEvery(long, every), closed: true, worse: 1.5}
	if rates[0] > 1000 {
		s.service = service{workers: 20, mean: 5 * time.Millisecond}
	}
	if atLeast > 0 {
		s.worse, s.atLeast = 100-atLeast, map[fleet]float64{}
	}
	for _, rate := range rates {
		f := fleet{processes: 1, rate: rate, seeds: 3}
		s.fleets = append(s.fleets, f)
		if atLeast > 0 {
			s.atLeast[f] = atLeast
		}
	}
	return s
}

// pausing has workers take up nothing for so long, every 3 s.
func pausing(long time.Duration) func(at, busy time.Duration) time.Duration {
	return pausingEvery(long, 3*time.Second)
}

func pausingEvery(long, every time.Duration) func(at, busy time.Duration) time.Duration {
	return func(at, busy time.Duration) time.Duration { return busy + max(0, long-at%every) }
}

// brownOut is a dependency whose work takes longer. The first 2 s, in which its queue fills,
// do not count.
func brownOut(times float64, atLeast map[fleet]float64) scenario {
	return scenario{name: fmt.Sprintf("brown-out, %vx slower", times), fleets: every, deaf: true,
		trouble: 22 * time.Second, skip: 2 * time.Second, slow: constant(times), atLeast: atLeast}
}

// twiceTheLoad gets twice as many calls as its workers can complete.
func twiceTheLoad(name string, atLeast map[fleet]float64) scenario {
	return scenario{name: name, fleets: every, deaf: true,
		trouble: 17 * time.Second, skip: 2 * time.Second, surge: constant(4), atLeast: atLeast}
}

// coldThenTwice starts with a load that needs 70 in flight, and gets twice as many calls as
// its workers can complete after 10 s.
func coldThenTwice() scenario {
	s := twiceTheLoad("cold start that needs 70 in flight, then 2x", nil)
	s.lead, s.skip, s.trouble = cold, 10*time.Second, 25*time.Second
	s.service = service{workers: 100, mean: 100 * time.Millisecond}
	s.fleets = []fleet{{processes: 10, rate: 70, seeds: 3}, {processes: 1, rate: 700, seeds: 3}}
	s.surge = func(at time.Duration) float64 {
		if at < 10*time.Second {
			return 1
		}
		return 2000. / 700
	}
	return s
}

// herd is a dependency that comes back cold. 500 callers have waited for this, and their
// calls come within 100 ms.
func herd() scenario {
	const back, gust = 10 * time.Second, 100 * time.Millisecond
	return scenario{name: "herd, 20 to 100 % in 10 s", fleets: []fleet{{processes: 5, rate: 100, seeds: 3}}, deaf: true,
		service: service{workers: 14, mean: 20 * time.Millisecond}, trouble: 40 * time.Second, skip: back, reply: down(refuses, back),
		slow: func(at time.Duration) float64 {
			warm := float64(at-back) / float64(10*time.Second)
			return 1 / min(1, 0.2+0.8*max(0, warm))
		},
		surge: func(at time.Duration) float64 {
			if at >= back && at < back+gust {
				return 10
			}
			return 1
		}}
}

// aboutTheTimeout is uniform around the timeout.
func aboutTheTimeout(u float64) float64 { return .9 + .2*u }

// worse lets the stack be worse than no protection by so many points.
func worse(points float64, s scenario) scenario {
	s.worse = points
	return s
}

// withoutQueue is a dependency that becomes slower for each call, however many there are. takes is
// in timeouts.
func withoutQueue(name string, timeout time.Duration, takes quantile) scenario {
	s := scenario{name: "takes " + name + ", without a queue", fleets: every, trouble: time.Minute,
		service: service{workers: 100_000, mean: 20 * time.Millisecond},
		work: func(_, busy time.Duration) time.Duration {
			u := 1 - math.Exp(-busy.Seconds()/0.02) // busy is exponentially distributed
			return time.Duration(takes(u) * float64(timeout))
		}}
	if timeout != attempt {
		s.attempt = timeout
		s.name = fmt.Sprintf("%s, timeout %v s", s.name, timeout.Seconds())
	}
	return s
}

// longer has the trouble of s last longer, for what takes longer than usual to show. A third of that
// does not count, if s skips a time.
func longer(by time.Duration, s scenario) scenario {
	if s.skip > 0 {
		s.skip += by / 3
	}
	s.trouble += by
	return s
}

// queueLeft has the requests of s leave the queue of the dependency with their callers.
func queueLeft(s scenario) scenario {
	s.name += ", requests leave the queue"
	s.deaf = false
	return s
}
