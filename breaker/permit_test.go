package breaker_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

func (r *rig) permit() *breaker.Permit {
	r.t.Helper()
	p, err := r.Acquire(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func TestAPermitCountsAsACallDoes(t *testing.T) {
	r := newRig(t, quick)
	r.permit().Done(errDown)
	r.permit().Done(errDown)
	r.want(breaker.Open)
	if p, err := r.Acquire(t.Context()); !errors.Is(err, breaker.ErrOpen) || p != nil {
		t.Errorf("permit %v, error %v", p, err)
	}
	r.clock.add(time.Second)
	r.permit().Done(nil)
	r.want(breaker.Closed)
	if s := r.Stats(); s.Failures != 2 || s.Successes != 1 || s.Rejected != 1 {
		t.Errorf("%+v", s)
	}
}

func TestAPermitSettledByManyGoroutinesCountsOnce(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: []breaker.Rule{breaker.Consecutive(2)}, OpenFor: time.Second})
	p := r.permit()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { p.Done(errDown) })
	}
	all.Wait()
	r.want(breaker.Closed)
	if s := r.Stats(); s.Failures != 1 {
		t.Errorf("%+v", s)
	}
}

func TestAPermitThatIsNeverSettledFreesItsPlaceAfterItsLease(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	r.clock.add(time.Second)
	lost := r.permit()
	if _, err := r.Acquire(t.Context()); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("a second probe: %v", err)
	}
	r.clock.add(15 * time.Second)
	r.permit().Done(&resilience.Rejection{Policy: "inner"})
	lost.Done(nil)
	r.want(breaker.HalfOpen)
	if s := r.Stats(); s.Leaked != 1 {
		t.Errorf("%+v", s)
	}
}

func TestAPermitIsJudgedUnderItsContext(t *testing.T) {
	r := newRig(t, quick)
	ctx, cancel := context.WithCancel(t.Context())
	p, err := r.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	p.Done(errDown)
	p, err = r.Acquire(ctx)
	if p != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("a context that is done: permit %v, error %v", p, err)
	}
	r.permit().Done(resilience.ErrAborted)
	if s := r.Stats(); s.Ignored != 1 || s.Failures != 1 {
		t.Errorf("%+v", s)
	}
}

func TestAPermitIsSlowByTheTimeUntilDone(t *testing.T) {
	r := with(t, breaker.SlowRate(100, time.Second, 1, time.Minute))
	p := r.permit()
	r.clock.add(2 * time.Second)
	p.Done(nil)
	r.want(breaker.Open)
}
