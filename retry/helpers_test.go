package retry_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/resiliencetest"
	"github.com/resilience-go/resilience/retry"
)

var errBoom = errors.New("boom")

// timedOut is an error as the standard library makes them for timeouts.
type timedOut struct{}

func (timedOut) Error() string { return "timed out" }
func (timedOut) Timeout() bool { return true }

// refusal is what a policy further in returns when it refuses an attempt.
func refusal() error {
	return &resilience.Rejection{Policy: "test", Name: "inner", Reason: bulkhead.Full}
}

// script returns an operation that returns the errors one after another and the
// last one ever after, and the number of its runs.
func script(errs ...error) (fn resilience.Func, runs func() int) {
	s := resiliencetest.Script(errs...)
	return s.Run, s.Runs
}

// quick is a Config without waits.
func quick(c retry.Config) retry.Config {
	c.BaseDelay = -1
	return c
}

func must(t testing.TB, c retry.Config) *retry.Retry {
	t.Helper()
	r, err := retry.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func run(p resilience.Policy, fn resilience.Func) error {
	return resilience.Run(context.Background(), p, fn)
}

// asError returns err as the *retry.Error that it has to be.
func asError(t testing.TB, err error) *retry.Error {
	t.Helper()
	var e *retry.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T), want a *retry.Error", err, err)
	}
	return e
}

func wantReason(t testing.TB, err error, want string) *retry.Error {
	t.Helper()
	e := asError(t, err)
	if e.Reason != want {
		t.Fatalf("reason %v of %v, want %v", e.Reason, err, want)
	}
	return e
}

// total is how many calls s says there were.
func total(s retry.Stats) uint64 {
	n := s.FirstTry + s.Recovered + s.Aborted
	for _, stopped := range s.Stopped {
		n += stopped
	}
	return n
}

// handClock is a clock that stands still unless it is moved.
type handClock struct {
	*clock.Mock
	mu  sync.Mutex
	now time.Time
}

func newHandClock() *handClock {
	return &handClock{Mock: clock.NewMock(), now: time.Unix(1e9, 0)}
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

func (c *handClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
