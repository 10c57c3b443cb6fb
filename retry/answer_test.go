package retry_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
)

// errNone is an answer of a dependency that works.
var errNone = resilience.Answer(errors.New("no such user"))

// An error that is an answer earns a unit, and counts as a success at the first attempt.
func TestRetry_answerEarns(t *testing.T) {
	root := must(t, quick(retry.Config{}))
	for name, r := range map[string]*retry.Retry{"root": root, "fork": root.Fork("").(*retry.Retry)} {
		before := r.Stats()
		for range 1000 {
			op, runs := script(errNone)
			if err := run(r, op); err != errNone || runs() != 1 {
				t.Fatalf("%s: %d runs, error %v", name, runs(), err)
			}
		}
		if s := r.Stats(); s.Earned-before.Earned != 1000 || s.FirstTry-before.FirstTry != 1000 || s.GaveUp() != 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// A retry that ends in an answer has recovered the call: its price is refunded, and the
// caller gets the answer unchanged.
func TestRetry_answerRefunds(t *testing.T) {
	r := must(t, quick(retry.Config{}))
	for range 100 {
		op, _ := script(errBoom, errNone)
		if err := run(r, op); err != errNone {
			t.Fatal(err)
		}
	}
	if s := r.Stats(); s.Recovered != 100 || s.Refunded != s.Spent || s.Spent != 500 || s.GaveUp() != 0 {
		t.Errorf("%+v", s)
	}
}

// An answer that should be tried again, such as 429, earns nothing and is not refunded, so
// that a dependency which sheds load gets few retries.
func TestRetry_answerToRetryCosts(t *testing.T) {
	r := must(t, quick(retry.Config{Retryable: func(error) bool { return true }}))
	attempts := 0
	for range 1000 {
		_ = run(r, func(context.Context) error { attempts++; return errNone })
	}
	if s := r.Stats(); attempts > 1010 || s.Earned != 0 || s.Refunded != 0 {
		t.Errorf("%d attempts, %+v", attempts, s)
	}
}

// An answer ends the streak of failures, so the next failure is retried.
func TestRetry_answerEndsStreak(t *testing.T) {
	r := must(t, quick(retry.Config{Retryable: func(err error) bool { return errors.Is(err, errBoom) }}))
	for range 3 {
		op, _ := script(errNone)
		_ = run(r, op)
	}
	op, runs := script(errBoom, nil)
	if err := run(r, op); err != nil || runs() != 2 {
		t.Errorf("%d runs, error %v", runs(), err)
	}
}

// An answer is returned even if the caller's context has ended.
func TestRetry_answerAtContextEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := must(t, quick(retry.Config{}))
	err := resilience.Run(ctx, r, func(context.Context) error { cancel(); return errNone })
	if err != errNone {
		t.Errorf("error %v", err)
	}
}

// A retry that ends in a failure joined with a rejection is not refunded.
func TestRetry_joinedRejectionCosts(t *testing.T) {
	r := must(t, quick(retry.Config{Retryable: func(error) bool { return true }}))
	attempts := 0
	for range 50 {
		_ = run(r, func(context.Context) error { attempts++; return errors.Join(errBoom, rejection()) })
	}
	if s := r.Stats(); attempts > 60 || s.Refunded != 0 {
		t.Errorf("%d attempts, %+v", attempts, s)
	}
}

// Failures of an hour ago do not stop a retry. Failures with calls in flight since do.
func TestRetry_oldStreak(t *testing.T) {
	for name, tt := range map[string]struct {
		between func(*retry.Retry)
		runs    int
	}{
		"no call for an hour":      {func(*retry.Retry) { time.Sleep(time.Hour) }, 2},
		"no call for ten seconds":  {func(*retry.Retry) { time.Sleep(10 * time.Second) }, 2},
		"no call for nine seconds": {func(*retry.Retry) { time.Sleep(9 * time.Second) }, 1},
		"empty calls for an hour": {func(r *retry.Retry) {
			for range 3600 {
				time.Sleep(time.Second)
				_ = run(r, func(context.Context) error { return resilience.Ignore(errBoom) })
			}
		}, 2},
		"a call for an hour": {func(r *retry.Retry) {
			_ = run(r, func(context.Context) error { time.Sleep(time.Hour); return resilience.Ignore(errBoom) })
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := must(t, quick(retry.Config{Budget: 1000}))
				for range 6 {
					op, _ := script(errBoom)
					_ = run(r, op)
				}
				tt.between(r)
				op, runs := script(errBoom, nil)
				if _ = run(r, op); runs() != tt.runs {
					t.Errorf("%d runs, want %d", runs(), tt.runs)
				}
			})
		})
	}
}

// Calls that begin at once after an old streak are retried: none of its failures counts.
func TestRetry_oldStreakAtOnce(t *testing.T) {
	for range 2000 {
		synctest.Test(t, func(t *testing.T) {
			r := must(t, quick(retry.Config{Budget: 1000}))
			op, _ := script(errBoom)
			_ = run(r, op)
			time.Sleep(time.Hour)
			testkit.AtOnce(2, func(int) { // their two failures are no streak
				op, runs := script(errBoom, nil)
				if err := run(r, op); err != nil || runs() != 2 {
					t.Errorf("%d runs, error %v", runs(), err)
				}
			})
		})
	}
}

// A call that is being retried is in flight, so it keeps the streak.
func TestRetry_retriedCallInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := must(t, quick(retry.Config{Budget: 1000, MaxAttempts: 4}))
		slow := func(context.Context) error { time.Sleep(20 * time.Second); return errBoom }
		go func() { _ = run(r, slow) }() // fails at 20, 40, 60 and 80 s
		time.Sleep(75 * time.Second)
		op, runs := script(errBoom, nil) // the fourth failure in a row
		if _ = run(r, op); runs() != 1 {
			t.Errorf("%d runs", runs())
		}
		time.Sleep(time.Minute)
	})
}

// A retry that ends in an answer which is also a rejection gets its price back once.
func TestRetry_refundsOnce(t *testing.T) {
	r := must(t, quick(retry.Config{Budget: 100}))
	for range 2 { // so that the bucket has space
		op, _ := script(errBoom)
		_ = run(r, op)
		op, _ = script(nil)
		_ = run(r, op)
	}
	before := r.Stats()
	op, _ := script(errBoom, resilience.Answer(resilience.ErrRejected))
	_ = run(r, op)
	if after := r.Stats(); after.Refunded-before.Refunded != after.Spent-before.Spent {
		t.Errorf("%d spent, %d refunded", after.Spent-before.Spent, after.Refunded-before.Refunded)
	}
}

// busy is an answer of a dependency that sheds load.
type busy struct{ error }

func (busy) Outcome() resilience.Outcome { return resilience.Success }
func (busy) Busy() bool                  { return true }

// An answer of a dependency that sheds load earns nothing, refunds nothing and does not end
// the streak, whether it is retried or not.
func TestRetry_busyAnswerEarnsNothing(t *testing.T) {
	for _, again := range []bool{false, true} {
		r := must(t, quick(retry.Config{Retryable: func(err error) bool { return again || err == errBoom }}))
		attempts := 0
		for i := range 1000 {
			_ = run(r, func(context.Context) error {
				if i%10 == 0 {
					attempts++
					return errBoom
				}
				return busy{errors.New("too many requests")}
			})
		}
		if s := r.Stats(); attempts > 105 || s.Earned != 0 || s.Refunded != 0 || s.FirstTry != 0 {
			t.Errorf("retried: %v: %d attempts for 100 calls, %+v", again, attempts, s)
		}
	}
}

// Calls that panic lengthen the streak, however long the retry has existed.
func TestRetry_panicsInStreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := must(t, quick(retry.Config{Budget: 1000}))
		time.Sleep(time.Minute)
		for range 2 {
			func() {
				defer func() { _ = recover() }()
				_ = run(r, func(context.Context) error { panic("operation") })
			}()
		}
		op, _ := script(errBoom)
		wantReason(t, run(r, op), retry.AllFailing)
	})
}

// After the caller's context has ended, a Retry neither announces a retry nor pays for one.
func TestRetry_contextEndsInAttempt(t *testing.T) {
	var kinds []string
	r := must(t, quick(retry.Config{Observer: testkit.Observer(func(e resilience.Event) { kinds = append(kinds, e.Kind) })}))
	ctx, cancel := context.WithCancel(t.Context())
	err := resilience.Run(ctx, r, func(context.Context) error { cancel(); return errBoom })
	wantReason(t, err, retry.ContextDone)
	if s := r.Stats(); s.Spent != 0 || !slices.Equal(kinds, []string{retry.EventGaveUp}) {
		t.Errorf("events %v, %+v", kinds, s)
	}
}

// The outcome of a permanent error is Ignored, unless the error is a timeout or has an
// outcome of its own.
func TestPermanent_outcome(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want resilience.Outcome
	}{
		{errors.New("quantity must be positive"), resilience.Ignored},
		{fmt.Errorf("call: %w", &net.DNSError{IsTimeout: true}), resilience.Failure},
		{context.DeadlineExceeded, resilience.Failure},
		{opinion{resilience.Success}, resilience.Success},
		{opinion{resilience.Failure}, resilience.Failure},
		{rejection(), resilience.Ignored},
	} {
		for _, err := range []error{retry.Permanent(tt.err), fmt.Errorf("outer: %w", retry.Permanent(tt.err))} {
			if got := resilience.OutcomeOf(t.Context(), err, nil); got != tt.want {
				t.Errorf("%v is %v, want %v", err, got, tt.want)
			}
		}
	}
}
