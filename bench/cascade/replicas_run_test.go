package cascade_test

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
)

// A replicated is a dependency with replicas, and the trouble of each.
type replicated struct {
	name string
	// is returns how well replica i of n works. nil: all work well.
	is func(i, n int) func(at time.Duration) condition
	// speed is how many times longer all requests of replica i take. nil: once.
	speed func(i int) float64
	mean  time.Duration // of a request in good health, 0 for 20 ms
	takes quantile      // as in service
	// attempt is the timeout of an attempt, 0 for 500 ms, and deadline the one of a call, 0
	// for four times as long.
	attempt, deadline time.Duration
	// hurries returns the deadline of a call, if that is shorter. Calls that fail by it do
	// not count.
	hurries func(luck *rand.Rand) time.Duration
	cold    bool // the trouble begins with the first calls, and not after 4 s
	// after is how long the calls go on after the trouble. These calls do not count.
	after time.Duration
	// moves has a process with endpoints change their addresses now and then.
	moves func(c *choosing)
	// clock is the clock of the endpoints, nil for the right time.
	clock func(start time.Time) clock.Clock

	// hundred has TestEndpoints_neverWorseThanTheStack run s with 100 replicas as well.
	hundred bool
	half    bool // half of the replicas are in trouble
	well    bool // no replica is worse than the others

	// Demands on the stack with endpoints. Those on times and shares are for processes with
	// at least 50 calls a second: with fewer, a process sees too late what is the matter.

	atLeast  float64 // how many percent of the calls succeed
	share    float64 // how many percent of the requests replica 0 gets at most, 0 for any
	p99      float64 // of calls that succeed, at most in times of the one in good health, 0 for any
	ofOracle float64 // of calls that succeed, at most in times of the oracle's, 0 for any
	// asStack: at most 1.5 points fewer calls succeed than with the stack without endpoints,
	// for at most 0.1 more requests a call.
	asStack bool
}

const (
	// leadOfReplicas is how long all goes well before the trouble.
	leadOfReplicas = 4 * time.Second
	// trouble is how long the trouble lasts, unless it has an end of its own. The calls that
	// begin in that time count.
	trouble = 16 * time.Second
)

// outcome is what the runs of a choice came to.
type outcome struct {
	result
	attempts  atomic.Int64 // by the policies, during the trouble
	ejections uint64
	probes    uint64
	later     result        // calls that began after the trouble
	begin     time.Duration // of the trouble, since the start
	// bySlice are the requests that each replica got in each slice since the trouble began.
	bySlice [][]int64
}

// run makes the calls of a fleet to n replicas, and adds what came of them to o.
func (s *replicated) run(t *testing.T, n int, f fleet, c choice, seed uint64, o *outcome) {
	synctest.Test(t, func(*testing.T) {
		start := time.Now()
		begin := start.Add(leadOfReplicas)
		if s.cold {
			begin = start
		}
		o.begin = begin.Sub(start)
		replicas := make([]*replica, n)
		for i := range replicas {
			replicas[i] = newReplica(i, n, start, begin, s)
		}
		timeout := cmp.Or(s.attempt, attempt)
		policies := f.policies(c.arm, timeout)
		choosers := make([]chooser, f.processes)
		for i := range choosers {
			choosers[i] = c.chooser(replicas, seed*1000+uint64(i))
			if c, ok := choosers[i].(*choosing); ok {
				c.prepare(s, start)
			}
		}
		var mu sync.Mutex // guards o
		f.run(seed, o.begin+trouble+s.after, nil, func(process int, luck *rand.Rand) {
			began := time.Now()
			at := began.Sub(begin)
			deadline := cmp.Or(s.deadline, patience*timeout)
			if s.hurries != nil {
				deadline = min(deadline, s.hurries(luck))
			}
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			chooser := choosers[process]
			err := resilience.Run(chooser.begin(ctx), policies[process], func(ctx context.Context) error {
				if at >= 0 && at < trouble {
					o.attempts.Add(1)
				}
				return chooser.attempt(ctx, luck)
			})
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case at < 0 || err != nil && s.hurries != nil && took >= deadline && deadline < timeout:
			case at >= trouble:
				o.later.add(took, err)
			default:
				o.add(took, err)
			}
		})
		o.possible, o.offered = float64(o.calls), o.calls
		o.opened += opened(policies)
		o.count(replicas, choosers)
	})
}

// count adds what the replicas and the choosers of a run have counted.
func (o *outcome) count(replicas []*replica, choosers []chooser) {
	if o.bySlice == nil {
		o.bySlice = make([][]int64, len(replicas))
	}
	for i, r := range replicas {
		if o.bySlice[i] == nil {
			o.bySlice[i] = make([]int64, mostSlices)
		}
		for k := range o.bySlice[i] {
			o.bySlice[i][k] += r.askedIn[k].Load()
		}
	}
	for _, c := range choosers {
		if c, ok := c.(*choosing); ok {
			st := c.set.Stats()
			o.ejections += st.Unreachable + st.Timeouts + st.Failures
			o.probes += st.Probes
		}
	}
}

// askedOf returns how many requests replica i got from a time to another, since the trouble
// began.
func (o *outcome) askedOf(i int, from, until time.Duration) (n int64) {
	for _, k := range o.bySlice[i][(o.begin+from)/slice : (o.begin+until)/slice] {
		n += k
	}
	return n
}

// share returns the share of replica 0 in the requests from a time to another, in percent.
func (o *outcome) share(from, until time.Duration) float64 {
	all := int64(0)
	for i := range o.bySlice {
		all += o.askedOf(i, from, until)
	}
	return 100 * float64(o.askedOf(0, from, until)) / float64(max(1, all))
}

// load returns how many requests the replicas got for each call during the trouble.
func (o *outcome) load() float64 {
	all := int64(0)
	for i := range o.bySlice {
		all += o.askedOf(i, 0, trouble)
	}
	return float64(all) / float64(max(1, o.offered))
}

// imbalance returns how many times more requests the busiest of the replicas got than the
// least busy one, without replica 0.
func (o *outcome) imbalance() float64 {
	most, least := int64(0), int64(math.MaxInt64)
	for i := 1; i < len(o.bySlice); i++ {
		n := o.askedOf(i, 0, trouble)
		most, least = max(most, n), min(least, n)
	}
	return float64(most) / float64(max(1, least))
}

// quantile returns the q-quantile of how long calls took that succeeded, in ms.
func (r *result) quantile(q float64) float64 {
	if len(r.took) == 0 {
		return 0
	}
	slices.Sort(r.took)
	return float64(r.took[min(len(r.took)-1, int(q*float64(len(r.took))))]) / float64(time.Millisecond)
}
