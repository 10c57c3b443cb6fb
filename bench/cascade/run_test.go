package cascade_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/retry"
)

// lead is how long all goes well before a trouble begins, unless the scenario has its own.
const lead = 5 * time.Second

// errUnavailable is all that a process tells its callers about its own calls.
var errUnavailable = errors.New("503 Service Unavailable")

// result is what the runs of an arm came to.
type result struct {
	calls, ok  int
	possible   float64         // how many calls could have succeeded
	offered    int             // calls that began during the trouble
	asked      int64           // requests that the dependency got meanwhile
	rejected   int             // calls that a policy rejected
	failed     map[string]int  // calls that failed, by cause
	took       []time.Duration // by calls that succeeded
	opened     uint64          // times that breakers opened
	recoveries []time.Duration // of each process and run, to its last call that failed
}

// success is in percent.
func (r *result) success() float64 { return 100 * float64(r.ok) / r.possible }

// load is how many requests came for each call during the trouble.
func (r *result) load() float64 { return float64(r.asked) / float64(r.offered) }

// openings is how often the breakers of a process opened in a run.
func (r *result) openings() float64 { return float64(r.opened) / float64(len(r.recoveries)) }

// p99 is the 99th percentile of how long calls took that succeeded.
func (r *result) p99() time.Duration {
	if len(r.took) == 0 {
		return 0
	}
	slices.Sort(r.took)
	return r.took[len(r.took)*99/100]
}

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

// String is for people who want to know why calls fail.
func (r *result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.1f %% ok, p99 %d ms, load %.2f, opened %.1f times",
		r.success(), r.p99().Milliseconds(), r.load(), r.openings())
	for _, cause := range slices.SortedFunc(maps.Keys(r.failed), func(a, b string) int { return r.failed[b] - r.failed[a] }) {
		fmt.Fprintf(&b, "; %.1f %% %s", 100*float64(r.failed[cause])/float64(r.calls), cause)
	}
	return b.String()
}

// add counts a call that took so long and ended with err.
func (r *result) add(took time.Duration, err error) {
	r.calls++
	if err == nil {
		r.ok++
		r.took = append(r.took, took)
		return
	}
	if r.failed == nil {
		r.failed = map[string]int{}
	}
	cause, rejected := causeOf(err)
	r.failed[cause]++
	if rejected {
		r.rejected++
	}
}

// causeOf returns why a call failed, and whether a policy rejected its last attempt.
func causeOf(err error) (cause string, rejected bool) {
	why := ""
	if e, ok := errors.AsType[*retry.Error](err); ok {
		why = ", " + e.Reason
		if e.Rejection != nil {
			err = e.Rejection
		}
	}
	if r, ok := errors.AsType[*resilience.Rejection](err); ok {
		return r.Policy + " " + r.Reason, true
	}
	switch {
	case errors.Is(err, errRefused):
		return "refused" + why, false
	case errors.Is(err, context.DeadlineExceeded):
		return "timed out" + why, false
	}
	return "failed" + why, false
}

// simulate runs the scenario in a bubble of its own, and adds what came of it to r.
func (s *scenario) simulate(t *testing.T, f fleet, a arm, seed uint64, r *result) {
	synctest.Test(t, func(*testing.T) {
		before := max(0, cmp.Or(s.lead, lead))
		begin := time.Now().Add(before)
		dependency := newServer(s.service, begin, s.reply)
		if s.service.workers == 0 {
			dependency = newServer(usual, begin, s.reply)
		}
		dependency.work, dependency.from, dependency.until = s.work, s.skip, s.trouble
		dependency.deaf = s.deaf
		if s.slow != nil {
			dependency.work = func(at, busy time.Duration) time.Duration { return time.Duration(s.slow(at) * float64(busy)) }
		}
		hops := make([][]resilience.Policy, max(1, s.hops))
		for i := range hops {
			hops[i] = f.policies(a, cmp.Or(s.attempt, attempt))
		}
		var mu sync.Mutex // guards r, and last, when a process last failed after the trouble
		last := make([]time.Duration, f.processes)
		calls := 0
		call := func(process int, luck *rand.Rand) {
			began := time.Now()
			err := s.call(hops, process, luck, func(ctx context.Context) error { return dependency.serve(ctx, luck) })
			at := began.Sub(begin)
			if at < s.skip {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if at < s.trouble {
				r.offered++
			}
			if errors.Is(err, errLeft) {
				return
			}
			calls++
			r.add(time.Since(began), err)
			if err != nil {
				last[process] = max(last[process], at-s.trouble)
			}
		}
		if f.callers > 0 {
			f.burst(seed, burst, call)
		} else {
			f.run(seed, before+s.trouble+s.after, s.surgeAfter(before), call)
		}
		r.possible += s.possible(f, dependency.capacity(), calls)
		r.recoveries = append(r.recoveries, last...)
		r.asked += dependency.asked.Load()
		for _, policies := range hops {
			r.opened += opened(policies)
		}
	})
}

// errLeft is the error of a call whose caller has left. Such a call counts only if a policy
// has rejected it.
var errLeft = errors.New("caller left")

// call makes a call of a process, that goes through other processes if there is
// more than one hop. What they answer says nothing of what befell them.
func (s *scenario) call(hops [][]resilience.Policy, process int, luck *rand.Rand, op resilience.Func) error {
	for _, policies := range slices.Backward(hops[1:]) {
		inner := op
		op = func(ctx context.Context) error {
			if err := resilience.Run(ctx, policies[luck.IntN(len(policies))], inner); err != nil {
				return errUnavailable
			}
			return nil
		}
	}
	deadline := patience * cmp.Or(s.attempt, attempt)
	if s.hurries != nil {
		deadline = min(deadline, s.hurries(luck))
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if s.leaves != nil {
		if d := s.leaves(luck); d > 0 {
			defer time.AfterFunc(d, cancel).Stop()
		}
	}
	err := resilience.Run(ctx, hops[0][process], op)
	if err != nil && ctx.Err() == context.Canceled {
		if _, rejected := causeOf(err); !rejected {
			return errLeft
		}
	}
	return err
}
