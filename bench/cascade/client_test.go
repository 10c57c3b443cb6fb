package cascade_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

const (
	attempt  = 500 * time.Millisecond // limit of an attempt, the one setting of all arms
	patience = 2 * time.Second        // deadline of a call
)

// An arm is what a process has between its calls and its dependency.
type arm struct {
	name   string
	policy func() resilience.Policy
}

var (
	// none is what everybody has: a limit for each attempt.
	none = arm{"none", func() resilience.Policy {
		return resilience.Must(timeout.New(timeout.Config{Timeout: attempt}))
	}}
	// naive is what many have: three attempts, and nothing that holds them back.
	naive = arm{"naive", func() resilience.Policy {
		return resilience.Compose(thrice{}, none.policy())
	}}
	// protected is the default client stack.
	protected = arm{"stack", func() resilience.Policy {
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

// A fleet is the processes that call a dependency, each at random times and each
// with policies of its own.
type fleet struct {
	processes int
	rate      float64 // calls a second of each process
	seeds     uint64  // how often a scenario is run
}

var (
	few  = fleet{processes: 10, rate: 50, seeds: 3}
	many = fleet{processes: 250, rate: 2, seeds: 1}
)

func (f fleet) String() string { return fmt.Sprintf("%d x %v/s", f.processes, f.rate) }

// policies returns one policy for each process.
func (f fleet) policies(a arm) []resilience.Policy {
	ps := make([]resilience.Policy, f.processes)
	for i := range ps {
		ps[i] = a.policy()
	}
	return ps
}

// opened returns how often the breakers among policies have opened.
func opened(policies []resilience.Policy) (n uint64) {
	for _, p := range policies {
		for node := range resilience.Walk(p) {
			if b, ok := node.Policy.(*breaker.Breaker); ok {
				n += b.Stats().Opened
			}
		}
	}
	return n
}

// run has the fleet make calls for so long, and returns when all of them are over.
// The times of the calls, their processes and their luck follow from seed, so that
// all arms have the same.
func (f fleet) run(seed uint64, long time.Duration, call func(process int, luck *rand.Rand)) {
	rng := rand.New(rand.NewPCG(seed, uint64(f.processes)))
	between := float64(time.Second) / (f.rate * float64(f.processes))
	var callers sync.WaitGroup
	calls := make(chan func())
	for start := time.Now(); time.Since(start) < long; {
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
		time.Sleep(time.Duration(rng.ExpFloat64() * between))
	}
	close(calls)
	callers.Wait()
}
