package breaker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/internal/testkit"
)

func (r *rig) permit() *breaker.Permit {
	r.t.Helper()
	p, err := r.Acquire(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// TestPermit_countsAsCall: a permit counts as a call does.
func TestPermit_countsAsCall(t *testing.T) {
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

// TestPermit_concurrentDone: Done by many goroutines counts once.
func TestPermit_concurrentDone(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 2}}, OpenFor: time.Second})
	for round := range uint64(1000) {
		p := r.permit()
		testkit.AtOnce(2, func(int) { p.Done(errDown) })
		r.want(breaker.Closed)
		if s := r.Stats(); s.Failures != round+1 {
			t.Fatalf("%d failures, want %d", s.Failures, round+1)
		}
		_ = r.run(nil)
	}
}

// TestPermit_withoutDone: a permit without Done frees its slot after its lease.
func TestPermit_withoutDone(t *testing.T) {
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
	if s := r.Stats(); s.ProbesLate != 1 {
		t.Errorf("%+v", s)
	}
}

// TestPermit_context: Done decides by the context given to Acquire.
func TestPermit_context(t *testing.T) {
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
	_ = r.run(nil)
	r.permit().Done(context.Canceled) // but not by the caller
	if s := r.Stats(); s.Ignored != 1 || s.Failures != 2 {
		t.Errorf("%+v", s)
	}
}

// TestPermit_slow: the duration of a permit ends at Done.
func TestPermit_slow(t *testing.T) {
	r := with(t, breaker.Slow{LongerThan: time.Second, Calls: 1, Of: 1, Over: time.Minute})
	p := r.permit()
	r.clock.add(2 * time.Second)
	p.Done(nil)
	r.want(breaker.Open)
}

// TestPermit_lateIsCounted: every permit without Done is counted as late.
func TestPermit_lateIsCounted(t *testing.T) {
	r := halfOpenWith(t, 2)
	_, _ = r.permit(), r.permit()
	r.clock.add(15 * time.Second)
	_ = r.permit()
	if s := r.Stats(); s.ProbesLate != 2 || s.InFlight != 1 {
		t.Errorf("%+v", s)
	}
}

// TestPermit_doneAfterLease: a probe that ends after its lease moves no credit.
func TestPermit_doneAfterLease(t *testing.T) {
	for name, err := range map[string]error{"success": nil, "failure": errDown} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, quick)
			r.trip()
			r.clock.add(time.Second)
			p := r.permit()
			r.clock.add(15 * time.Second) // and no other call takes its slot
			p.Done(err)
			r.want(breaker.HalfOpen)
			if s := r.Stats(); s.Credit != 1 || s.InFlight != 0 || s.ProbesLate != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestRejection_halfOpen: a rejection in HALF_OPEN has no RetryAt.
func TestRejection_halfOpen(t *testing.T) {
	r := newRig(t, quick)
	r.trip()
	r.clock.add(time.Second)
	probe := r.permit()
	_, err := r.Acquire(t.Context())
	var rejection *resilience.Rejection
	if !errors.As(err, &rejection) || !rejection.RetryAt.IsZero() || rejection.Cause != errDown || !strings.Contains(rejection.Detail, "HALF_OPEN") {
		t.Errorf("rejected with %v", err)
	}
	probe.Done(nil)
}

// TestPermit_zero: Done of the zero Permit does nothing.
func TestPermit_zero(*testing.T) { new(breaker.Permit).Done(errDown) }
