package cascade_test

import "time"

// bursts are dependencies in good health, whose clients have just started.
var bursts = []scenario{
	{name: "cold start that needs 70 in flight", lead: cold, trouble: 20 * time.Second, closed: true,
		service: service{workers: 100, mean: 100 * time.Millisecond},
		fleets:  []fleet{{processes: 1, rate: 700, seeds: 3}, {processes: 10, rate: 70, seeds: 1}}},
	{name: "all callers start at once", lead: cold, trouble: time.Minute, admitsAll: true, short: true,
		service: service{workers: 1000, mean: 20 * time.Millisecond},
		fleets:  []fleet{{processes: 1, callers: 100, seeds: 1}, {processes: 1, callers: 200, seeds: 1}, {processes: 1, callers: 1000, seeds: 1}}},
}
