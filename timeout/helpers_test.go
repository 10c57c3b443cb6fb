package timeout_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
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
	op := &lasting{fn: fn}
	err := resilience.RunOperation(ctx, p, op)
	op.end(err)
	return err
}

// lasting is an operation that goes on after Run until it is ended.
type lasting struct {
	resilience.Tail
	fn   resilience.Func
	mute bool // does not answer when fn returns
	run  uint32
	ctx  context.Context
}

func (l *lasting) Run(ctx context.Context) error {
	l.run, l.ctx = l.Begin(), ctx
	err := l.fn(ctx)
	if err == nil && !l.mute {
		l.Answer(l.run)
	}
	return err
}

func (l *lasting) Discard()      { l.end(context.Canceled) }
func (l *lasting) end(err error) { l.End(l.run, err) }

// start runs an operation that goes on, and fails the test if Run fails.
func start(t *testing.T, ctx context.Context, p resilience.Policy, l *lasting) *lasting {
	t.Helper()
	if l.fn == nil {
		l.fn = func(context.Context) error { return nil }
	}
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

// ending is how a function ended.
type ending struct {
	err      error
	panicked any
	goexit   bool
}

// unwind calls f on a goroutine of its own, so that it may end as it likes.
func unwind(f func() error) (e ending) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		returned := false
		defer func() {
			if !returned {
				e.panicked = recover()
				e.goexit = e.panicked == nil
			}
		}()
		e.err = f()
		returned = true
	}()
	<-done
	return e
}

func abort(goexit bool) {
	if goexit {
		runtime.Goexit()
	}
	panic(errBoom)
}

// recorder is an Observer that keeps what it hears.
type recorder struct {
	mu     sync.Mutex
	events []resilience.Event
}

func (r *recorder) Observe(_ context.Context, e resilience.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}
