package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

// capture is an operation that goes on until the test settles it.
type capture struct {
	settler resilience.Settler
	token   uint64
}

func (c *capture) Run(context.Context) error { return nil }
func (c *capture) Discard()                  {}
func (c *capture) Hold(_ resilience.Moment, s resilience.Settler, token uint64) bool {
	c.settler, c.token = s, token
	return true
}

// A flight is a call that is in the air, with its twin in the model.
type flight struct {
	settle func(error)
	permit bool
	want   modelCall
}

// begin starts a call, or takes a permit, and returns nil if that was rejected.
func (r *rig) begin(permit bool) (settle func(error)) {
	if permit {
		p, err := r.Acquire(context.Background())
		if err != nil {
			return nil
		}
		return p.Done
	}
	op := &capture{}
	if err := resilience.RunOperation(context.Background(), r.Breaker, op); err != nil {
		return nil
	}
	return func(err error) { op.settler.Settle(op.token, err) }
}

// A result is a way in which a call ends.
type result struct {
	outcome resilience.Outcome
	timeout bool // a Failure that is a timeout
	err     error
}

var (
	succeeds = result{outcome: resilience.Success}
	fails    = result{outcome: resilience.Failure, err: errors.New("failed")}
	timesOut = result{outcome: resilience.Failure, timeout: true, err: fmt.Errorf("read: %w", os.ErrDeadlineExceeded)}
	ignored  = result{outcome: resilience.Ignored, err: &resilience.Rejection{Policy: "inner"}}
)

// FuzzModel runs calls that overlap in any way against the model, with changes of
// mode and a clock that jumps both ways. The first byte chooses the rules; each
// other one is a step.
func FuzzModel(f *testing.F) {
	f.Add([]byte{1, 0, 1, 0, 1, 0, 1, 0x33, 0, 2})
	f.Add([]byte{15, 0, 1, 0, 0x83, 1, 0, 1, 0x53, 0, 2, 0x53, 0, 1, 0xf3, 0, 4})
	f.Add([]byte{2, 0, 0, 0, 0, 1, 1, 1, 1, 0xff, 12, 0, 2, 20, 0, 4, 5})
	f.Add([]byte{8, 0, 0, 0, 0, 0x73, 2, 2, 2, 2, 0xff, 0, 0, 0x73, 2, 0, 28, 0, 2})
	f.Add([]byte{4, 0, 1, 0, 1, 0, 1, 0, 1, 0xff, 0, 36, 0, 0, 0, 2, 1, 4, 0x0b, 0, 1})
	// After a success of HALF_OPEN: failures at once and timeouts, a run that is too old, and
	// one that opens.
	f.Add([]byte{17, 0, 1, 0, 1, 0x1b, 0, 1, 0xb3, 0, 2, 0, 0, 1, 0x81, 0, 1, 0xfb, 0, 1, 0x13, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) == 0 {
			return
		}
		var rules []modelRule
		for i, rule := range modelRules {
			if steps[0]>>i&1 == 1 {
				rules = append(rules, rule)
			}
		}
		if len(rules) == 0 {
			return
		}
		r, m := newRig(t, modelConfig(rules)), newModel(rules)
		var flights []flight
		for i, b := range steps[1:] {
			flights = step(t, r, m, flights, i, b)
			if got, want := r.describe(), m.describe(); got != want {
				t.Fatalf("step %d (%#x): %s, model: %s", i, b, got, want)
			}
		}
		if got, want := r.counts(), m.counts(); got != want {
			t.Fatalf("counted\n%s, model:\n%s", got, want)
		}
	})
}

// step takes one step in the breaker and in its model.
func step(t *testing.T, r *rig, m *model, flights []flight, i int, b byte) []flight {
	t.Helper()
	switch kind, arg := b&7, int(b>>3); kind {
	case 0:
		permit := arg&1 == 1
		settle := r.begin(permit)
		c, ok := m.admit(i)
		if ok != (settle != nil) {
			t.Fatalf("step %d: the breaker admits: %v, the model: %v", i, settle != nil, ok)
		}
		if ok {
			flights = append(flights, flight{settle, permit, c})
		}
	case 1, 2, 4:
		if len(flights) == 0 {
			break
		}
		n := arg % len(flights)
		fl := flights[n]
		flights = append(flights[:n:n], flights[n+1:]...)
		end := map[byte]result{1: fails, 2: succeeds, 4: ignored}[kind]
		if kind == 1 && arg >= 16 {
			end = timesOut
		}
		if !fl.permit {
			fl.want.start = m.now // it was quick: Run has returned at once
		}
		fl.settle(end.err)
		m.settle(fl.want, end)
		if fl.permit { // again: it counts once
			fl.settle(fails.err)
		}
	case 3, 7:
		d := time.Duration(arg) * 10 * time.Millisecond
		if kind == 3 && arg >= 29 { // around the age of a run that is too old
			d += 10*time.Second - 300*time.Millisecond
		}
		if kind == 7 {
			d = -d / 5 // leases count in ms
		}
		d = max(d, -m.now)
		r.clock.add(d)
		m.now += d
	case 5:
		mode := breaker.Mode(arg % 4)
		r.SetMode(mode)
		m.setMode(mode)
	case 6:
		r.Reset()
		m.reset()
	}
	return flights
}
