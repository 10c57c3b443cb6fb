// Package cascade simulates clients and a dependency in virtual time, to show
// that the default stack helps, and where it must cost nothing.
package cascade

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

const (
	rate     = 50.0                   // calls a second, at random times
	service  = 20 * time.Millisecond  // mean, exponential
	attempt  = 500 * time.Millisecond // limit of an attempt, the one setting of both arms
	patience = 2 * time.Second        // deadline of a call
	healthy  = 20 * time.Second       // before the trouble begins
	whole    = 2 * time.Minute        // of a run, unless the trouble takes longer
	seeds    = 3
)

var errRefused = errors.New("connection refused")

// A scenario is a dependency and its trouble.
type scenario struct {
	name    string
	trouble time.Duration
	// answer says, of a call that arrives so long after the trouble has begun,
	// how long the dependency is silent before it serves it, and how it ends.
	answer func(at time.Duration, luck float64) (silent time.Duration, err error)
	// worse is by how many points the stack may be worse than no protection.
	worse float64
	// outage says that nothing works during the trouble, so that there is a
	// recovery to time.
	outage bool
	// opens is how often the breaker may open at most, -1 for any number.
	opens int
}

func refusing(time.Duration, float64) (time.Duration, error) { return 0, errRefused }

var scenarios = []scenario{
	{name: "down for 3 s", trouble: 3 * time.Second, answer: refusing, worse: 1, outage: true, opens: -1},
	{name: "down for 10 s", trouble: 10 * time.Second, answer: refusing, worse: 1, outage: true, opens: -1},
	{name: "down for 60 s", trouble: time.Minute, answer: refusing, worse: 1, outage: true, opens: -1},
	{name: "hanging for 10 s", trouble: 10 * time.Second, worse: 1, outage: true, opens: -1,
		answer: func(time.Duration, float64) (time.Duration, error) { return time.Hour, nil }},
	{name: "flapping 3 s/3 s", trouble: whole - healthy, worse: 2, opens: -1,
		answer: func(at time.Duration, _ float64) (time.Duration, error) {
			if at%(6*time.Second) < 3*time.Second {
				return 0, errRefused
			}
			return 0, nil
		}},
	{name: "pausing 400 ms every 2 s", trouble: whole - healthy, worse: 1, opens: 0,
		answer: func(at time.Duration, _ float64) (time.Duration, error) {
			return max(0, 400*time.Millisecond-at%(2*time.Second)), nil
		}},
	{name: "5 % errors", trouble: 10 * time.Minute, worse: 1, opens: 0,
		answer: func(_ time.Duration, luck float64) (time.Duration, error) {
			if luck < 0.05 {
				return 0, errRefused
			}
			return 0, nil
		}},
}

// result is what one run came to.
type result struct {
	calls, ok int
	sent      int           // attempts that reached the dependency during the trouble
	offered   int           // calls that began during the trouble
	opened    int           // times that the breaker opened
	recovery  time.Duration // from the end of the trouble to the first second in which every call succeeds
}

func (r result) success() float64 { return 100 * float64(r.ok) / float64(r.calls) }
func (r result) load() float64    { return float64(r.sent) / float64(r.offered) }

// opening counts how often breakers open.
type opening struct{ n atomic.Int64 }

func (o *opening) Observe(_ context.Context, e resilience.Event) {
	if e.To == "OPEN" {
		o.n.Add(1)
	}
}

// none is what everybody has: a limit for each attempt.
func none(*opening) resilience.Policy {
	return resilience.Must(timeout.New(timeout.Config{Limit: attempt}))
}

// protected is the default client stack.
func protected(o *opening) resilience.Policy {
	c := stack.DefaultClient("dependency")
	c.Attempt.Limit = attempt
	c.Breaker.Observer = o
	return resilience.Must(c.New())
}

// run sends calls through the policy of an arm, in a bubble of its own.
func run(t *testing.T, s scenario, arm func(*opening) resilience.Policy, seed uint64) (r result) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var o opening
		p := arm(&o)
		var mu sync.Mutex
		failed := []time.Duration{} // when calls began that failed, in no order
		begin := time.Now().Add(healthy)
		end := max(whole-healthy, s.trouble)
		for time.Since(begin) < end {
			began, luck, work := time.Since(begin), rng.Float64(), time.Duration(rng.ExpFloat64()*float64(service))
			again := rand.New(rand.NewPCG(rng.Uint64(), seed))
			op := func(ctx context.Context) error {
				at := time.Since(begin)
				silent, err := time.Duration(0), error(nil)
				if 0 <= at && at < s.trouble {
					silent, err = s.answer(at, luck)
					luck = again.Float64()
					mu.Lock()
					r.sent++
					mu.Unlock()
				}
				if err != nil {
					return err
				}
				select {
				case <-time.After(silent + work):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			r.calls++
			if 0 <= began && began < s.trouble {
				r.offered++
			}
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				err := resilience.Run(ctx, p, op)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed = append(failed, began)
				} else {
					r.ok++
				}
			}()
			time.Sleep(time.Duration(rng.ExpFloat64() / rate * float64(time.Second)))
		}
		time.Sleep(2 * patience)
		synctest.Wait()
		r.opened = int(o.n.Load())
		r.recovery = recovery(failed, s.trouble, end)
	})
	return r
}

// recovery returns the time from up to the first whole second after it in which no
// call that failed began.
func recovery(failed []time.Duration, up, end time.Duration) time.Duration {
	const step = 10 * time.Millisecond
	for from := up; from+time.Second <= end; from += step {
		clean := true
		for _, at := range failed {
			clean = clean && (at < from || at >= from+time.Second)
		}
		if clean {
			return from - up
		}
	}
	return end - up
}

// TestTheDefaultClientStackIsNeverWorseThanNoProtection runs the scenarios at 50
// calls a second from one process, with and without the stack, and counts all
// calls of a run. Points that an outage costs are those of its recovery, at most
// a thirty-second of its length: that is what a breaker pays for keeping the load
// of the outage low.
func TestTheDefaultClientStackIsNeverWorseThanNoProtection(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "%-26s %12s %12s %10s %10s %8s\n", "scenario", "none ok %", "stack ok %", "load", "recovery", "opened")
	for _, s := range scenarios {
		for seed := range uint64(seeds) {
			bare, ours := run(t, s, none, seed), run(t, s, protected, seed)
			fmt.Fprintf(&table, "%-26s %12.2f %12.2f %10.3f %10v %8d\n", s.name, bare.success(), ours.success(), ours.load(), ours.recovery, ours.opened)
			if ours.success() < bare.success()-s.worse {
				t.Errorf("%s, seed %d: %.2f %% succeed, without protection %.2f %%", s.name, seed, ours.success(), bare.success())
			}
			if s.outage && ours.recovery > time.Second {
				t.Errorf("%s, seed %d: recovered after %v", s.name, seed, ours.recovery)
			}
			if s.opens >= 0 && ours.opened > s.opens {
				t.Errorf("%s, seed %d: opened %d times", s.name, seed, ours.opened)
			}
		}
	}
	t.Log("one process, 50 calls a second\n" + table.String())
}
