package breaker_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/testkit"
)

// TestCounters_probes: probes are counted by what they meant for HALF_OPEN.
func TestCounters_probes(t *testing.T) {
	full := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: -1}))
	type probes [4]uint64 // succeeded, failed, ignored, late
	for name, tt := range map[string]struct {
		probe func(*rig)
		want  probes
	}{
		"success":  {func(r *rig) { _ = r.run(nil) }, probes{1, 0, 0, 0}},
		"failure":  {func(r *rig) { _ = r.run(errDown) }, probes{0, 1, 0, 0}},
		"panic":    {func(r *rig) { _ = testkit.Unwind(func() error { return r.runFunc(func() error { panic(1) }) }) }, probes{0, 1, 0, 0}},
		"canceled": {func(r *rig) { r.cancelProbe() }, probes{0, 0, 1, 0}},
		"slow": {func(r *rig) {
			_ = r.runFunc(func() error { r.clock.add(2 * time.Second); return nil })
		}, probes{0, 1, 0, 0}},
		"rejected by a bulkhead inside": {func(r *rig) {
			_ = resilience.Run(r.t.Context(), full, func(ctx context.Context) error {
				err := resilience.Run(ctx, resilience.Compose(r.Breaker, full), func(context.Context) error { return nil })
				if !errors.Is(err, bulkhead.ErrFull) {
					r.t.Errorf("the bulkhead has a free slot: %v", err)
				}
				return nil
			})
		}, probes{0, 0, 1, 0}},
		"late": {func(r *rig) {
			p := r.permit()
			r.clock.add(15 * time.Second)
			p.Done(nil)
		}, probes{0, 0, 0, 1}},
		"late, its slot taken": {func(r *rig) {
			p := r.permit()
			r.clock.add(15 * time.Second)
			r.permit().Done(nil)
			p.Done(errDown)
		}, probes{1, 0, 0, 1}},
		"twice":                {func(r *rig) { p := r.permit(); p.Done(nil); p.Done(errDown) }, probes{1, 0, 0, 0}},
		"after a reset":        {func(r *rig) { p := r.permit(); r.Reset(); p.Done(nil) }, probes{}},
		"after a change":       {func(r *rig) { p := r.permit(); r.SetMode(breaker.MetricsOnly); p.Done(nil) }, probes{}},
		"rejected here":        {func(r *rig) { p := r.permit(); _ = r.run(nil); p.Done(nil) }, probes{1, 0, 0, 0}},
		"MetricsOnly, no slot": {func(r *rig) { r.SetMode(breaker.MetricsOnly); p := r.permit(); _ = r.run(errDown); p.Done(nil) }, probes{1, 0, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, breaker.Config{
				Trip: []breaker.Rule{breaker.Consecutive{Failures: 2}, breaker.Slow{LongerThan: time.Second, Calls: 100, Of: 100, Over: time.Minute}}, OpenFor: time.Second,
			})
			r.trip()
			r.clock.add(time.Second)
			tt.probe(r)
			s := r.Stats()
			if got := (probes{s.ProbesSucceeded, s.ProbesFailed, s.ProbesIgnored, s.ProbesLate}); got != tt.want {
				t.Errorf("succeeded, failed, ignored, late: %v, want %v", got, tt.want)
			}
		})
	}
}

func (r *rig) cancelProbe() {
	ctx, cancel := context.WithCancel(r.t.Context())
	_ = resilience.Run(ctx, r.Breaker, func(context.Context) error { cancel(); return ctx.Err() })
}

// TestTransitions_fromTheStart: every possible transition is there from the start, in a
// fixed order.
func TestTransitions_fromTheStart(t *testing.T) {
	r := newRig(t, breaker.Config{
		Trip: []breaker.Rule{breaker.Consecutive{Failures: 2}, breaker.Rate{Failures: 50, Of: 100}, breaker.Consecutive{Failures: 2}}, OpenFor: time.Second,
	})
	first := r.Transitions()
	rules := 0
	for _, c := range first {
		if c.Count != 0 {
			t.Errorf("at the start %+v", c)
		}
		if c.From == breaker.Closed && c.To == breaker.Open && c.Rule != breaker.CauseSetMode {
			rules++
		}
		if c.From == c.To {
			t.Errorf("%+v is none", c)
		}
	}
	if rules != 2 {
		t.Errorf("%d rules open it, want 2: some are alike, in %+v", rules, first)
	}
	for range 3 {
		r.trip()
		r.Reset()
	}
	for i, c := range r.Transitions() {
		n := uint64(0)
		if c.Rule == "Consecutive{Failures: 2}" || c.Rule == breaker.CauseReset && c.From == breaker.Open {
			n = 3
		}
		if c.Count != n {
			t.Errorf("%+v, want %d", c, n)
		}
		if c.Count = 0; c != first[i] {
			t.Errorf("element %d is %+v, was %+v", i, c, first[i])
		}
	}
}

// TestTransitions_eachIsCounted: each possible transition is counted.
func TestTransitions_eachIsCounted(t *testing.T) {
	r := newRig(t, quick)
	halfOpen := func() { r.trip(); r.clock.add(time.Second); _ = r.permit() }
	for _, m := range []breaker.Mode{breaker.ForcedOpen, breaker.Disabled} {
		for _, enter := range []func(){func() {}, func() { r.trip() }, halfOpen} {
			r.SetMode(breaker.Auto)
			r.Reset()
			enter()
			r.SetMode(m)
			r.SetMode(breaker.Auto)
		}
	}
	r.Reset()
	halfOpen()
	r.Reset()
	r.flap(errDown)
	r.trip()
	r.clock.add(time.Second)
	_ = r.run(errDown)
	for _, c := range r.Transitions() {
		if c.Count == 0 {
			t.Errorf("%+v was not counted", c)
		}
	}
}

// TestTransitions_neverFall: counts that are read while other goroutines count never
// fall.
func TestTransitions_neverFall(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: quick.Trip, OpenFor: time.Microsecond, CloseAfter: 1})
	done := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		last := r.Transitions()
		for {
			now := r.Transitions()
			if i := slices.IndexFunc(now, func(c breaker.TransitionCount) bool {
				return c.Count < last[slices.IndexFunc(last, func(l breaker.TransitionCount) bool {
					return l.From == c.From && l.To == c.To && l.Rule == c.Rule
				})].Count
			}); i >= 0 {
				t.Errorf("%+v has fallen", now[i])
			}
			if h := r.Explain().History; len(h) > 16 {
				t.Errorf("%d transitions are remembered", len(h))
			}
			last = now
			select {
			case <-done:
				return
			default:
			}
		}
	})
	testkit.AtOnce(8, func(i int) {
		for n := range 1000 {
			_ = r.run([]error{errDown, errDown, nil}[(n+i)%3])
			r.clock.add(time.Microsecond)
		}
	})
	close(done)
	reader.Wait()
}
