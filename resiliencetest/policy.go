// Package resiliencetest helps to test policies and the code that uses them. TestPolicy
// checks that a policy keeps the contract of resilience.Policy, Script returns an operation
// that fails as planned, and Recorder keeps the events of policies.
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

// patience is how long a check may take in real time before TestPolicy reports that it
// hangs. Checks run in bubbles, where waiting takes no real time, so only a lock that is
// never released takes that long.
const patience = 20 * time.Second

// many is how many calls a check makes to find a leak. It is more than the slots or tokens
// of any policy in practice, so a policy that leaks one per call has none left after that.
const many = 1100

// TestPolicy checks that the policies that newPolicy returns keep the contract of
// resilience.Policy. It has a subtest for each sentence of the contract, with plain and with
// Lasting operations. It calls newPolicy many times, also on other goroutines. Each call
// must return a new policy that admits operations.
//
// A policy may run an operation again, answer instead of it, reject it, or make it wait. The
// checks run in bubbles of testing/synctest, so waiting takes no real time. The policy must
// read the time from package time, and must not own a goroutine that never ends. Run the
// test with -race too.
//
// TestPolicy cannot see some breaches. Only if the policy rejects after failures can it see
// whether a panic counts as one. Only with fewer than a thousand slots can it see whether a
// slot is held to the end. It does not see whether next.Discard comes before user code of the
// policy, such as a fallback or an observer.
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
	lastingOnly bool // the rule does not apply to plain operations
	check       func(*check)
}

// broken returns how the policy breaks the rule, or nothing.
func (r rule) broken(t *testing.T, newPolicy func() resilience.Policy, lasting bool, patience time.Duration) []string {
	c := &check{newPolicy: newPolicy, lasting: lasting}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			// The bubble is deadlocked: a call, or a goroutine of the policy, waits
			// forever.
			if v := recover(); v != nil {
				c.faultf("hangs: %v", v)
			}
		}()
		synctest.Test(t, func(*testing.T) { r.check(c) })
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		c.faultf("hangs: not done after %v\n%s", patience, bubbled())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.faults)
}

// bubbled returns the stacks of the goroutines in bubbles, which include the one that hangs.
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

// A check is one run of a rule.
type check struct {
	newPolicy func() resilience.Policy
	lasting   bool

	mu     sync.Mutex // guards the fields below
	faults []string
}

// maxFaults is how many faults of a rule are reported, so that a broken policy does not fill
// the screen.
const maxFaults = 5

func (c *check) faultf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fault := fmt.Sprintf(format, args...)
	if len(c.faults) < maxFaults && !slices.Contains(c.faults, fault) {
		c.faults = append(c.faults, fault)
	}
}

// result is how a call ended: it returned err, panicked with value, or called
// runtime.Goexit.
type result struct {
	err      error
	returned bool
	value    any
	unwound  bool // the panic came straight from the operation
}

// call runs o under p on a new goroutine, so that o may panic or call runtime.Goexit.
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

// do runs o under p like call, and ends o at once.
func (c *check) do(p resilience.Policy, o *probe) result {
	r := c.call(context.Background(), p, o)
	o.end()
	return r
}

// probe returns an operation that runs body.
func (c *check) probe(body func(ctx context.Context, run int) error) *probe {
	return &probe{lasting: c.lasting, body: body}
}

// admitsAgain checks that p admits an operation, after an hour in which it could recover.
func (c *check) admitsAgain(p resilience.Policy, after string) {
	time.Sleep(time.Hour)
	o := c.probe(succeed)
	if r := c.do(p, o); o.count() == 0 {
		c.faultf("does not run an operation an hour after %s: %v", after, r.err)
	}
}

// capacity returns how many operations p admits at the same time, or most if there are more.
func (c *check) capacity(p resilience.Policy, most int) int {
	// A call that waits returns at this deadline, even if p would let it wait longer.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	release := make(chan struct{})
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
				<-release
			}
			return nil
		})
		// Without an answer, so that an adaptive limit does not grow.
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
	close(release)
	calls.Wait()
	for _, o := range open {
		o.end()
	}
	return len(open)
}

// rejected reports whether err is a rejection.
func rejected(err error) bool { return errors.Is(err, resilience.ErrRejected) }
