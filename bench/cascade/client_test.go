package cascade_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

const (
	attempt  = 500 * time.Millisecond // usual timeout of an attempt, the one setting of all arms
	patience = 4                      // the deadline of a call, in timeouts of an attempt
)

// An arm is what a process has between its calls and its dependency.
type arm struct {
	name  string
	build func(attempt time.Duration) resilience.Policy
}

// policy returns the policy of a process whose attempts have the usual timeout.
func (a *arm) policy() resilience.Policy { return a.build(attempt) }

var (
	// none is what everybody has: a limit for each attempt.
	none = arm{"none", func(attempt time.Duration) resilience.Policy {
		return resilience.Must(timeout.New(timeout.Config{Timeout: attempt}))
	}}
	// naive is what many have: three attempts, and nothing that holds them back.
	naive = arm{"naive", func(attempt time.Duration) resilience.Policy {
		return resilience.Compose(thrice{}, none.build(attempt))
	}}
	// protected is the default client stack.
	protected = arm{"stack", func(attempt time.Duration) resilience.Policy {
		c := stack.DefaultClient("dependency")
		c.Attempt.Timeout = attempt
		return resilience.Must(c.New())
	}}
)

// thrice makes three attempts, with full jitter and exponential backoff between
// them. It does not know of attempts that others make.
type thrice struct{}

func (thrice) Apply(ctx context.Context, next resilience.Next) error {
	for n := 0; ; n++ {
		err := next.Run(ctx)
		if err == nil || n == 2 {
			return err
		}
		next.Discard()
		wait := time.NewTimer(rand.N(50 * time.Millisecond << n))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return err
		}
	}
}

// A fleet is the processes that call a dependency, each with policies of its own.
type fleet struct {
	processes int
	rate      float64 // calls a second of each process, at random times
	seeds     uint64  // how often a scenario is run
	// callers is how many goroutines of each process make call after call, all of them
	// from the beginning. If it is not 0, there is no rate.
	callers int
}

var (
	few  = fleet{processes: 10, rate: 50, seeds: 3}
	many = fleet{processes: 250, rate: 2, seeds: 1}
	// alone is one process with so many calls that it matters what a bulkhead does.
	alone = fleet{processes: 1, rate: 500, seeds: 3}
)

func (f fleet) String() string {
	if f.callers > 0 {
		return fmt.Sprintf("%d x %d callers", f.processes, f.callers)
	}
	return fmt.Sprintf("%d x %v/s", f.processes, f.rate)
}

// policies returns one policy for each process.
func (f fleet) policies(a arm, attempt time.Duration) []resilience.Policy {
	ps := make([]resilience.Policy, f.processes)
	for i := range ps {
		ps[i] = a.build(attempt)
	}
	return ps
}

// opened returns how often the breakers among policies have opened.
func opened(policies []resilience.Policy) (n uint64) {
	for _, p := range policies {
		for node := range resilience.Walk(p) {
			if b, ok := node.Policy.(*breaker.Breaker); ok {
				n += b.Stats().Opened
				break // the template counts for the breakers of all keys
			}
		}
	}
	return n
}

// A caller makes a call of a process. The luck of the call is random.
type caller func(process int, luck *rand.Rand)

// run makes the calls of the fleet for the duration long, and returns when all calls have
// ended. The times of the calls, their processes and their luck follow from seed, so that
// all arms have the same calls. surge is by how much more calls there are at a time after
// the beginning; nil means that the rate stays the same.
func (f fleet) run(seed uint64, long time.Duration, surge func(time.Duration) float64, call caller) {
	rng := rand.New(rand.NewPCG(seed, uint64(f.processes)))
	between := float64(time.Second) / (f.rate * float64(f.processes))
	var callers sync.WaitGroup
	calls := make(chan func())
	start := time.Now()
	for at := time.Duration(0); at < long; at = time.Since(start) {
		process, luck := rng.IntN(f.processes), rand.New(rand.NewPCG(seed, rng.Uint64()))
		next := func() { call(process, luck) }
		select {
		case calls <- next: // to a caller that has nothing to do, whose stack has grown already
		default:
			callers.Go(func() {
				next()
				for next := range calls {
					next()
				}
			})
		}
		wait := rng.ExpFloat64() * between
		if surge != nil {
			wait /= surge(at)
		}
		time.Sleep(time.Duration(wait))
	}
	close(calls)
	callers.Wait()
}

// burst makes calls with all callers at once, and returns when all calls have ended.
func (f fleet) burst(seed uint64, calls int64, call caller) {
	var callers sync.WaitGroup
	var made atomic.Int64
	for n := range f.processes * f.callers {
		luck := rand.New(rand.NewPCG(seed, uint64(n)))
		callers.Go(func() {
			for made.Add(1) <= calls {
				call(n%f.processes, luck)
			}
		})
	}
	callers.Wait()
}
