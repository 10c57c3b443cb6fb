package cascade_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/limit"
)

// A front is what a server has before its handler.
type front struct {
	name   string
	policy func() resilience.Policy
}

var (
	openFront  = front{"none", func() resilience.Policy { return resilience.Compose() }}
	fixedFront = front{"bulkhead", func() resilience.Policy {
		return resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1000, MaxQueue: -1}))
	}}
	limitFront  = front{"limit", func() resilience.Policy { return resilience.Must(limit.New(limit.Config{})) }}
	fronts      = []front{openFront, fixedFront, limitFront}
	errOverload = shed{}
)

// shed is what our own clients make of a refusal with the mark "do not retry".
type shed struct{}

func (shed) Error() string               { return "503 Service Unavailable, do not retry" }
func (shed) Retryable() bool             { return false }
func (shed) Outcome() resilience.Outcome { return resilience.Success }

// A crowd is the processes whose calls a server gets, and what policies they have.
type crowd struct {
	name      string
	processes int
	client    *arm // nil: a limit for each attempt and no more
}

func (c crowd) String() string {
	if c.client == nil {
		return c.name
	}
	return fmt.Sprintf("%d x %s", c.processes, c.name)
}

var (
	plain  = crowd{name: "no policy", processes: 1}
	crowds = []crowd{
		{"naive", 10, &naive}, {"naive", 250, &naive},
		{"stack", 10, &protected}, {"stack", 250, &protected},
	}
)

// callers run calls, each in a goroutine of its own, and use these again, as their
// stacks have grown already.
type callers[T any] struct {
	run  func(T)
	idle chan T
	all  sync.WaitGroup
}

func newCallers[T any](run func(T)) *callers[T] { return &callers[T]{run: run, idle: make(chan T)} }

func (c *callers[T]) start(x T) {
	select {
	case c.idle <- x:
	default:
		c.all.Go(func() {
			c.run(x)
			for x := range c.idle {
				c.run(x)
			}
		})
	}
}

func (c *callers[T]) wait() {
	close(c.idle)
	c.all.Wait()
}

// sent is a request on its way to the server, whose answer may come too late.
type sent struct {
	ctx   context.Context
	reply chan error
}

// overloaded is a run: a server with its front, and who calls it.
type overloaded struct {
	*host
	front   resilience.Policy
	servers *callers[sent]
	tally   *tally
}

// handle is what the server does with a request.
func (o *overloaded) handle(ctx context.Context) error {
	err := resilience.Run(ctx, o.front, o.serve)
	if errors.Is(err, resilience.ErrRejected) {
		o.tally.refuse()
		return errOverload
	}
	return err
}

// ask is a request of a client that goes on when its context ends, whatever the
// server does.
func (o *overloaded) ask(ctx context.Context) error {
	x := sent{ctx, make(chan error, 1)}
	o.servers.start(x)
	select {
	case err := <-x.reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// simulate runs o in a bubble of its own, and adds what came of it to sum.
func (o *overload) simulate(t *testing.T, c crowd, f front, seed uint64, sum *summary) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now().Add(o.lead)
		r := &overloaded{host: newHost(o, begin, seed), front: f.policy(), tally: newTally(o, begin)}
		r.servers = newCallers(func(x sent) { x.reply <- r.handle(x.ctx) })
		stop := r.watch(t, seed)
		r.call(c, seed)
		r.servers.wait()
		stop()
		sum.add(r.tally)
	})
}

// call has the crowd make its calls, and returns when all of them are over.
func (o *overloaded) call(c crowd, seed uint64) {
	patience := 4 * o.attempt
	policies := make([]resilience.Policy, c.processes)
	for i := range policies {
		if c.client != nil {
			policies[i] = c.client.policy()
		}
	}
	all := newCallers(func(process int) {
		began := time.Now()
		if c.client == nil {
			ctx, cancel := context.WithTimeout(context.Background(), o.attempt)
			err := o.handle(ctx) // nothing comes after it that could be late
			o.tally.done(began, min(time.Since(began), o.attempt), err == nil && ctx.Err() == nil)
			cancel()
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := resilience.Run(ctx, policies[process], o.ask)
		cancel()
		o.tally.done(began, time.Since(began), err == nil)
	})
	rng := rand.New(rand.NewPCG(seed, uint64(c.processes)))
	for range o.atOnce {
		all.start(rng.IntN(c.processes))
	}
	for {
		at := time.Since(o.begin)
		if at >= o.trouble+o.after {
			break
		}
		time.Sleep(time.Duration(rng.ExpFloat64() * float64(time.Second) / o.rate(at)))
		o.tally.arrive()
		all.start(rng.IntN(c.processes))
	}
	all.wait()
}

// watch prints what the limit does, if there is one and the flag is set.
func (o *overloaded) watch(t *testing.T, seed uint64) (stop func()) {
	l, ok := o.front.(*limit.Limit)
	if !ok || !*watching {
		return func() {}
	}
	over := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		fmt.Printf("%s, seed %d\n   at s | limit   knee  overload | in flight waiting | arrivals/s useful/s ok | raised not, lowered not, abandoned | useful gone shed full canceled\n", t.Name(), seed)
		tick := time.NewTicker(step)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-over:
				return
			}
			at := time.Since(o.begin)
			arrived, useful := o.tally.at(at - step)
			s := l.Stats()
			fmt.Printf("%7.1f | %5d %6.1f %9v | %9d %7d | %10d %8d | %d %d, %d %d, %d | %d %d %d %d %d\n", at.Seconds(), s.Limit, s.Knee, s.Overload, s.InFlight, s.Queued,
				arrived, useful, s.Trials.Raised, s.Trials.NotRaised, s.Trials.Lowered, s.Trials.NotLowered, s.Trials.Inconclusive,
				s.Useful, s.Abandoned, s.Shed, s.QueueFull, s.Canceled)
		}
	})
	return func() { close(over); all.Wait() }
}
