package retry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
)

// opinion is an error with an Outcome method.
type opinion struct{ outcome resilience.Outcome }

func (o opinion) Error() string               { return "outcome " + o.outcome.String() }
func (o opinion) Outcome() resilience.Outcome { return o.outcome }

// wish is an error whose Retryable method contradicts its Outcome method.
type wish struct{ again bool }

func (w wish) Error() string   { return fmt.Sprint("again: ", w.again) }
func (w wish) Retryable() bool { return w.again }
func (w wish) Outcome() resilience.Outcome {
	if w.again {
		return resilience.Success
	}
	return resilience.Failure
}

// Retryable, the error's methods and the defaults decide which errors are retried.
func TestConfig_Retryable(t *testing.T) {
	all := func(error) bool { return true }
	for name, test := range map[string]struct {
		err       error
		retryable func(error) bool
		runs      int
	}{
		"any error":                         {errBoom, nil, 3},
		"a rejection":                       {rejection(), nil, 1},
		"a wrapped rejection":               {fmt.Errorf("call: %w", rejection()), nil, 1},
		"a rejection among others":          {errors.Join(errBoom, rejection()), nil, 3},
		"only rejections":                   {errors.Join(rejection(), rejection()), nil, 1},
		"permanent":                         {retry.Permanent(errBoom), nil, 1},
		"wrapped permanent":                 {fmt.Errorf("call: %w", retry.Permanent(errBoom)), nil, 1},
		"permanent, asked for all":          {retry.Permanent(errBoom), all, 1},
		"permanent inside after":            {retry.After(retry.Permanent(errBoom), 1), nil, 1},
		"says no failure":                   {opinion{resilience.Success}, nil, 1},
		"says ignored":                      {opinion{resilience.Ignored}, nil, 1},
		"says failure":                      {opinion{resilience.Failure}, nil, 3},
		"wrapped, says no failure":          {fmt.Errorf("call: %w", opinion{resilience.Success}), nil, 1},
		"says again, though a success":      {wish{true}, nil, 3},
		"says not again, though a failure":  {wish{false}, nil, 1},
		"says not again, asked for all":     {wish{false}, all, 3},
		"nothing asked for":                 {errBoom, func(error) bool { return false }, 1},
		"a rejection, asked for":            {rejection(), all, 3},
		"another call's deadline is no end": {context.DeadlineExceeded, nil, 2}, // and costs 20
		"another call's cancellation":       {context.Canceled, nil, 3},
	} {
		t.Run(name, func(t *testing.T) {
			op, runs := script(test.err)
			err := run(must(t, quick(retry.Config{Retryable: test.retryable})), op)
			if runs() != test.runs || !errors.Is(err, test.err) {
				t.Fatalf("%d runs, error %v; want %d runs", runs(), err, test.runs)
			}
		})
	}
}

// If the first error is not retryable, it is returned unchanged.
func TestRetry_notRetryableFirst(t *testing.T) {
	for _, want := range []error{retry.Permanent(errBoom), rejection(), opinion{resilience.Success}} {
		op, _ := script(want)
		if err := run(must(t, retry.Config{}), op); err != want {
			t.Errorf("error %#v, want %#v itself", err, want)
		}
	}
}

// If a later error is not retryable, an Error with the number of attempts wraps it.
func TestRetry_notRetryableLater(t *testing.T) {
	last := retry.Permanent(errors.New("last"))
	op, _ := script(errBoom, last)
	e := wantReason(t, run(must(t, quick(retry.Config{})), op), retry.NotRetryable)
	if e.Attempts != 2 || e.Err != last {
		t.Fatalf("%+v", e)
	}
}

// Permanent and After of nil are nil.
func TestPermanent_nil(t *testing.T) {
	if retry.Permanent(nil) != nil || retry.After(nil, time.Second) != nil {
		t.Fatal("not nil")
	}
}

// errors.As finds the error that Permanent and After wrap.
func TestPermanent_unwraps(t *testing.T) {
	for _, err := range []error{retry.Permanent(opinion{resilience.Success}), retry.After(opinion{resilience.Success}, 1)} {
		var o opinion
		if !errors.As(err, &o) || err.Error() != o.Error() {
			t.Errorf("%v", err)
		}
	}
}

// A rejection that ended the call is in Error.Rejection, errors.Is does not find it, and
// the retry is refunded.
func TestError_Rejection(t *testing.T) {
	op, _ := script(errBoom, rejection())
	r := must(t, quick(retry.Config{}))
	err := run(r, op)
	e := wantReason(t, err, retry.Rejected)
	if errors.Is(err, resilience.ErrRejected) || !errors.Is(err, errBoom) {
		t.Errorf("errors.Is: rejected %v, boom %v", errors.Is(err, resilience.ErrRejected), errors.Is(err, errBoom))
	}
	if !errors.Is(e.Rejection, resilience.ErrRejected) || e.Attempts != 2 {
		t.Errorf("%+v", e)
	}
	if s := r.Stats(); s.Spent != 5 || s.Refunded != 5 {
		t.Errorf("the rejected attempt was not refunded: %+v", s)
	}
}

// A rejection that Retryable accepts is retried, and its retries are refunded.
func TestRetry_retryableRejection(t *testing.T) {
	r := must(t, quick(retry.Config{Retryable: func(error) bool { return true }, MaxAttempts: 100, Budget: 5}))
	op, runs := script(rejection())
	err := run(r, op)
	e := wantReason(t, err, retry.OutOfAttempts)
	if runs() != 100 || !errors.Is(err, resilience.ErrRejected) || e.Rejection != nil {
		t.Fatalf("%d runs, error %v", runs(), err)
	}
	if s := r.Stats(); s.Level != 5 {
		t.Fatalf("level %d after rejected attempts only", s.Level)
	}
}

// Error.Err is the error of the last attempt that ran, wherever rejections come.
func TestError_Err_lastThatRan(t *testing.T) {
	last := errors.New("last")
	for name, test := range map[string]struct {
		errs     []error
		is       error
		rejected bool
	}{
		"rejected first":          {[]error{rejection(), errBoom, last}, last, false},
		"rejected in between":     {[]error{errBoom, rejection(), last}, last, false},
		"rejected at last":        {[]error{errBoom, last, rejection()}, last, true},
		"rejected twice":          {[]error{last, rejection(), rejection()}, last, true},
		"rejected, ran, rejected": {[]error{rejection(), last, rejection()}, last, true},
	} {
		t.Run(name, func(t *testing.T) {
			op, runs := script(test.errs...)
			err := run(must(t, quick(retry.Config{Retryable: func(error) bool { return true }})), op)
			e := asError(t, err)
			if runs() != 3 || !errors.Is(err, test.is) || errors.Is(err, resilience.ErrRejected) || (e.Rejection != nil) != test.rejected {
				t.Fatalf("%d runs, error %v", runs(), err)
			}
		})
	}
}

// A rejection by an open breaker is not retried.
func TestRetry_openBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 2}}, OpenFor: time.Hour}))
		r := must(t, retry.Config{})
		op, runs := script(errBoom)
		err := run(resilience.Compose(r, b), op)
		wantReason(t, err, retry.Rejected)
		if runs() != 2 || !errors.Is(err, errBoom) {
			t.Fatalf("%d runs, error %v", runs(), err)
		}
		if err := run(resilience.Compose(r, b), op); !errors.Is(err, breaker.ErrOpen) || runs() != 2 {
			t.Fatalf("error %v after %d runs", err, runs())
		}
	})
}

// A retryable rejection waits until the breaker admits a call.
func TestRetry_waitsForBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: 30 * time.Second}))
		r := must(t, retry.Config{Backoff: fixed(0), MaxDelay: time.Minute, Retryable: func(error) bool { return true }})
		op, runs := script(errBoom, nil)
		start := time.Now()
		err := run(resilience.Compose(r, b), op)
		// The second attempt is rejected; the third is the probe.
		if took := time.Since(start); err != nil || runs() != 2 || took != 30*time.Second {
			t.Fatalf("error %v after %d runs and %v", err, runs(), took)
		}
	})
}

// A retry releases the failed attempt's bulkhead slot before the observer runs and the
// wait begins.
func TestRetry_freesSlotBetweenAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: -1}))
		inFlight := -1
		r := must(t, retry.Config{Backoff: fixed(time.Second), Observer: testkit.Observer(func(e resilience.Event) {
			inFlight = b.Stats().InFlight
		})})
		fn, runs := script(errBoom, nil)
		op := &testkit.Lasting{Func: fn}
		if err := resilience.RunOperation(t.Context(), resilience.Compose(r, b), op); err != nil || runs() != 2 {
			t.Fatalf("error %v after %d runs", err, runs())
		}
		if inFlight != 0 {
			t.Errorf("%d slots taken when user code runs before the wait", inFlight)
		}
		if n := b.Stats().InFlight; n != 1 {
			t.Errorf("%d slots taken by the result that is handed back, want 1", n)
		}
		op.Finish(nil)
		if n := b.Stats().InFlight; n != 0 {
			t.Errorf("%d slots taken after the end", n)
		}
	})
}

// The result that is returned is not discarded.
func TestRetry_lastResultKept(t *testing.T) {
	b := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: -1}))
	fn, runs := script(errBoom)
	_ = resilience.RunOperation(t.Context(), resilience.Compose(must(t, quick(retry.Config{})), b), &testkit.Lasting{Func: fn})
	if n := b.Stats().InFlight; runs() != 3 || n != 1 {
		t.Fatalf("%d slots taken after %d runs, want 1 for the last result", n, runs())
	}
}

// The text has the name, the number of attempts, the reason, the last error and the
// rejection.
func TestError_Error(t *testing.T) {
	for want, test := range map[string]struct {
		name string
		errs []error
	}{
		`retry "users": gave up after 3 attempts: out of attempts: last error: boom`:                             {"users", []error{errBoom}},
		`retry "users": gave up after 2 attempts: rejected: last error: boom; then test "inner": rejected: full`: {"users", []error{errBoom, rejection()}},
		`retry: gave up after 1 attempt: wait too long: last error: boom`:                                        {"", []error{retry.After(errBoom, time.Hour)}},
	} {
		op, _ := script(test.errs...)
		if err := run(must(t, quick(retry.Config{Name: test.name})), op); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// The text has both the rejection and the context's error.
func TestError_Error_contextDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		left := errors.New("the caller left")
		r := must(t, retry.Config{Backoff: fixed(time.Second), Retryable: func(error) bool { return true }})
		op, _ := script(errBoom, rejection())
		time.AfterFunc(1500*time.Millisecond, func() { cancel(left) })
		err := resilience.Run(ctx, r, op)
		if !strings.Contains(err.Error(), "inner") || !strings.Contains(err.Error(), "the caller left") {
			t.Errorf("%q", err)
		}
	})
}

// Error.Timeout is true if the last attempt timed out. url.Error calls the method of the
// error itself and does not unwrap.
func TestError_Timeout(t *testing.T) {
	for _, err := range []error{context.DeadlineExceeded, opinion{}} {
		got := &retry.Error{Attempts: 3, Err: fmt.Errorf("attempt: %w", err)}
		if want := err == context.DeadlineExceeded; got.Timeout() != want {
			t.Errorf("%v: Timeout is %v", err, got.Timeout())
		}
	}
}
