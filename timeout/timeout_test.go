package timeout_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/resiliencetest"
	"github.com/resilience-go/resilience/timeout"
)

// An operation that returns the context's error after the timeout fails with an Error.
func TestTimeout_exceeded(t *testing.T) {
	everywhere(t, func(w *world) {
		rec := &resiliencetest.Recorder{}
		p := w.timeout(timeout.Config{Name: "users", Timeout: time.Second, Observer: rec})
		w.later(time.Second)
		err := w.run(w.t.Context(), p, echo)
		if !errors.Is(err, timeout.ErrExceeded) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, resilience.ErrRejected) {
			w.t.Errorf("error %v", err)
		}
		var e *timeout.Error
		if !errors.As(err, &e) || e.Name != "users" || e.After != time.Second {
			w.t.Errorf("error %#v", err)
		}
		wantStats(w.t, p, timeout.Stats{Calls: 1, Exceeded: 1})
		if e := rec.Events(); len(e) != 1 || e[0].Kind != timeout.EventTimedOut || e[0].Delay != time.Second || e[0].Name != "users" {
			w.t.Errorf("observed %+v", e)
		}
	})
}

// The result of an operation in time is unchanged.
func TestTimeout_inTime(t *testing.T) {
	for _, want := range []error{nil, errBoom} {
		everywhere(t, func(w *world) {
			p := w.timeout(timeout.Config{Timeout: time.Second, Observer: &resiliencetest.Recorder{}})
			err := w.run(w.t.Context(), p, func(ctx context.Context) error {
				w.pass(time.Second - time.Nanosecond)
				if ctx.Err() != nil {
					w.t.Error("the context is done before the timeout")
				}
				return want
			})
			if err != want {
				w.t.Errorf("error %v, want %v itself", err, want)
			}
			wantStats(w.t, p, timeout.Stats{Calls: 1})
		})
	}
}

// The default timeout is 10 s.
func TestConfig_defaultTimeout(t *testing.T) {
	everywhere(t, func(w *world) {
		p := w.timeout(timeout.Config{})
		_ = w.run(w.t.Context(), p, func(ctx context.Context) error {
			w.pass(10*time.Second - 1)
			if ctx.Err() != nil {
				w.t.Error("done before 10 s")
			}
			w.pass(1)
			if ctx.Err() == nil {
				w.t.Error("not done after 10 s")
			}
			return nil
		})
	})
}

// Error.Err is the operation's error, or nil if that only repeats the context's error.
func TestError_Err(t *testing.T) {
	for name, test := range map[string]struct {
		op    resilience.Func
		wraps bool
	}{
		"the error of the context": {echo, false},
		"its cause":                {func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }, false},
		"an error of its own":      {func(ctx context.Context) error { <-ctx.Done(); return errBoom }, true},
		"a wrapped echo":           {func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("query: %w", ctx.Err()) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(w *world) {
				p := w.timeout(timeout.Config{Timeout: time.Second})
				w.later(time.Second)
				var said error
				err := w.run(w.t.Context(), p, func(ctx context.Context) error {
					said = test.op(ctx)
					return said
				})
				var e *timeout.Error
				if !errors.As(err, &e) || (e.Err != nil) != test.wraps {
					w.t.Fatalf("error %#v", err)
				}
				if test.wraps && (!errors.Is(err, said) || !strings.Contains(err.Error(), said.Error())) {
					w.t.Errorf("error %v does not show %v", err, said)
				}
			})
		})
	}
}

// Error is a timeout and a failure, and matches the error that it wraps.
func TestError_methods(t *testing.T) {
	var e error = &timeout.Error{Name: "users", After: time.Second, Err: errBoom}
	var n interface{ Timeout() bool }
	if !errors.As(e, &n) || !n.Timeout() {
		t.Error("Timeout() is not true")
	}
	var o interface{ Outcome() resilience.Outcome }
	if !errors.As(e, &o) || o.Outcome() != resilience.Failure {
		t.Error("Outcome() is not Failure")
	}
	if errors.Is(e, context.Canceled) || errors.Is(e, resilience.ErrRejected) || !errors.Is(e, errBoom) {
		t.Error("matches what it should not, or not what it wraps")
	}
}

// The text has the name, the moment that the timeout applies to, and the operation's error.
func TestError_Error(t *testing.T) {
	late := func(err error) resilience.Func {
		return func(ctx context.Context) error { <-ctx.Done(); return err }
	}
	for want, test := range map[string]struct {
		config timeout.Config
		op     resilience.Func
	}{
		`timeout "users": no answer within 1.5s: boom`: {timeout.Config{Name: "users", Timeout: 1500 * time.Millisecond, Until: resilience.Answered}, late(errBoom)},
		`timeout "users": not done within 1.5s: boom`:  {timeout.Config{Name: "users", Timeout: 1500 * time.Millisecond}, late(errBoom)},
		`timeout: no answer within 10s`:                {timeout.Config{Until: resilience.Answered}, echo},
		`timeout: not done within 10s`:                 {timeout.Config{}, echo},
	} {
		synctest.Test(t, func(t *testing.T) {
			if err := resilience.Run(t.Context(), must(t, test.config), test.op); err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

// Apply waits for the operation, and a bulkhead slot is held until it ends.
func TestTimeout_waitsForOperation(t *testing.T) {
	for name, compose := range map[string]func(b, p resilience.Policy) resilience.Policy{
		"bulkhead(timeout)": func(b, p resilience.Policy) resilience.Policy { return resilience.Compose(b, p) },
		"timeout(bulkhead)": func(b, p resilience.Policy) resilience.Policy { return resilience.Compose(p, b) },
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(w *world) {
				b := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue}))
				p := w.timeout(timeout.Config{Timeout: time.Second})
				over := make(chan error)
				release := make(chan struct{})
				go func() {
					over <- w.run(w.t.Context(), compose(b, p), func(ctx context.Context) error {
						<-release // even if the context is done
						return ctx.Err()
					})
				}()
				synctest.Wait()
				w.pass(time.Minute)
				select {
				case <-over:
					w.t.Error("Apply returned before the operation")
				default:
				}
				if n := b.Stats().InFlight; n != 1 {
					w.t.Errorf("%d slots taken long after the timeout, want 1", n)
				}
				close(release)
				if err := <-over; !errors.Is(err, timeout.ErrExceeded) {
					w.t.Errorf("error %v", err)
				}
				if n := b.Stats().InFlight; n != 0 {
					w.t.Errorf("%d slots taken after the end", n)
				}
			})
		})
	}
}

// If the caller's context ends first, the operation's error is returned and nothing
// counts.
func TestTimeout_callerFirst(t *testing.T) {
	left := errors.New("the caller left")
	for name, parent := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		},
		"deadline at the same instant": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Minute)
		},
		"deadline with a cause": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, time.Second, left)
		},
		"canceled": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(time.Second, func() { cancel(left) })
			return ctx, func() { cancel(nil) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(w *world) {
				for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
					p := w.timeout(timeout.Config{Timeout: time.Minute, Until: until})
					ctx, cancel := parent(w.t.Context())
					err := w.run(ctx, p, func(opCtx context.Context) error {
						<-opCtx.Done()
						if context.Cause(opCtx) != context.Cause(ctx) {
							w.t.Errorf("cause %v, want the caller's", context.Cause(opCtx))
						}
						return opCtx.Err()
					})
					if err != ctx.Err() || errors.Is(err, timeout.ErrExceeded) {
						w.t.Errorf("error %v, want %v itself", err, ctx.Err())
					}
					cancel()
					wantStats(w.t, p, timeout.Stats{Calls: 1})
				}
			})
		})
	}
}

// Until Ended, the context has the deadline, and the Error as its cause.
func TestTimeout_contextDeadline(t *testing.T) {
	everywhere(t, func(w *world) {
		p := w.timeout(timeout.Config{Name: "users", Timeout: time.Second})
		begun := time.Now()
		_ = w.run(w.t.Context(), p, func(ctx context.Context) error {
			deadline, ok := ctx.Deadline()
			if ok == w.mode.mock || ok && !deadline.Equal(begun.Add(time.Second)) {
				w.t.Errorf("deadline %v, %v", deadline, ok)
			}
			w.pass(time.Second)
			if cause := context.Cause(ctx); !errors.Is(cause, timeout.ErrExceeded) || !errors.Is(cause, context.DeadlineExceeded) {
				w.t.Errorf("cause %v", cause)
			}
			return nil
		})
	})
}

// An operation that fails by itself at the deadline counts as timed out.
func TestTimeout_ownDeadline(t *testing.T) {
	// A net.Conn knows only the deadline, and may fail before the context is done.
	p := must(t, timeout.Config{Timeout: 5 * time.Millisecond})
	for range 20 {
		err := resilience.Run(t.Context(), p, func(ctx context.Context) error {
			client, server := net.Pipe()
			defer client.Close()
			defer server.Close()
			deadline, _ := ctx.Deadline()
			_ = client.SetReadDeadline(deadline)
			_, err := client.Read(make([]byte, 1))
			return err
		})
		if !errors.Is(err, timeout.ErrExceeded) {
			t.Fatalf("error %v", err)
		}
	}
	wantStats(t, p, timeout.Stats{Calls: 20, Exceeded: 20})
}

// No goroutine outlives the calls.
func TestTimeout_noGoroutineLeft(t *testing.T) {
	// The bubble fails if a goroutine is left when the test returns.
	everywhere(t, func(w *world) {
		p := w.timeout(timeout.Config{Timeout: time.Second})
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				_ = w.run(w.t.Context(), p, func(ctx context.Context) error {
					if i%2 == 0 {
						return nil
					}
					return echo(ctx)
				})
			})
		}
		synctest.Wait()
		w.pass(time.Second)
		all.Wait()
		wantStats(w.t, p, timeout.Stats{Calls: 100, Exceeded: 50})
	})
}

// A success after the timeout is a success, and is counted as late.
func TestTimeout_lateSuccess(t *testing.T) {
	everywhere(t, func(w *world) {
		p := w.timeout(timeout.Config{Timeout: time.Second, Observer: &resiliencetest.Recorder{}})
		err := w.run(w.t.Context(), p, func(context.Context) error {
			w.pass(2 * time.Second)
			return nil
		})
		if err != nil {
			w.t.Errorf("error %v", err)
		}
		wantStats(w.t, p, timeout.Stats{Calls: 1, Late: 1})
	})
}

// Do returns a value that comes after the timeout.
func TestDo_lateValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := must(t, timeout.Config{Timeout: time.Second})
		v, err := resilience.Do(t.Context(), p, func(context.Context) (string, error) {
			time.Sleep(time.Minute)
			return "late", nil
		})
		if v != "late" || err != nil {
			t.Fatalf("%q, %v", v, err)
		}
	})
}

// Of nested timeouts, the error names the stricter one, and one counts.
func TestTimeout_nested(t *testing.T) {
	for name, test := range map[string]struct {
		outer, inner time.Duration
		want         string
	}{
		"inner": {2 * time.Second, time.Second, "inner"},
		"outer": {time.Second, 2 * time.Second, "outer"},
	} {
		for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
			t.Run(name+"/"+until.String(), func(t *testing.T) {
				everywhere(t, func(w *world) {
					outer := w.timeout(timeout.Config{Name: "outer", Timeout: test.outer})
					inner := w.timeout(timeout.Config{Name: "inner", Timeout: test.inner, Until: until})
					w.later(3 * time.Second)
					err := w.run(w.t.Context(), resilience.Compose(outer, inner), echo)
					var e *timeout.Error
					if !errors.As(err, &e) || e.Name != test.want {
						w.t.Errorf("error %v, want the %s timeout's", err, test.want)
					}
					if n := outer.Stats().Exceeded + inner.Stats().Exceeded; n != 1 {
						w.t.Errorf("counted %d times", n)
					}
				})
			})
		}
	}
}

// With Unbounded, the operation gets the caller's context.
func TestConfig_Timeout_unbounded(t *testing.T) {
	everywhere(t, func(w *world) {
		p := w.timeout(timeout.Config{Timeout: timeout.Unbounded})
		want := w.t.Context()
		err := w.run(want, p, func(ctx context.Context) error {
			if ctx != want {
				w.t.Error("the context is not the caller's")
			}
			w.pass(time.Hour)
			return ctx.Err()
		})
		if err != nil {
			w.t.Errorf("error %v", err)
		}
		wantStats(w.t, p, timeout.Stats{Calls: 1})
	})
}

// The longest duration is a valid timeout.
func TestConfig_Timeout_longest(t *testing.T) {
	everywhere(t, func(w *world) {
		p := w.timeout(timeout.Config{Timeout: math.MaxInt64})
		if err := w.run(w.t.Context(), p, func(ctx context.Context) error { w.pass(time.Hour); return ctx.Err() }); err != nil {
			w.t.Errorf("error %v", err)
		}
	})
}

// An invalid Until is an error that names the field and the valid values.
func TestNew_invalidUntil(t *testing.T) {
	p, err := timeout.New(timeout.Config{Name: "users", Until: 7})
	if p != nil || err == nil {
		t.Fatalf("New returned %v, %v", p, err)
	}
	for _, want := range []string{`"users"`, "Config.Until", "7", "resilience.Answered or resilience.Ended"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not contain %q", err, want)
		}
	}
}

// If the context is already done, Apply runs and counts nothing.
func TestTimeout_contextDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := must(t, timeout.Config{})
	if err := p.Apply(ctx, resilience.Next{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	wantStats(t, p, timeout.Stats{})
}

// Forks share the counters.
func TestTimeout_Fork(t *testing.T) {
	p := must(t, timeout.Config{Name: "users"})
	fork := p.Fork("").(*timeout.Timeout)
	_ = resilience.Run(t.Context(), fork, func(context.Context) error { return nil })
	wantStats(t, p, timeout.Stats{Calls: 1})
	if !fork.Idle() || p.Name() != "users" {
		t.Error("not idle, or without its name")
	}
}
