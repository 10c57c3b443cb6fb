package cascade_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// An overload is a server and its trouble, and what the limit has to make of it.
// A new one is an entry in overloads.
type overload struct {
	name    string
	workers int
	mean    time.Duration // of the work for a request
	takes   quantile      // nil: exponential
	// shared says that the workers are cores, of which all requests get as much;
	// unbounded that any number of requests is worked on, so that the number of
	// workers only says what the load is.
	shared, unbounded bool
	// deaf says that a request stays in the queue when its caller has gone.
	deaf    bool
	attempt time.Duration // limit of an attempt, 0 for 500 ms
	// lead is how long all goes well before the trouble: 0 for 5 s, negative for not
	// at all.
	lead, trouble, after time.Duration
	// load is how many calls come so long after the trouble has begun, in multiples
	// of what the workers can do in good times. nil: as before it and after it.
	load func(at time.Duration) float64
	// streams are the kinds of calls, if there is more than one. They have loads of
	// their own.
	streams []stream
	// batch is the time between two looks of the server for new requests, if they do not
	// arrive one by one.
	batch time.Duration
	// atOnce calls come at the very beginning.
	atOnce int
	// slow is by how much the work takes longer that is begun so long after the
	// trouble has begun. nil: not.
	slow func(at time.Duration) float64
	// pause is how long nothing is begun, every 3 s.
	pause time.Duration
	// crowded says that clients with policies call it, too.
	crowded bool
	// short says that it runs when there is no time for all.
	short bool

	demand demand
}

// A demand is what the limit has to come to, and the goals what would be better.
// Zeros demand nothing.
type demand struct {
	good, goodGoal  float64 // percent of what is possible
	p99             float64 // in multiples of that before, if clients have no policy
	noRefusal       bool    // before the trouble
	neverRejects    bool    // before, during and after the trouble
	hopeless        bool    // some requests are rejected because too little time is left
	near, nearGoal  float64 // points of success that the limit may cost during the trouble
	before          float64 // percent of success before the trouble
	withoutOverload bool    // without any front all is well, too
}

// normal is the load before and after a trouble.
const normal = 0.7

func constant(x float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return x }
}

// withDefaults returns o with its defaults filled in.
func (o overload) withDefaults() *overload {
	if o.takes == nil {
		o.takes = exponential
	}
	if o.attempt == 0 {
		o.attempt = attempt
	}
	if o.lead == 0 {
		o.lead = lead
	}
	o.lead = max(0, o.lead)
	if o.load == nil {
		o.load = constant(normal)
	}
	if o.streams == nil {
		o.streams = []stream{{calm: normal, load: o.load}}
	}
	o.streams = slices.Clone(o.streams)
	for i := range o.streams {
		s := &o.streams[i]
		if s.load == nil {
			s.load = constant(s.calm)
		}
		s.attempt = cmp.Or(s.attempt, o.attempt)
	}
	if o.slow == nil {
		o.slow = constant(1)
	}
	return &o
}

// capacity is in requests a second.
func (o *overload) capacity() float64 { return float64(o.workers) / o.mean.Seconds() }

// troubled is whether there is trouble at that time.
func (o *overload) troubled(at time.Duration) bool { return 0 <= at && at < o.trouble }

// rate is how many calls come, a second.
func (o *overload) rate(at time.Duration) (sum float64) {
	for i := range o.streams {
		sum += o.rateOf(&o.streams[i], at)
	}
	return sum
}

// rateOf is how many calls of a stream come, a second.
func (o *overload) rateOf(s *stream, at time.Duration) float64 {
	if o.troubled(at) {
		return s.load(at) * o.capacity()
	}
	return s.calm * o.capacity()
}

// able is how many calls the workers are capable of, a second.
func (o *overload) able(at time.Duration) float64 {
	switch {
	case o.unbounded:
		return math.Inf(1)
	case o.troubled(at):
		return o.capacity() / o.slow(at)
	}
	return o.capacity()
}

// busy is how long a worker has who begins at that time with what otherwise takes
// so long.
func (o *overload) busy(at, usual time.Duration) time.Duration {
	if !o.troubled(at) {
		return usual
	}
	usual = time.Duration(float64(usual) * o.slow(at))
	if o.pause > 0 {
		return pausing(o.pause)(at, usual)
	}
	return usual
}

// rush is the first 2 s, or the first third of a short trouble.
func (o *overload) rush() time.Duration { return min(rush, (o.trouble / 3).Truncate(step)) }

const (
	ms   = time.Millisecond
	secs = time.Second
)

var overloads = []overload{
	{name: "brown-out, 5x slower", workers: 10, mean: 10 * ms, trouble: 20 * secs, after: 5 * secs, slow: constant(5),
		crowded: true, short: true, demand: demand{good: 98, goodGoal: 99.5}},
	{name: "2x", workers: 10, mean: 10 * ms, trouble: 18 * secs, after: 5 * secs, load: constant(2),
		crowded: true, short: true, demand: demand{good: 98.5, goodGoal: 99.5, p99: 1.3}},
	{name: "1.2x", workers: 10, mean: 10 * ms, trouble: 18 * secs, after: 5 * secs, load: constant(1.2),
		demand: demand{good: 98, goodGoal: 99.5}},
	{name: "cold start that needs 70, then 2x", workers: 100, mean: 100 * ms, trouble: 18 * secs, after: 5 * secs, load: constant(2),
		// of the exponential work 0.7 % takes longer than a caller waits, whatever else
		crowded: true, short: true, demand: demand{good: 96.5, goodGoal: 98.5, noRefusal: true}},
	{name: "herd, 20 to 100 % in 10 s", workers: 10, mean: 10 * ms, lead: -1, trouble: 20 * secs, after: 5 * secs, atOnce: 1000, slow: warming(0.2, 10*secs),
		crowded: true, demand: demand{good: 98, goodGoal: 99.5}},
	{name: "1 % take 20x, 2x", workers: 10, mean: 10 * ms, takes: oneInAHundred, trouble: 18 * secs, after: 5 * secs, load: constant(2),
		demand: demand{goodGoal: 99.5, noRefusal: true}},
	{name: "10 and 500 ms, 2x", workers: 100, mean: 255 * ms, takes: twoRoutes, attempt: 2 * secs, lead: 10 * secs, trouble: 30 * secs, after: 8 * secs, load: constant(2),
		demand: demand{goodGoal: 99.5, noRefusal: true}},

	// The overload 2x above has 10 workers.
	twice(1, 10*ms, demand{good: 98, goodGoal: 99.5}),
	twice(4, 10*ms, demand{good: 98, goodGoal: 99.5}),
	quick(twice(100, 10*ms, demand{good: 98, goodGoal: 99.5})),
	patient(twice(1, 100*ms, demand{goodGoal: 98})),
	patient(twice(4, 200*ms, demand{goodGoal: 98})),
	// needs over ten times the requests in flight from which on a limit watches the handler
	quick(twice(1000, 100*ms, demand{goodGoal: 99.5, noRefusal: true, before: 98.5})),

	{name: "8 cores, 2x", workers: 8, mean: 10 * ms, shared: true, trouble: 18 * secs, after: 5 * secs, load: constant(2),
		short: true, demand: demand{good: 98, goodGoal: 99.5}},
	{name: "fixed 20 ms, 1.3x, then at half speed", workers: 20, mean: 20 * ms, takes: fixed, trouble: 20 * secs, after: 5 * secs, load: constant(1.3), slow: from(10*secs, 2),
		demand: demand{goodGoal: 99.5}},
	{name: "log-normal, 10 workers, 2x", workers: 10, mean: 10 * ms, takes: logNormal, trouble: 18 * secs, after: 5 * secs, load: constant(2),
		demand: demand{goodGoal: 98.5}},
	{name: "log-normal, 6 cores, 1.5x", workers: 6, mean: 30 * ms, takes: logNormal, shared: true, attempt: 2 * secs, lead: 20 * secs, trouble: 40 * secs, after: 5 * secs, load: constant(1.5),
		demand: demand{goodGoal: 98.5}},
	pauses(200*ms, false), pauses(400*ms, false), pauses(800*ms, true),
	{name: "dependency 10x slower, no queue", workers: 10, mean: 10 * ms, unbounded: true, trouble: 20 * secs, after: 5 * secs, slow: constant(10),
		demand: demand{nearGoal: 1, withoutOverload: true}},

	// No constant of the limit has been chosen for the following.
	{name: "2x, callers are not missed", workers: 10, mean: 10 * ms, deaf: true, trouble: 18 * secs, after: 5 * secs, load: constant(2), demand: demand{goodGoal: 99.5}},
	{name: "2x every other second", workers: 10, mean: 10 * ms, trouble: 20 * secs, after: 5 * secs, load: gusts(2), demand: demand{nearGoal: 1}},
	{name: "ramp to 2.5x", workers: 10, mean: 8 * ms, trouble: 20 * secs, after: 5 * secs, load: rising(2.5, 20*secs), demand: demand{goodGoal: 99.5}},
	{name: "2x, then 4x as capable", workers: 5, mean: 10 * ms, trouble: 20 * secs, after: 5 * secs, load: constant(2), slow: from(10*secs, 0.25), demand: demand{goodGoal: 99.5}},
	{name: "uniform 40 ms, 3x, pauses of 200 ms", workers: 24, mean: 40 * ms, takes: halfToOneAndAHalf, trouble: 20 * secs, after: 5 * secs, load: constant(3), pause: 200 * ms},
	{name: "4 cores, 1.5x and 3x slower", workers: 4, mean: 5 * ms, shared: true, trouble: 20 * secs, after: 5 * secs, load: constant(1.5), slow: constant(3), demand: demand{goodGoal: 99.5}},
}

// batches are overloads of servers that look for new requests every 10 ms, as a Go process
// that is busy looks at the network.
func batches() (all []overload) {
	for _, load := range []float64{1.5, 2, 4} {
		for _, work := range []struct {
			name  string
			takes quantile
		}{{"fixed", fixed}, {"exponential", exponential}} {
			o := overload{takes: work.takes, batch: 10 * ms, trouble: 8 * secs, after: 2 * secs, load: constant(load), demand: demand{good: 98, goodGoal: 99.5}}
			o.name, o.workers, o.mean = fmt.Sprintf("batches, 10 x %s 10 ms, %vx", work.name, load), 10, 10*ms
			all = append(all, o)
			o.name, o.workers, o.mean, o.shared = fmt.Sprintf("batches, a core of %s 1 ms, %vx", work.name, load), 1, ms, true
			if work.name == "fixed" && load == 4 {
				// At first nothing is answered at all, since each batch makes the others slower.
				o.demand.good = 60
			}
			all = append(all, o)
		}
	}
	return all
}

// twice is what happens to so many workers with twice the load that they can bear.
func twice(workers int, mean time.Duration, d demand) overload {
	name := fmt.Sprintf("%d x %d ms, 2x", workers, mean.Milliseconds())
	return overload{name: name, workers: workers, mean: mean, trouble: 18 * secs, after: 5 * secs, load: constant(2), demand: d}
}

// quick is o for a server that has seen enough requests in a few seconds.
func quick(o overload) overload {
	o.trouble, o.after = 4500*ms, 1500*ms
	return o
}

// patient is o for a server with few requests, and a limit that goes with it.
func patient(o overload) overload {
	o.attempt, o.lead, o.trouble, o.after = 1900*ms, 40*secs, 80*secs, 20*secs
	return o
}

// pauses lets workers begin nothing for so long, every 3 s, which is no overload.
func pauses(long time.Duration, crowded bool) overload {
	return overload{name: fmt.Sprintf("pauses of %d ms", long.Milliseconds()), workers: 10, mean: 10 * ms, trouble: 30 * secs, pause: long,
		crowded: crowded, short: crowded, demand: demand{near: 1, withoutOverload: true}}
}

// warming is as slow as a server that has but a share of its capacity at first.
func warming(share float64, long time.Duration) func(time.Duration) float64 {
	return func(at time.Duration) float64 {
		return 1 / min(1, share+(1-share)*float64(at)/float64(long))
	}
}

// from is 1 until start, and x from there on.
func from(start time.Duration, x float64) func(time.Duration) float64 {
	return func(at time.Duration) float64 {
		if at < start {
			return 1
		}
		return x
	}
}

// gusts is x in every other second.
func gusts(x float64) func(time.Duration) float64 {
	return func(at time.Duration) float64 {
		if at%(2*secs) < secs {
			return x
		}
		return normal
	}
}

// rising is the normal load that becomes x in so long.
func rising(x float64, long time.Duration) func(time.Duration) float64 {
	return func(at time.Duration) float64 { return normal + (x-normal)*float64(at)/float64(long) }
}
