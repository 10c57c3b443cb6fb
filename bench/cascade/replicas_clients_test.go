package cascade_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
)

// A choice is an arm and how its processes choose among the replicas.
type choice struct {
	arm
	chooser func(rs []*replica, seed uint64) chooser
}

// A chooser sends attempts to replicas, for one process.
type chooser interface {
	// begin returns the context of a call.
	begin(ctx context.Context) context.Context
	// attempt sends an attempt to a replica. All choosers use the luck of a call alike.
	attempt(ctx context.Context, luck *rand.Rand) error
}

var (
	noneRandom  = choice{none, newBlind}
	naiveRandom = choice{naive, newBlind}
	stackRandom = choice{protected, newBlind}
	// stackChoosing is the stack with endpoints.
	stackChoosing = choice{arm{"endpoints", protected.build}, newChoosing}
	// stackOracle is the stack, and a choice that knows how well each replica works and how
	// many requests it has.
	stackOracle = choice{arm{"oracle", protected.build}, newOracle}

	choices = []choice{noneRandom, naiveRandom, stackRandom, stackChoosing, stackOracle}
)

// blind chooses at random.
type blind struct{ replicas []*replica }

func newBlind(rs []*replica, _ uint64) chooser { return &blind{rs} }

func (b *blind) begin(ctx context.Context) context.Context { return ctx }

func (b *blind) attempt(ctx context.Context, luck *rand.Rand) error {
	return b.replicas[luck.IntN(len(b.replicas))].serve(ctx, luck)
}

// oracle chooses the replica of the least cost.
type oracle struct{ blind }

func newOracle(rs []*replica, _ uint64) chooser { return &oracle{blind{rs}} }

func (o *oracle) attempt(ctx context.Context, luck *rand.Rand) error {
	first := luck.IntN(len(o.replicas))
	best := o.replicas[first]
	least := best.cost()
	for i := 1; i < len(o.replicas) && least > 1; i++ {
		r := o.replicas[(first+i)%len(o.replicas)]
		if cost := r.cost(); cost < least {
			best, least = r, cost
		}
	}
	return best.serve(ctx, luck)
}

// choosing chooses as httpmw.Endpoints does. Its calls are safe to retry.
type choosing struct {
	set       *endpoint.Set
	rand      *rand.Rand
	replicas  []*replica
	addresses []string // of the replicas
}

func newChoosing(rs []*replica, seed uint64) chooser {
	c := &choosing{rand: rand.New(rand.NewPCG(seed, 77)), replicas: rs}
	for _, r := range rs {
		c.addresses = append(c.addresses, fmt.Sprintf("%03d", r.id))
	}
	return c
}

// prepare makes the set of endpoints.
func (c *choosing) prepare(s *replicated, start time.Time) {
	var mu sync.Mutex // guards c.rand
	cfg := endpoint.Config{Name: "dependency", Rand: func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return c.rand.Uint64()
	}}
	if s.clock != nil {
		cfg.Clock = s.clock(start)
	}
	c.set = resilience.Must(endpoint.New(cfg))
	c.update()
	if s.moves != nil {
		s.moves(c)
	}
}

// update gives the set the present addresses.
func (c *choosing) update() {
	c.set.Update(c.addresses, func(a string) any { return c.replicas[slices.Index(c.addresses, a)] })
}

func (c *choosing) begin(ctx context.Context) context.Context {
	return endpoint.WithTrail(ctx, new(endpoint.Trail))
}

// mostDials is how many endpoints an attempt tries if none can be connected.
const mostDials = 3

func (c *choosing) attempt(ctx context.Context, luck *rand.Rand) error {
	luck.IntN(len(c.replicas))
	trail := endpoint.TrailOf(ctx)
	for dials := 1; ; dials++ {
		again, err := c.dial(ctx, trail, luck)
		if !again || dials == mostDials || !c.set.Working(trail) {
			return err
		}
	}
}

// dial sends a request to one endpoint, and reports whether the attempt may go on at
// another: the endpoint could not be connected, or was ejected and still fails.
func (c *choosing) dial(ctx context.Context, trail *endpoint.Trail, luck *rand.Rand) (again bool, err error) {
	pick, ok := c.set.Pick(trail)
	if !ok {
		return false, errRefused
	}
	defer pick.End()
	at := ctx
	patience := pick.Patience()
	if patience > 0 {
		var cancel context.CancelCauseFunc
		at, cancel = context.WithCancelCause(ctx)
		defer cancel(nil)
		defer time.AfterFunc(patience, func() {
			if c.set.Working(nil) {
				cancel(errLate)
			}
		}).Stop()
	}
	err = pick.Endpoint().Value().(*replica).serve(at, luck)
	result := resultOf(at, err)
	if err != nil && context.Cause(at) == errLate {
		result = endpoint.Timeout
	}
	pick.Answered(result, err)
	failed := result == endpoint.Failure || result == endpoint.Timeout
	return result == endpoint.Unreachable || pick.Probe() && failed && ctx.Err() == nil, err
}

// errLate is why a probe was canceled that took too long.
var errLate = errors.New("the probe is late")

// resultOf is endpoint.ResultOf for the errors of a server.
func resultOf(ctx context.Context, err error) endpoint.Result {
	switch {
	case errors.Is(err, errRefused):
		return endpoint.Unreachable
	case errors.Is(err, errShed{}):
		return endpoint.Busy
	}
	return endpoint.ResultOf(ctx, err)
}
