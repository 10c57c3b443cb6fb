package timeout_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/timeout"
)

// hang waits for the end of its context, as an operation does whose dependency hangs.
func hang(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// kinds are the ways in which a Timeout applies, by configuration and operation.
var kinds = map[string]struct {
	config timeout.Config
	run    func(ctx context.Context, p resilience.Policy, fn resilience.Func) error
}{
	"a deadline":       {timeout.Config{}, resilience.Run},
	"until the end":    {timeout.Config{}, runLasting},
	"until the answer": {timeout.Config{Until: resilience.Answered}, runLasting},
	"on another clock": {timeout.Config{Clock: clock.New()}, resilience.Run},
}

// runLasting runs fn as an operation that could go on.
func runLasting(ctx context.Context, p resilience.Policy, fn resilience.Func) error {
	return resilience.RunOperation(ctx, p, &lastingFunc{fn: fn})
}

type lastingFunc struct {
	resilience.Tail
	fn resilience.Func
}

func (l *lastingFunc) Discard() {}
func (l *lastingFunc) Run(ctx context.Context) (err error) {
	run := l.Begin()
	defer func() { l.End(run, err) }()
	return l.fn(ctx)
}

// Two calls under one Timeout do not take each other's timeout: if the error of one cancels
// the other, as in an errgroup, the other has not timed out.
func TestTimeout_causeOfAnotherCall(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kind.config.Timeout = 200 * time.Millisecond
				limit := resilience.Must(timeout.New(kind.config))
				b := resilience.Must(breaker.New(breaker.Config{}))
				ctx, cancel := context.WithCancelCause(t.Context())
				go func() { cancel(kind.run(ctx, limit, hang)) }()
				time.Sleep(150 * time.Millisecond)
				err := kind.run(ctx, resilience.Compose(b, limit), hang)
				if errors.Is(err, timeout.ErrExceeded) && errors.As(err, new(*timeout.Error)) {
					t.Errorf("error %v", err)
				}
				if s := limit.Stats(); s.Exceeded != 1 {
					t.Errorf("%+v", s)
				}
				if s := b.Stats(); s.Failures != 0 || s.Ignored != 1 {
					t.Errorf("the breaker counts %+v", s.Counters)
				}
			})
		})
	}
}

// A timeout is a net.Error by a type assertion, by errors.As and by os.IsTimeout, also the
// cause of its context.
func TestError_isNetError(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kind.config.Timeout = time.Second
				var cause error
				err := kind.run(t.Context(), resilience.Must(timeout.New(kind.config)), func(ctx context.Context) error {
					defer func() { cause = context.Cause(ctx) }()
					return hang(ctx)
				})
				for _, err := range []error{err, cause, resilience.Ignore(err)} {
					asserted, ok := err.(net.Error)
					var found net.Error
					if !ok || !asserted.Timeout() || !errors.As(err, &found) || !found.Timeout() || !os.IsTimeout(err) {
						t.Errorf("%T: %v", err, err)
					}
				}
			})
		})
	}
}

// A timeout outside the breaker is a failure, however it ends the context.
func TestTimeout_outsideBreakerIsFailure(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kind.config.Timeout = time.Second
				total := resilience.Must(timeout.New(kind.config))
				kind.config.Timeout = time.Minute
				longer := resilience.Must(timeout.New(kind.config))
				b := resilience.Must(breaker.New(breaker.Config{}))
				err := kind.run(t.Context(), resilience.Compose(longer, total, longer, b), hang)
				if !errors.Is(err, timeout.ErrExceeded) {
					t.Errorf("error %v", err)
				}
				if s := b.Stats(); s.Failures != 1 {
					t.Errorf("the breaker counts %+v", s.Counters)
				}
				if s, l := total.Stats(), longer.Stats(); s.Exceeded != 1 || l.Exceeded != 0 {
					t.Errorf("%+v, and the longer timeout %+v", s, l)
				}
			})
		})
	}
}

// A timeout that ends a wait for a slot of ours is no evidence about the dependency.
func TestTimeout_inQueueIsIgnored(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kind.config.Timeout = time.Second
				limit := resilience.Must(timeout.New(kind.config))
				b := resilience.Must(breaker.New(breaker.Config{}))
				slots := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxWait: time.Minute}))
				held, _ := slots.Acquire(t.Context())
				defer held.Release(nil)
				err := kind.run(t.Context(), resilience.Compose(b, limit, slots), hang)
				if !errors.Is(err, timeout.ErrExceeded) || err.Error() != limitText(kind.config) {
					t.Errorf("error %v", err)
				}
				if s := b.Stats(); s.Failures != 0 || s.Ignored != 1 {
					t.Errorf("the breaker counts %+v", s.Counters)
				}
			})
		})
	}
}

func limitText(c timeout.Config) string {
	if c.Until == resilience.Answered {
		return "timeout: no answer within 1s"
	}
	return "timeout: not done within 1s"
}

// An error that is an answer comes late as a value does: the caller gets it, and the call is
// counted as late.
func TestTimeout_lateAnswer(t *testing.T) {
	none := resilience.Answer(errors.New("no such user"))
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kind.config.Timeout = time.Second
				limit := resilience.Must(timeout.New(kind.config))
				err := kind.run(t.Context(), limit, func(context.Context) error { time.Sleep(2 * time.Second); return none })
				if s := limit.Stats(); err != none || s.Late != 1 || s.Exceeded != 0 {
					t.Errorf("error %v, %+v", err, s)
				}
			})
		})
	}
}
