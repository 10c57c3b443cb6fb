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

// mode is a way to tell the time and to work: both must not matter.
type mode struct {
	mock, lasting bool
}

// world is where a test of a mode takes place, inside of a bubble.
type world struct {
	t    *testing.T
	mode mode
	mock *clock.Mock
	bg   sync.WaitGroup
}

// everywhere runs test with real and mock time, and with operations that are over
// when they return and those that are Lasting.
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

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	if w.mode.mock {
		w.mock.Add(d)
	} else {
		time.Sleep(d)
	}
	synctest.Wait()
}

// later lets time pass once all that runs now is waiting.
func (w *world) later(d time.Duration) {
	w.bg.Go(func() {
		synctest.Wait()
		w.pass(d)
	})
}

// run runs fn under p to its end, whatever kind of operation it is.
func (w *world) run(ctx context.Context, p resilience.Policy, fn resilience.Func) error {
	if !w.mode.lasting {
		return resilience.Run(ctx, p, fn)
	}
	op := &testkit.Lasting{Func: fn}
	err := resilience.RunOperation(ctx, p, op)
	op.Finish(err)
	return err
}

// start runs an operation that goes on, and fails the test if Run fails.
func start(t *testing.T, ctx context.Context, p resilience.Policy, l *testkit.Lasting) *testkit.Lasting {
	t.Helper()
	if err := resilience.RunOperation(ctx, p, l); err != nil {
		t.Fatal(err)
	}
	return l
}

// echo waits for its context and returns what that says.
func echo(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}
