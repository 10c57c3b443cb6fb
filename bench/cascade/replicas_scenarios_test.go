package cascade_test

import "time"

// healthyReplicas are a dependency in good health.
var healthyReplicas = &replicated{name: "healthy", well: true, atLeast: 99.9, ofOracle: 1.1}

// troubles are the troubles of one replica, of some, and of all.
var troubles = []*replicated{
	healthyReplicas,
	{name: "one refuses", is: one(during(condition{answer: refuses})), atLeast: 99.9, share: 1, p99: 1.1},
	{name: "one hangs", is: one(during(condition{answer: hangs})), atLeast: 99.9, share: 1, p99: 1.25},
	{name: "one answers 503", is: one(during(condition{answer: fails})), atLeast: 99.9, share: 1, p99: 1.1},
	{name: "one has 30 % errors", is: one(during(condition{answer: fails, share: .3})), atLeast: 99.9},
	{name: "one is 3x slower", is: one(during(condition{slower: 3})), atLeast: 99.9, ofOracle: 1.2},
	{name: "one is 10x slower", is: one(during(condition{slower: 10})), atLeast: 99.9},
	{name: "one flaps 3 s/3 s", atLeast: 99.9, is: one(func(at time.Duration) condition {
		return downIf(at < trouble && at%(6*time.Second) < 3*time.Second)
	})},
	{name: "rolling restart, 5 s each", atLeast: 99.9, is: func(i, _ int) func(time.Duration) condition {
		from := time.Duration(i) * 5 * time.Second
		return func(at time.Duration) condition { return downIf(at >= from && at < from+5*time.Second) }
	}},
	{name: "one is down for 5 s, then cold", atLeast: 99.9, is: one(func(at time.Duration) condition {
		const down, warm = 5 * time.Second, 8 * time.Second
		if at < down {
			return condition{answer: refuses}
		}
		return condition{slower: max(1, 5-4*float64(at-down)/float64(warm))}
	})},
	{name: "speeds 1 : 1.5 : 3", ofOracle: 1.2, speed: func(i int) float64 { return []float64{1, 1.5, 3}[i%3] }},
	{name: "half are down", half: true, atLeast: 99.9, is: func(i, n int) func(time.Duration) condition {
		if i < n/2 {
			return during(condition{answer: refuses})
		}
		return nil
	}},
	{name: "all refuse", asStack: true, is: alike(during(condition{answer: refuses}))},
	{name: "all hang for 8 s", asStack: true, is: alike(lasting(8*time.Second, condition{answer: hangs}))},
	{name: "all are 8x slower for 10 s", asStack: true, is: alike(lasting(10*time.Second, condition{slower: 8}))},
	{name: "half of all answers are 503", asStack: true, is: alike(during(condition{answer: fails, share: .5}))},
	{name: "5 % of all answers are 503", well: true, asStack: true, is: alike(during(condition{answer: fails, share: .05}))},
}

// one has replica 0 in trouble.
func one(is func(at time.Duration) condition) func(i, n int) func(time.Duration) condition {
	return func(i, _ int) func(time.Duration) condition {
		if i == 0 {
			return is
		}
		return nil
	}
}

// alike has all replicas in the same trouble.
func alike(is func(at time.Duration) condition) func(i, n int) func(time.Duration) condition {
	return func(int, int) func(time.Duration) condition { return is }
}

// during is a condition that lasts as long as the trouble.
func during(c condition) func(time.Duration) condition { return lasting(trouble, c) }

// lasting is a condition that lasts for long.
func lasting(long time.Duration, c condition) func(time.Duration) condition {
	return func(at time.Duration) condition {
		if at < long {
			return c
		}
		return condition{}
	}
}

// downIf is a replica that refuses if down is true.
func downIf(down bool) condition {
	if down {
		return condition{answer: refuses}
	}
	return condition{}
}
