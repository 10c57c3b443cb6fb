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
	policy func(*overload) resilience.Policy
}

var (
	openFront  = front{"none", func(*overload) resilience.Policy { return resilience.Compose() }}
	fixedFront = front{"bulkhead", func(*overload) resilience.Policy {
		return resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1000, MaxQueue: -1}))
	}}
	// randomFront sheds at random: a slot goes to the next request that arrives. An oracle
	// has set the number of slots.
	randomFront = front{"random", func(o *overload) resilience.Policy {
		if o.unbounded {
			return resilience.Compose()
		}
		return resilience.Must(bulkhead.New(bulkhead.Config{Slots: o.workers * 8 / 5, MaxQueue: -1}))
	}}
	limitFront  = front{"limit", func(*overload) resilience.Policy { return resilience.Must(limit.New(limit.Config{})) }}
	fronts      = []front{openFront, fixedFront, randomFront, limitFront}
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
	ctx context.Context
	call
	reply chan error
}

// overloaded is a run: a server with its front, and who calls it.
type overloaded struct {
	*host
	front   resilience.Policy
	servers *callers[sent]
	tally   *tally
	parts   []*tally // of the streams, if there is more than one
}

// newOverloaded returns a run whose server has f.
func newOverloaded(o *overload, f front, begin time.Time, seed uint64) *overloaded {
	r := &overloaded{host: newHost(o, begin, seed), front: f.policy(o), tally: newTally(o, begin)}
	if len(o.streams) > 1 {
		for range o.streams {
			r.parts = append(r.parts, newTally(o, begin))
		}
	}
	r.servers = newCallers(func(x sent) { x.reply <- r.handle(x.ctx, x.call) })
	return r
}

// A call is what the clients start.
type call struct {
	*stream
	tally  *tally // of the stream, or nil
	number int    // of the process, or of the caller in the stream
}

// An operation handles a call. Its front can get a rank from it.
type operation struct {
	call
	server *overloaded
	came   time.Time
}

func (q *operation) Priority() resilience.Priority { return q.priority }

func (q *operation) Caller() string {
	if q.callers == 0 {
		return ""
	}
	return fmt.Sprint(q.name, q.number)
}

func (q *operation) Run(ctx context.Context) error {
	if q.came.Before(q.server.begin) && time.Since(q.came) > 0 {
		q.server.tally.hold()
	}
	return q.server.serve(ctx)
}

// handle is what the server does with a request.
func (o *overloaded) handle(ctx context.Context, x call) error {
	err := resilience.RunOperation(ctx, o.front, &operation{x, o, time.Now()})
	if errors.Is(err, resilience.ErrRejected) {
		o.tally.refuse(err)
		return errOverload
	}
	return err
}

// done counts a call that is over.
func (o *overloaded) done(x call, began time.Time, took time.Duration, ok bool) {
	o.tally.done(x.number, began, took, ok)
	if x.tally != nil {
		x.tally.done(x.number, began, took, ok)
	}
}

// ask is a request of a client that goes on when its context ends, whatever the
// server does.
func (o *overloaded) ask(ctx context.Context, c call) error {
	x := sent{ctx, c, make(chan error, 1)}
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
		r := newOverloaded(o, f, begin, seed)
		stop := r.watch(t, seed)
		r.call(c, seed)
		r.servers.wait()
		stop()
		sum.add(r.tally, r.parts)
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
	all := newCallers(func(x call) {
		if o.batch > 0 {
			time.Sleep(o.batch - (time.Since(o.begin)+o.lead)%o.batch)
		}
		began := time.Now()
		if c.client == nil {
			ctx, cancel := context.WithTimeout(context.Background(), x.attempt)
			err := o.handle(ctx, x) // nothing comes after it that could be late
			o.done(x, began, min(time.Since(began), x.attempt), err == nil && ctx.Err() == nil)
			cancel()
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := resilience.Run(ctx, policies[x.number], func(ctx context.Context) error { return o.ask(ctx, x) })
		cancel()
		o.done(x, began, time.Since(began), err == nil)
	})
	var streams sync.WaitGroup
	for i := range o.streams {
		x := call{stream: &o.streams[i]}
		if o.parts != nil {
			x.tally = o.parts[i]
		}
		streams.Go(func() { o.arrive(x, c.processes, rand.New(rand.NewPCG(seed, uint64(c.processes+1000*i))), all) })
	}
	streams.Wait()
	all.wait()
}

// arrive starts the calls of a stream, at random times.
func (o *overloaded) arrive(x call, processes int, rng *rand.Rand, all *callers[call]) {
	start := func() {
		x.number = rng.IntN(max(processes, x.callers))
		all.start(x)
	}
	for range o.atOnce {
		start()
	}
	for {
		at := time.Since(o.begin)
		if at >= o.trouble+o.after {
			return
		}
		rate := o.rateOf(x.stream, at)
		if rate == 0 {
			time.Sleep(step)
			continue
		}
		time.Sleep(time.Duration(rng.ExpFloat64() * float64(time.Second) / rate))
		o.tally.arrive()
		if x.tally != nil {
			x.tally.arrive()
		}
		start()
	}
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
