package limit_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/limit"
)

// fill takes n places of l until leave is closed.
func fill(t *testing.T, l resilience.Policy, n int, leave <-chan struct{}) {
	t.Helper()
	for range n {
		go func() {
			_ = resilience.Run(context.Background(), l, func(context.Context) error { <-leave; return nil })
		}()
		synctest.Wait()
	}
}

// A rejection by a fork has the key of the fork.
func TestLimitFork_rejectionHasKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(t, limit.Config{Name: "orders", Max: 1, MaxQueue: -1})
		leave := make(chan struct{})
		for _, key := range []string{"a", "b"} {
			fork := l.Fork(key)
			fill(t, fork, 1, leave)
			err := resilience.Run(t.Context(), fork, succeed)
			var r *resilience.Rejection
			if !errors.As(err, &r) || r.Key != key {
				t.Errorf("fork for %q: %v", key, err)
			}
		}
		close(leave)
		synctest.Wait()
		atRest(t, l, 4)
	})
}

// rude is a context whose methods end the goroutine once they are to.
type rude struct {
	context.Context
	err, done func()
}

func (r *rude) Err() error {
	if r.err != nil {
		r.err()
	}
	return r.Context.Err()
}

func (r *rude) Done() <-chan struct{} {
	if r.done != nil {
		r.done()
	}
	return r.Context.Done()
}

// A slot is freed although a method of ctx panics or ends the goroutine.
func TestLimit_contextUnwinds(t *testing.T) {
	for name, end := range testkit.Aborts("boom") {
		t.Run("Err after the operation/"+name, func(t *testing.T) {
			l := newLimit(t, limit.Config{})
			ctx := &rude{Context: t.Context()}
			got := testkit.Unwind(func() error {
				return resilience.Run(ctx, l, func(context.Context) error { ctx.err = end.Abort; return nil })
			})
			if got != end {
				t.Errorf("ended with %+v", got)
			}
			atRest(t, l, 1)
		})
		t.Run("Done in line/"+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimit(t, limit.Config{Max: 1})
				leave := make(chan struct{})
				fill(t, l, 1, leave)
				ctx := &rude{Context: t.Context(), done: end.Abort}
				if got := testkit.Unwind(func() error { return resilience.Run(ctx, l, succeed) }); got != end {
					t.Errorf("ended with %+v", got)
				}
				if n := l.Stats().Queued; n != 0 {
					t.Errorf("%d are in line still", n)
				}
				close(leave)
				synctest.Wait()
				atRest(t, l, 2)
			})
		})
		t.Run("Err at the end of the wait/"+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimit(t, limit.Config{Max: 1})
				leave := make(chan struct{})
				fill(t, l, 1, leave)
				ctx := &rude{Context: t.Context()}
				ctx.done = func() { ctx.err = end.Abort }
				time.AfterFunc(time.Second, func() { close(leave) })
				if got := testkit.Unwind(func() error { return resilience.Run(ctx, l, succeed) }); got != end {
					t.Errorf("ended with %+v", got)
				}
				synctest.Wait()
				atRest(t, l, 2)
			})
		})
	}
}

// badError is an error whose Is does not return.
type badError struct{ end func() }

func (*badError) Error() string   { return "bad" }
func (e *badError) Is(error) bool { e.end(); return false }

// streamed is an operation that answers when the test says so.
type streamed struct {
	resilience.Tail
	run uint32
	err error
}

func (s *streamed) Run(context.Context) error { s.run = s.Begin(); return s.err }
func (s *streamed) Discard()                  { s.End(s.run, context.Canceled) }

// A slot is freed although a method of the error panics or ends the goroutine.
func TestLimit_errorUnwinds(t *testing.T) {
	for name, end := range testkit.Aborts("boom") {
		t.Run(name, func(t *testing.T) {
			l := newLimit(t, limit.Config{})
			got := testkit.Unwind(func() error {
				return resilience.Run(t.Context(), l, func(context.Context) error { return &badError{end.Abort} })
			})
			if got != end {
				t.Errorf("ended with %+v", got)
			}
			s := &streamed{}
			if err := resilience.RunOperation(t.Context(), l, s); err != nil {
				t.Error(err)
			}
			testkit.Unwind(func() error { s.End(s.run, &badError{end.Abort}); return nil })
			atRest(t, l, 2)
		})
	}
}

// After a clock was set back or forward by an hour, a Limit rejects no request that the
// service can answer.
func TestLimit_clockSet(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, -time.Minute, time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mock := &following{clock.NewMock(), time.Now(), 2 * time.Hour}
				l := newLimit(t, limit.Config{Clock: mock})
				s := newService(4, 10*time.Millisecond)
				s.overwhelm(t, l)
				s.calls.Wait()
				mock.offset += by
				rejected := l.Stats().Shed
				s.load(l, 5*time.Millisecond, 5*time.Second, nil)
				s.calls.Wait()
				if got := l.Stats(); got.Shed != rejected || got.Overload {
					t.Errorf("%d rejected: %+v", got.Shed-rejected, got)
				}
				s.overwhelm(t, l) // an overload is found again
				s.calls.Wait()
			})
		})
	}
}

// following is a clock that shows the time of a bubble, give or take an offset.
type following struct {
	*clock.Mock
	base   time.Time
	offset time.Duration
}

func (f *following) Now() time.Time                   { return time.Now().Add(f.offset) }
func (f *following) Since(at time.Time) time.Duration { return f.Now().Sub(at) }
