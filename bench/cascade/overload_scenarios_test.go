package cascade_test

import (
	"strconv"
	"time"
)

// An overload is a server and its trouble, and what the limit has to make of it.
// A new one is an entry in overloads.
type overload struct {
	name    string
	workers int
	mean    time.Duration // of the work for a request
	takes   quantile      // nil: exponential
	// shared says that the workers are cores that requests share, unbounded that there is no end
	// of workers and the number of them says what the load is.
	shared, unbounded bool
	attempt           time.Duration // limit of an attempt, 0 for 500 ms
	// lead is how long all goes well before the trouble: 0 for 5 s, negative for not
	// at all.
	lead, trouble, after time.Duration
	// load is how many calls come during the trouble, in multiples of what the
	// workers can do in good times: 0 for 0.7, as before and after it.
	load float64
	// atOnce calls come at the very beginning.
	atOnce int
	work   func(at, busy time.Duration) time.Duration // as in server
	// capable is what share of its capacity the server has, from its work. nil: 1.
	capable func(at time.Duration) float64
	// crowded says that clients with policies call it, too.
	crowded bool
	// short says that it runs when there is no time for all.
	short bool

	demand demand
}

// A demand is what the limit has to come to, goal what would be better. 0: nothing.
type demand struct {
	good, goal float64 // percent of what is possible
	p99        float64 // in multiples of that without overload
	noRefusal  bool    // before the trouble
	near       float64 // points of success that the limit may cost during the trouble
	nearGoal   float64
}

// normal is the load before and after a trouble.
const normal = 0.7

func (o *overload) withDefaults() *overload {
	c := *o
	if c.takes == nil {
		c.takes = exponential
	}
	if c.attempt == 0 {
		c.attempt = attempt
	}
	if c.lead == 0 {
		c.lead = lead
	}
	c.lead = max(0, c.lead)
	if c.load == 0 {
		c.load = normal
	}
	if c.capable == nil {
		c.capable = func(time.Duration) float64 { return 1 }
	}
	return &c
}

// capacity is in requests a second.
func (o *overload) capacity() float64 { return float64(o.workers) / o.mean.Seconds() }

// rate is how many calls come, a second.
func (o *overload) rate(at time.Duration) float64 {
	if 0 <= at && at < o.trouble {
		return o.load * o.capacity()
	}
	return normal * o.capacity()
}

// possible is how many calls could be useful, a second.
func (o *overload) possible(at time.Duration) float64 {
	return min(o.rate(at), o.capable(at)*o.capacity())
}

// rush is 2 s, but of a short trouble the first third.
func (o *overload) rush() time.Duration { return min(rush, (o.trouble / 3).Truncate(step)) }

const ms = time.Millisecond

var overloads = []overload{
	{name: "brown-out, 5x slower", workers: 10, mean: 10 * ms, trouble: 20 * time.Second, after: 5 * time.Second,
		work: slower(5), capable: constant(0.2), crowded: true, short: true, demand: demand{good: 98, goal: 99.5}},
	{name: "2x", workers: 10, mean: 10 * ms, load: 2, trouble: 18 * time.Second, after: 5 * time.Second,
		crowded: true, short: true, demand: demand{good: 98.5, goal: 99.5, p99: 1.3}},
	{name: "1.2x", workers: 10, mean: 10 * ms, load: 1.2, trouble: 18 * time.Second, after: 5 * time.Second,
		demand: demand{good: 98, goal: 99.5}},
	{name: "cold start that needs 70, 2x", workers: 100, mean: 100 * ms, load: 2, trouble: 18 * time.Second, after: 5 * time.Second,
		crowded: true, short: true, demand: demand{good: 98, goal: 99.5, noRefusal: true}},
	{name: "herd, 20 to 100 % in 10 s", workers: 10, mean: 10 * ms, lead: -1, atOnce: 1000, trouble: 20 * time.Second, after: 5 * time.Second,
		work: warming, capable: warmth, crowded: true, demand: demand{good: 98, goal: 99.5}},
	{name: "1 % take 20x, 2x", workers: 10, mean: 10 * ms, takes: oneInAHundred, load: 2, trouble: 18 * time.Second, after: 5 * time.Second,
		demand: demand{goal: 99.5, noRefusal: true}},
	{name: "10 and 500 ms, 2x", workers: 100, mean: 255 * ms, takes: twoRoutes, attempt: 2 * time.Second, lead: 10 * time.Second, load: 2, trouble: 18 * time.Second, after: 8 * time.Second,
		demand: demand{goal: 99.5, noRefusal: true}},

	workers(1, 10*ms, 18*time.Second, 98),
	workers(4, 10*ms, 18*time.Second, 98),
	workers(100, 10*ms, 6*time.Second, 98),
	patient(1, 100*ms),
	patient(4, 200*ms),
	workers(1000, 100*ms, 6*time.Second, 0),

	{name: "8 cores, 2x", workers: 8, mean: 10 * ms, shared: true, load: 2, trouble: 18 * time.Second, after: 5 * time.Second,
		short: true, demand: demand{good: 98, goal: 99.5}},
	{name: "fixed 20 ms, 1.3x", workers: 10, mean: 20 * ms, takes: fixed, load: 1.3, trouble: 18 * time.Second, after: 5 * time.Second,
		demand: demand{goal: 99.5}},
	{name: "log-normal, 6 cores, 1.5x", workers: 6, mean: 30 * ms, takes: logNormal, shared: true, attempt: 2 * time.Second, load: 1.5, lead: 20 * time.Second, trouble: 40 * time.Second, after: 5 * time.Second,
		demand: demand{goal: 98.5}},
	{name: "pauses of 200 ms", workers: 10, mean: 10 * ms, trouble: 30 * time.Second, work: pausing(200 * ms), demand: demand{near: 1}},
	{name: "pauses of 400 ms", workers: 10, mean: 10 * ms, trouble: 30 * time.Second, work: pausing(400 * ms), demand: demand{near: 1}},
	{name: "pauses of 800 ms", workers: 10, mean: 10 * ms, trouble: 30 * time.Second, work: pausing(800 * ms), crowded: true, short: true, demand: demand{near: 1}},
	{name: "dependency 10x slower", workers: 10, mean: 10 * ms, unbounded: true, trouble: 20 * time.Second, after: 5 * time.Second,
		work: slower(10), demand: demand{nearGoal: 1}},
}

// workers is twice the load that c of them can bear.
func workers(c int, each, long time.Duration, good float64) overload {
	o := overload{name: "workers", workers: c, mean: each, load: 2, trouble: long, after: 5 * time.Second, demand: demand{good: good, goal: 99.5}}
	o.name = each.String() + ", 2x, workers: " + strconv.Itoa(c)
	return o
}

// patient is a service with few requests, and a limit that goes with it.
func patient(c int, each time.Duration) overload {
	o := workers(c, each, 80*time.Second, 98)
	o.attempt, o.lead, o.after = 1900*ms, 40*time.Second, 20*time.Second
	return o
}

func slower(by float64) func(at, busy time.Duration) time.Duration {
	return func(_, busy time.Duration) time.Duration { return time.Duration(by * float64(busy)) }
}

func constant(x float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return x }
}

func warmth(at time.Duration) float64 { return min(1, 0.2+0.8*at.Seconds()/10) }

func warming(at, busy time.Duration) time.Duration {
	return time.Duration(float64(busy) / warmth(at))
}
