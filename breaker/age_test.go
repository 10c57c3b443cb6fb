package breaker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/internal/testkit"
)

// TestSilence_oldRun: after ten seconds without a call, a run of failures is no evidence.
// With calls more often than that, it is.
func TestSilence_oldRun(t *testing.T) {
	for _, tt := range []struct {
		pause time.Duration
		want  breaker.State
	}{
		{10*time.Second - time.Millisecond, breaker.Open},
		{10 * time.Second, breaker.Closed},
		{time.Hour, breaker.Closed},
	} {
		r := newRig(t, breaker.Config{})
		r.silence(6, 0)
		r.clock.add(tt.pause)
		if s, want := r.Stats(), map[breaker.State]int{breaker.Open: 6}[tt.want]; s.FailuresInARow != want {
			t.Errorf("after %v: %d failures in a row, want %d", tt.pause, s.FailuresInARow, want)
		}
		_ = r.run(errDown)
		if got := r.State(); got != tt.want {
			t.Errorf("after %v: state is %v, want %v", tt.pause, got, tt.want)
		}
	}
}

// TestSilence_oldRunStartsAgain: the first failure after an old run is the first of a new
// run, so it takes the whole rule to open.
func TestSilence_oldRunStartsAgain(t *testing.T) {
	r := newRig(t, breaker.Config{})
	r.silence(6, time.Second)
	r.clock.add(time.Minute)
	r.silence(6, time.Second)
	r.want(breaker.Closed)
	_ = r.run(errDown)
	r.want(breaker.Open)
}

// TestSilence_hangIsNotIdle: calls that hang one after another open the breaker, however
// long each hangs.
func TestSilence_hangIsNotIdle(t *testing.T) {
	for _, hang := range []time.Duration{time.Second, 10 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			b := resilience.Must(breaker.New(breaker.Config{}))
			for range 7 {
				ctx, cancel := context.WithTimeout(t.Context(), hang)
				_ = resilience.Run(ctx, b, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
				cancel()
			}
			if b.State() != breaker.Open {
				t.Errorf("seven hangs of %v: state is %v", hang, b.State())
			}
		})
	}
}

// TestSilence_callInFlight: while a call is in flight, the run does not become old, whether
// the call ends in a failure, is canceled, or goes on.
func TestSilence_callInFlight(t *testing.T) {
	for name, end := range map[string]func(*held){
		"fails":    func(h *held) { _ = h.finish(errDown) },
		"canceled": func(h *held) { _ = h.finish(resilience.Ignore(errDown)) },
		"goes on":  func(*held) {},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, breaker.Config{})
			r.silence(6, time.Second)
			h := r.start(context.Background())
			r.clock.add(time.Minute)
			end(h)
			_ = r.run(errDown)
			r.want(breaker.Open)
		})
	}
}

// TestSilence_callBeforeRun: a call that began before the run and fails long after it was in
// flight all the time, so the run is not old.
func TestSilence_callBeforeRun(t *testing.T) {
	r := newRig(t, breaker.Config{})
	h := r.start(context.Background())
	r.silence(6, time.Second)
	r.clock.add(time.Minute)
	_ = h.finish(errDown)
	r.want(breaker.Open)
}

// TestSilence_emptyCallsDoNotRenew: calls that end at once without a failure, and permits
// without work, do not keep old failures alive, however many there are.
func TestSilence_emptyCallsDoNotRenew(t *testing.T) {
	for name, call := range map[string]func(r *rig){
		"ignored":  func(r *rig) { _ = r.run(resilience.Ignore(errDown)) },
		"rejected": func(r *rig) { _ = r.run(resilience.ErrRejected) },
		"no work":  func(r *rig) { r.permit().Cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, breaker.Config{})
			r.silence(6, time.Second)
			for range 20 {
				r.clock.add(time.Second)
				call(r)
			}
			_ = r.run(errDown)
			r.want(breaker.Closed)
			if s := r.Stats(); s.FailuresInARow != 1 {
				t.Errorf("%d failures in a row", s.FailuresInARow)
			}
		})
	}
}

// TestSilence_oldRunAtOnce: many calls begin at once after an old run. All of their failures
// count, and none of the old ones does.
func TestSilence_oldRunAtOnce(t *testing.T) {
	for range 200 {
		r := newRig(t, breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 16}}, OpenFor: time.Second})
		r.silence(15, 0)
		r.clock.add(time.Minute)
		testkit.AtOnce(8, func(int) { _ = r.run(errDown) })
		r.want(breaker.Closed)
		if s := r.Stats(); s.FailuresInARow != 8 {
			t.Fatalf("%d failures in a row, want 8", s.FailuresInARow)
		}
	}
}

// TestSilence_panicInRun: a call that panics or exits during a run is not in flight
// afterwards.
func TestSilence_panicInRun(t *testing.T) {
	r := newRig(t, breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 3}}, OpenFor: time.Second})
	_ = r.run(errDown)
	func() {
		defer func() { _ = recover() }()
		_ = r.runFunc(func() error { panic(errDown) })
	}()
	r.clock.add(10 * time.Second)
	_ = r.run(errDown)
	r.want(breaker.Closed)
}

// TestPermit_cancel: a permit without work counts nothing and frees its slot.
func TestPermit_cancel(t *testing.T) {
	r := newRig(t, quick)
	before := r.Stats().Counters
	p := r.permit()
	p.Cancel()
	p.Done(errDown)
	if s := r.Stats(); s.Counters != before {
		t.Errorf("it counts %+v", s)
	}
	r.trip()
	r.clock.add(time.Second)
	probe := r.permit()
	if _, err := r.Acquire(t.Context()); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("a second probe: %v", err)
	}
	probe.Cancel()
	probe.Cancel()
	if s := r.Stats(); s.InFlight != 0 || s.Credit != 1 || s.ProbesIgnored != 0 {
		t.Errorf("after a probe without work: %+v", s)
	}
	r.permit().Done(nil)
	r.want(breaker.Closed)
	new(breaker.Permit).Cancel()
}

// TestPermit_cancelInRun: a permit that is canceled during a run is not in flight.
func TestPermit_cancelInRun(t *testing.T) {
	r := newRig(t, breaker.Config{})
	r.silence(6, 0)
	r.permit().Cancel()
	r.clock.add(10 * time.Second)
	_ = r.run(errDown)
	r.want(breaker.Closed)
}

// TestBreaker_Wait: Wait returns when a call would be admitted, and counts nothing.
func TestBreaker_Wait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Second}))
		waited := func(want time.Duration) {
			t.Helper()
			start := time.Now()
			if err := b.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d < want || d > want+10*time.Millisecond {
				t.Errorf("it waited for %v, want %v", d, want)
			}
		}
		waited(0)
		_ = resilience.Run(t.Context(), b, func(context.Context) error { return errDown })
		waited(time.Second) // until the open time is over
		p, err := b.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(300*time.Millisecond, p.Cancel)
		waited(300 * time.Millisecond) // until the slot is free
		if _, err = b.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		waited(15 * time.Second) // until the lease of the probe ends
		b.SetMode(breaker.ForcedOpen)
		time.AfterFunc(time.Minute, func() { b.SetMode(breaker.MetricsOnly) })
		waited(time.Minute)
		b.SetMode(breaker.ForcedOpen)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if s := b.Stats(); s.Rejected != 0 || s.WouldReject != 0 || s.Successes != 0 {
			t.Errorf("it counts %+v", s)
		}
	})
}

// TestClassify_outside: the policies outside the breaker judge an error as Classify did.
func TestClassify_outside(t *testing.T) {
	for _, want := range []resilience.Outcome{resilience.Success, resilience.Failure, resilience.Ignored} {
		b := resilience.Must(breaker.New(breaker.Config{Classify: func(error) resilience.Outcome { return want }}))
		err := resilience.Run(t.Context(), b, func(context.Context) error { return errDown })
		if got := resilience.OutcomeOf(t.Context(), err, nil); got != want || !errors.Is(err, errDown) || err.Error() != errDown.Error() {
			t.Errorf("%v is %v, want %v", err, got, want)
		}
	}
	b := resilience.Must(breaker.New(breaker.Config{}))
	if err := resilience.Run(t.Context(), b, func(context.Context) error { return errDown }); err != errDown {
		t.Errorf("without Classify: %v", err)
	}
}
