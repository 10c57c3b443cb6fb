package retry_test

import (
	"context"
	"errors"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/resiliencetest"
	"github.com/resilience-go/resilience/retry"
)

var errBoom = errors.New("boom")

// timedOut is a timeout error like those of the standard library.
type timedOut struct{}

func (timedOut) Error() string { return "timed out" }
func (timedOut) Timeout() bool { return true }

// rejection returns the error of an inner policy that rejects an attempt.
func rejection() error {
	return &resilience.Rejection{Policy: "test", Name: "inner", Reason: bulkhead.Full}
}

// script returns an operation whose runs return the errors in order and then the last one
// forever, and a function that returns the number of runs.
func script(errs ...error) (fn resilience.Func, runs func() int) {
	s := resiliencetest.Script(errs...)
	return s.Run, s.Runs
}

// quick is a Config without waits.
func quick(c retry.Config) retry.Config {
	c.BaseDelay = retry.NoDelay
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

// asError returns the *retry.Error in err and fails the test if there is none.
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

// total returns how many calls s has counted.
func total(s retry.Stats) uint64 {
	n := s.FirstTry + s.Recovered + s.Aborted
	for _, stopped := range s.Stopped {
		n += stopped
	}
	return n
}
