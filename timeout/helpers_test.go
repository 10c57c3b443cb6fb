package timeout_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/timeout"
)

var errBoom = errors.New("boom")

func must(t testing.TB, c timeout.Config) *timeout.Timeout {
	t.Helper()
	p, err := timeout.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func wantStats(t testing.TB, p *timeout.Timeout, want timeout.Stats) {
	t.Helper()
	if s := p.Stats(); s != want {
		t.Errorf("counted %+v, want %+v", s, want)
	}
}

// mode is a clock and a kind of operation. A test of both must not depend on the mode.
type mode struct {
	mock, lasting bool
}

// world runs a test in a mode, inside a synctest bubble.
type world struct {
	t    *testing.T
	mode mode
	mock *clock.Mock
	bg   sync.WaitGroup
}

// everywhere runs test with real and mock time, each with plain and Lasting operations.
func everywhere(t *testing.T, test func(w *world)) {
	t.Helper()
	for name, m := range map[string]mode{
		"real/plain": {}, "real/lasting": {lasting: true}, "mock/plain": {mock: true}, "mock/lasting": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{t: t, mode: m, mock: clock.NewMock()}
				defer w.bg.Wait()
				test(w)
			})
		})
	}
}

func (w *world) timeout(c timeout.Config) *timeout.Timeout {
	if w.mode.mock {
		c.Clock = w.mock
	}
	return must(w.t, c)
}

// pass moves the time by d.
func (w *world) pass(d time.Duration) {
	if w.mode.mock {
		w.mock.Add(d)
	} else {
		time.Sleep(d)
	}
	synctest.Wait()
}

// later moves the time by d once all goroutines of the bubble wait.
func (w *world) later(d time.Duration) {
	w.bg.Go(func() {
		synctest.Wait()
		w.pass(d)
	})
}

// run runs fn under p to its end, as the kind of operation of the mode.
func (w *world) run(ctx context.Context, p resilience.Policy, fn resilience.Func) error {
	if !w.mode.lasting {
		return resilience.Run(ctx, p, fn)
	}
	op := &testkit.Lasting{Func: fn}
	err := resilience.RunOperation(ctx, p, op)
	op.Finish(err)
	return err
}

// start runs an operation that goes on, and fails the test if it fails.
func start(t *testing.T, ctx context.Context, p resilience.Policy, l *testkit.Lasting) *testkit.Lasting {
	t.Helper()
	if err := resilience.RunOperation(ctx, p, l); err != nil {
		t.Fatal(err)
	}
	return l
}

// echo waits for its context and returns the context's error.
func echo(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}
