package cascade_test

import (
	"math/rand/v2"
	"time"
)

// healthy are dependencies that work well, so that any call that fails is our fault.
var healthy = []scenario{
	{name: "healthy", trouble: 30 * time.Second, closed: true, admitsAll: true, fleets: small},
	withTimeout(50*time.Millisecond, scenario{name: "healthy", trouble: 30 * time.Second, closed: true, admitsAll: true, fleets: every}),
	withTimeout(10*time.Second, scenario{name: "healthy", trouble: 30 * time.Second, closed: true, admitsAll: true, fleets: every}),
	{name: "cold start that needs 70 in flight", lead: cold, trouble: 20 * time.Second, closed: true,
		service: service{workers: 100, mean: 100 * time.Millisecond},
		fleets:  []fleet{{processes: 1, rate: 700, seeds: 3}, {processes: 10, rate: 70, seeds: 1}}},
	{name: "attempts take 0.9 of their timeout", lead: cold, trouble: 15 * time.Second, closed: true,
		service: service{workers: 1000, mean: 450 * time.Millisecond, takes: narrow}, fleets: []fleet{few, alone}},
	{name: "search as you type: nine of ten callers leave after 5 ms", trouble: 30 * time.Second, closed: true, admitsAll: true,
		fleets: every, leaves: func(luck *rand.Rand) time.Duration {
			if luck.Float64() < 0.9 {
				return 5 * time.Millisecond
			}
			return 0
		}},
	{name: "a quarter of the callers have 10 ms", trouble: time.Minute, fleets: []fleet{few, alone},
		hurries: func(luck *rand.Rand) time.Duration {
			if luck.Float64() < 0.25 {
				return 10 * time.Millisecond
			}
			return time.Hour
		}},
	{name: "all callers start at once", lead: cold, trouble: time.Minute, admitsAll: true, short: true,
		service: service{workers: 1000, mean: 20 * time.Millisecond},
		fleets:  []fleet{{processes: 1, callers: 100, seeds: 1}, {processes: 1, callers: 200, seeds: 1}, {processes: 1, callers: 1000, seeds: 1}}},
}
