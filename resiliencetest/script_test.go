package resiliencetest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/resiliencetest"
	"github.com/resilience-go/resilience/retry"
)

var errDown = errors.New("down")

// A Script returns its errors in order and then repeats the last.
func TestScript_repeatsLast(t *testing.T) {
	for name, tt := range map[string]struct {
		script, want []error
	}{
		"empty succeeds": {nil, []error{nil, nil}},
		"one fails":      {[]error{errDown}, []error{errDown, errDown}},
		"in order":       {[]error{errDown, nil}, []error{errDown, nil, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			op := resiliencetest.Script(tt.script...)
			for i, want := range tt.want {
				if got := op.Run(t.Context()); got != want {
					t.Errorf("run %d: %v, want %v", i+1, got, want)
				}
			}
		})
	}
}

// A Script is not changed by its caller's slice.
func TestScript_copiesErrors(t *testing.T) {
	errs := []error{errDown}
	op := resiliencetest.Script(errs...)
	errs[0] = nil
	if got := op.Run(t.Context()); got != errDown {
		t.Errorf("got %v after the caller changed its slice", got)
	}
}

// ErrHang hangs until the context is done.
func TestScript_hang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errDown)
		defer cancel()
		start := time.Now()
		err := resiliencetest.Script(resiliencetest.ErrHang).Run(ctx)
		if d := time.Since(start); d != time.Minute {
			t.Errorf("hung for %v", d)
		}
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errDown) {
			t.Errorf("got %v", err)
		}
	})
}

// Concurrent runs are all counted.
func TestScripted_Runs_concurrency(t *testing.T) {
	op := resiliencetest.Script(errDown, errDown, nil)
	failed := make(chan error, 100)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if err := op.Run(t.Context()); err != nil {
				failed <- err
			}
		})
	}
	wg.Wait()
	if op.Runs() != 100 || len(failed) != 2 {
		t.Errorf("%d runs, %d failed", op.Runs(), len(failed))
	}
}

// The caller may change the slice that Events returns.
func TestRecorder_Events_copy(t *testing.T) {
	var rec resiliencetest.Recorder
	rec.Observe(t.Context(), resilience.Event{Kind: retry.EventRetrying})
	rec.Events()[0].Kind = retry.EventGaveUp
	if got := rec.Events(); len(got) != 1 || got[0].Kind != retry.EventRetrying {
		t.Errorf("got %v", got)
	}
}

// A Recorder is safe for concurrent use.
func TestRecorder_concurrency(t *testing.T) {
	var rec resiliencetest.Recorder
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			rec.Observe(t.Context(), resilience.Event{From: "A", To: "B"})
			rec.Transitions()
		})
	}
	wg.Wait()
	if n := len(rec.Events()); n != 50 {
		t.Errorf("%d events", n)
	}
}
