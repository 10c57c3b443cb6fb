// Package resiliencetest helps to test policies and the code that uses them:
// TestPolicy checks that a policy of one's own keeps the contract of
// resilience.Policy, Script is an operation that fails as planned, and Recorder
// keeps the events that policies tell.
package resiliencetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
)

// patience is how long a check may take in real time before it is said to hang.
// Waiting costs none, since checks run in bubbles, so only a lock that is never
// released comes near it.
const patience = 20 * time.Second

// many is more often than any limit that can be found in practice: what is lost
// once a call, a place or a token, is gone for good after so many.
const many = 1100

// TestPolicy checks that the policies that newPolicy returns keep the contract
// of resilience.Policy, one subtest for each sentence of it, with operations that
// are over when they return and with those that are Lasting. newPolicy is called
// many times, on other goroutines too; each time it returns a new policy that
// admits operations.
//
// Policies may do what policies do: run an operation again, answer in its place,
// reject it, make it wait. The checks run in bubbles of testing/synctest, so
// waiting takes no real time; a policy must read the time from package time, and
// must not own a goroutine that never ends. Run them with -race as well.
//
// Some of it cannot be seen from outside. Whether a panic is counted shows only
// in a policy that rejects after failures, whether a place is held to the end only
// in one with fewer than a thousand of them. Whether next.Discard comes before the
// code of the user that a policy has, an alternative or an observer, does not show.
//
//	func TestContract(t *testing.T) {
//		resiliencetest.TestPolicy(t, func() resilience.Policy { return mine.New() })
//	}
func TestPolicy(t *testing.T, newPolicy func() resilience.Policy) {
	t.Helper()
	for _, r := range rules {
		for _, lasting := range []bool{false, true} {
			if r.lastingOnly && !lasting {
				continue
			}
			t.Run(r.name+"/"+kind(lasting), func(t *testing.T) {
				t.Helper()
				for _, fault := range r.broken(t, newPolicy, lasting, patience) {
					t.Errorf("%s: %s", r.sentence, fault)
				}
			})
		}
	}
}

func kind(lasting bool) string {
	if lasting {
		return "lasting"
	}
	return "plain"
}

// A rule is one sentence of the contract.
type rule struct {
	name        string
	sentence    string
	lastingOnly bool // it says nothing of operations that are over at once
	check       func(*check)
}

// broken returns in which ways a policy breaks the rule.
func (r rule) broken(t *testing.T, newPolicy func() resilience.Policy, lasting bool, patience time.Duration) []string {
	c := &check{newPolicy: newPolicy, lasting: lasting}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			// The bubble is dead: a call, or a goroutine of the policy, waits for
			// something that never comes.
			if v := recover(); v != nil {
				c.faultf("hangs: %v", v)
			}
		}()
		synctest.Test(t, func(*testing.T) { r.check(c) })
	}()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
		c.faultf("hangs: not done after %v\n%s", patience, bubbled())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.faults)
}

// bubbled returns the stacks of goroutines in bubbles: who hangs is among them.
func bubbled() string {
	all := make([]byte, 1<<20)
	all = all[:runtime.Stack(all, true)]
	var b strings.Builder
	for g := range strings.SplitSeq(string(all), "\n\n") {
		if head, _, _ := strings.Cut(g, "\n"); strings.Contains(head, "synctest bubble") {
			b.WriteString(g + "\n\n")
		}
	}
	return b.String()
}

// A check is a rule being checked.
type check struct {
	newPolicy func() resilience.Policy
	lasting   bool

	mu     sync.Mutex // guards what follows
	faults []string
}

// maxFaults keeps a broken policy from filling the screen.
const maxFaults = 5

func (c *check) faultf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fault := fmt.Sprintf(format, args...)
	if len(c.faults) < maxFaults && !slices.Contains(c.faults, fault) {
		c.faults = append(c.faults, fault)
	}
}

// result is how a call ended: it returned err, or panicked with value, or it
// called Goexit.
type result struct {
	err      error
	returned bool
	value    any
	unwound  bool // the panic came straight from the operation
}

// call runs o under p on a goroutine of its own, which may end as it likes.
func (c *check) call(ctx context.Context, p resilience.Policy, o *probe) result {
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if !r.returned {
				r.unwound = unwound()
				r.value = recover()
			}
			done <- r
		}()
		r.err = resilience.RunOperation(ctx, p, o.operation())
		r.returned = true
	}()
	r := <-done
	if r.value != nil && o.panics == nil {
		c.faultf("panics: %v", r.value)
	}
	return r
}

// do is call for an operation whose end comes at once.
func (c *check) do(p resilience.Policy, o *probe) result {
	r := c.call(context.Background(), p, o)
	o.end()
	return r
}

func (c *check) probe(body func(ctx context.Context, run int) error) *probe {
	return &probe{lasting: c.lasting, body: body}
}

// admitsAgain checks that p lets an operation run, after it had time to recover
// from what was done to it.
func (c *check) admitsAgain(p resilience.Policy, after string) {
	time.Sleep(time.Hour)
	o := c.probe(succeed)
	if r := c.do(p, o); o.count() == 0 {
		c.faultf("does not run an operation an hour after %s: %v", after, r.err)
	}
}

// capacity returns how many operations p lets be under way at once, counting no
// further than most.
func (c *check) capacity(p resilience.Policy, most int) int {
	// A waiter gives up at the deadline, however long p lets it wait.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	leave := make(chan struct{})
	var calls sync.WaitGroup
	var open []*probe
	for range most {
		entered, over := make(chan struct{}, 1), make(chan struct{})
		o := c.probe(func(context.Context, int) error {
			select {
			case entered <- struct{}{}:
			default:
			}
			if !c.lasting {
				<-leave
			}
			return nil
		})
		// An answer may make an adaptive limit grow.
		o.unanswered = true
		calls.Go(func() {
			c.call(ctx, p, o)
			close(over)
		})
		select {
		case <-entered:
		case <-over:
		}
		if o.count() == 0 {
			<-over
			break
		}
		open = append(open, o)
	}
	close(leave)
	calls.Wait()
	for _, o := range open {
		o.end()
	}
	return len(open)
}

// rejected reports whether err is a refusal.
func rejected(err error) bool { return errors.Is(err, resilience.ErrRejected) }
