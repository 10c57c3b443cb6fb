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

	{name: "5 % errors", trouble: time.Minute, closed: true, reply: some(refuses, 0.05)},
	failed(30), failed(50), failed(70), failed(90),

	called(failed(50), small...),

	back(30, nil), back(50, map[fleet]float64{few: 55}), back(70, nil),
}

// replicas is a dependency of which one replica is down. A call goes to any of them.
func replicas(name string, how answer, n int) scenario {
	return scenario{name: name, trouble: 20 * time.Second, reply: some(how, 1/float64(n)), fleets: every}
}

func failed(percent float64) scenario {
	return scenario{name: fmt.Sprintf("%v %% errors", percent), trouble: 30 * time.Second, reply: some(refuses, percent/100)}
}

// back is a dependency that refuses everything for 10 s, and is not quite well after that.
func back(percent float64, atLeast map[fleet]float64) scenario {
	up := some(refuses, 1-percent/100)
	return scenario{name: fmt.Sprintf("back at %v %%", percent), trouble: 60 * time.Second, skip: 10 * time.Second, atLeast: atLeast,
		reply: func(at time.Duration, luck *rand.Rand) answer {
			if at < 10*time.Second {
				return refuses
			}
			return up(at, luck)
		}}
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
