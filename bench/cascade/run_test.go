package cascade_test

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
)

// lead is how long all goes well before a trouble begins.
const lead = 5 * time.Second

// errUnavailable is all that a process tells its callers about its own calls.
var errUnavailable = errors.New("503 Service Unavailable")

// result is what the runs of an arm came to.
type result struct {
	calls, ok  int
	offered    int             // calls that began during the trouble
	asked      int64           // requests that the dependency got meanwhile
	opened     uint64          // times that breakers opened
	recoveries []time.Duration // of each process and run, to its last call that failed
}

// success is in percent.
func (r *result) success() float64 { return 100 * float64(r.ok) / float64(r.calls) }

// load is how many requests came for each call during the trouble.
func (r *result) load() float64 { return float64(r.asked) / float64(r.offered) }

// openings is how often the breakers of a process opened in a run.
func (r *result) openings() float64 { return float64(r.opened) / float64(len(r.recoveries)) }

// recovery returns how long after the trouble the processes had their last failure:
// on average, nine of ten of them, all of them.
func (r *result) recovery() (mean, most, all time.Duration) {
	n := len(r.recoveries)
	for _, d := range r.recoveries {
		mean += d / time.Duration(n)
	}
	slices.Sort(r.recoveries)
	return mean, r.recoveries[(n*9+9)/10-1], r.recoveries[n-1]
}

// simulate runs the scenario in a bubble of its own, and adds what came of it to r.
func (s *scenario) simulate(t *testing.T, f fleet, a arm, seed uint64, r *result) {
	synctest.Test(t, func(*testing.T) {
		begin := time.Now()
		if !s.cold {
			begin = begin.Add(lead)
		}
		dependency := newServer(cmp.Or(s.service, usual), begin, s.reply)
		dependency.work, dependency.from, dependency.until = s.work, s.skip, s.trouble
		hops := make([][]resilience.Policy, max(1, s.hops))
		for i := range hops {
			hops[i] = f.policies(a)
		}
		var mu sync.Mutex // guards r, and last, when a process last failed after the trouble
		last := make([]time.Duration, f.processes)
		f.run(seed, time.Until(begin)+s.trouble+s.after, func(process int, luck *rand.Rand) {
			began := time.Since(begin)
			err := through(hops, process, luck, func(ctx context.Context) error { return dependency.serve(ctx, luck) })
			if began < s.skip {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			r.calls++
			if began < s.trouble {
				r.offered++
			}
			if err == nil {
				r.ok++
			} else {
				last[process] = max(last[process], began-s.trouble)
			}
		})
		r.recoveries = append(r.recoveries, last...)
		r.asked += dependency.asked.Load()
		for _, policies := range hops {
			r.opened += opened(policies)
		}
	})
}

// through makes a call of a process, that goes through other processes if there is
// more than one hop. What they answer says nothing of what befell them.
func through(hops [][]resilience.Policy, process int, luck *rand.Rand, op resilience.Func) error {
	for _, policies := range slices.Backward(hops[1:]) {
		inner := op
		op = func(ctx context.Context) error {
			if err := resilience.Run(ctx, policies[luck.IntN(len(policies))], inner); err != nil {
				return errUnavailable
			}
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return resilience.Run(ctx, hops[0][process], op)
}
