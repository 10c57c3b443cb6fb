package metrics_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/resiliencetest"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
)

func retried(firstTry, recovered, gaveUp, aborted, retries float64) scraped {
	return scraped{
		series("retry_calls_total", "r", "outcome", "first_try"): firstTry,
		series("retry_calls_total", "r", "outcome", "recovered"): recovered,
		series("retry_calls_total", "r", "outcome", "gave_up"):   gaveUp,
		series("retry_calls_total", "r", "outcome", "aborted"):   aborted,
		series("retry_attempts_total", "r", "kind", "first"):     firstTry + recovered + gaveUp + aborted,
		series("retry_attempts_total", "r", "kind", "retry"):     retries,
	}
}

// Calls are counted by outcome and attempts by kind.
func TestCollector_retryCalls(t *testing.T) {
	r := resilience.Must(retry.New(retry.Config{Name: "r", BaseDelay: -1, Clock: clock.NewMock()}))
	reg, _ := register(t, r)
	script := func(errs ...error) {
		_ = resilience.Run(t.Context(), r, resiliencetest.Script(errs...).Run)
	}
	script(nil)
	script(nil)
	script(errDown, errDown, nil)
	scrape(t, reg).check(t, "r", retried(2, 1, 0, 0, 2))
	scrape(t, reg).check(t, "r", scraped{
		series("retry_budget_units", "r"):          15, // of 20: two retries cost 5 each, and that which succeeded got its price back
		series("retry_budget_capacity_units", "r"): 20,
	})
	script(errDown)
	script(nil)
	for _, how := range testkit.Aborts(errDown) {
		testkit.Unwind(func() error {
			return resilience.Run(t.Context(), r, func(context.Context) error { how.Abort(); return nil })
		})
	}
	scrape(t, reg).check(t, "r", retried(3, 1, 1, 2, 4))
}

// Each reason for no further attempt has its series, and they add up to gave_up.
func TestCollector_retrySuppressed(t *testing.T) {
	permanent, slow := retry.Permanent(errDown), retry.After(errDown, time.Hour)
	canceled, cancel := context.WithCancel(t.Context())
	defer cancel()
	soon, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	for reason, test := range map[string]struct {
		config retry.Config
		ctx    context.Context
		script []error // each a call
		want   float64
		other  string // the reason of one more
	}{
		"out_of_attempts": {config: retry.Config{MaxAttempts: 1}, script: []error{errDown}, want: 1},
		"out_of_budget":   {config: retry.Config{MaxAttempts: 2, Budget: 5}, script: []error{errDown, nil, errDown, errDown}, want: 2, other: "out_of_attempts"},
		"all_failing":     {config: retry.Config{MaxAttempts: 5}, script: []error{errDown, errDown, errDown}, want: 2, other: "out_of_attempts"},
		"past_deadline":   {config: retry.Config{MaxDelay: 2 * time.Hour}, ctx: soon, script: []error{slow}, want: 1},
		"wait_too_long":   {script: []error{slow}, want: 1},
		"rejected":        {script: []error{&resilience.Rejection{}, &resilience.Rejection{}}, want: 2},
		"not_retryable":   {script: []error{permanent}, want: 1},
		"inherited":       {ctx: resilience.WithAttempt(t.Context(), 2), script: []error{errDown}, want: 1},
		"context_done":    {ctx: canceled, script: []error{errDown}, want: 1},
	} {
		t.Run(reason, func(t *testing.T) {
			c := test.config
			c.Name, c.BaseDelay, c.Clock = "r", -1, clock.NewMock()
			r := resilience.Must(retry.New(c))
			reg, _ := register(t, r)
			ctx := test.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			for _, err := range test.script {
				_ = resilience.Run(ctx, r, func(context.Context) error {
					if ctx == canceled {
						cancel()
					}
					return err
				})
			}
			want := scraped{series("retry_suppressed_total", "r", "reason", reason): test.want}
			if test.other != "" {
				want[series("retry_suppressed_total", "r", "reason", test.other)] = 1
			}
			got := scrape(t, reg)
			got.check(t, "r", want)
			if all, gaveUp := got.sum("retry_suppressed_total", "r"), got[series("retry_calls_total", "r", "outcome", "gave_up")]; all != gaveUp {
				t.Errorf("%v calls by reason, but %v gave up", all, gaveUp)
			}
		})
	}
}

// A retry without a budget reports a budget of 0.
func TestCollector_retryWithoutBudget(t *testing.T) {
	reg, _ := register(t, resilience.Must(retry.New(retry.Config{Name: "r", Budget: -1})))
	scrape(t, reg).check(t, "r", scraped{series("retry_budget_units", "r"): 0, series("retry_budget_capacity_units", "r"): 0})
}

func held(completed, queueFull, waitExpired, canceled, inFlight, waiting float64) scraped {
	return scraped{
		series("bulkhead_calls_total", "b", "outcome", "completed"):      completed,
		series("bulkhead_calls_total", "b", "outcome", "rejected"):       queueFull + waitExpired,
		series("bulkhead_calls_total", "b", "outcome", "canceled"):       canceled,
		series("bulkhead_rejected_total", "b", "reason", "queue_full"):   queueFull,
		series("bulkhead_rejected_total", "b", "reason", "wait_expired"): waitExpired,
		series("bulkhead_in_flight", "b"):                                inFlight,
		series("bulkhead_waiting", "b"):                                  waiting,
		series("bulkhead_slots", "b"):                                    1,
	}
}

// Calls of a bulkhead are counted by outcome and reason, alone and in a group.
func TestCollector_bulkheadCalls(t *testing.T) {
	for _, grouped := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := resilience.Must(bulkhead.New(bulkhead.Config{Name: "b", Slots: 1, MaxQueue: 1, MaxWait: time.Second}))
			var p resilience.Policy = b
			if grouped {
				p = newGroup(t, b, keyed.Config{}).For("key")
			}
			reg, _ := register(t, p)
			leave := make(chan struct{})
			go func() {
				_ = resilience.Run(t.Context(), p, func(context.Context) error { <-leave; return nil })
			}()
			synctest.Wait()
			scrape(t, reg).check(t, "b", held(0, 0, 0, 0, 1, 0))

			go func() { _ = run(p, nil) }() // waits
			synctest.Wait()
			if err := run(p, nil); !errors.Is(err, bulkhead.ErrFull) {
				t.Errorf("error %v", err)
			}
			scrape(t, reg).check(t, "b", held(0, 1, 0, 0, 1, 1))
			time.Sleep(time.Second)
			synctest.Wait()
			scrape(t, reg).check(t, "b", held(0, 1, 1, 0, 1, 0))

			ctx, cancel := context.WithCancel(t.Context())
			go func() { _ = resilience.Run(ctx, p, func(context.Context) error { return nil }) }()
			synctest.Wait()
			cancel()
			synctest.Wait()
			scrape(t, reg).check(t, "b", held(0, 1, 1, 1, 1, 0))
			close(leave)
			synctest.Wait()
			scrape(t, reg).check(t, "b", held(1, 1, 1, 1, 0, 0))
		})
	}
}

// Calls that took too long are counted by whether they failed or were late.
func TestCollector_timeoutResults(t *testing.T) {
	mock := clock.NewMock()
	p := resilience.Must(timeout.New(timeout.Config{Name: "t", Timeout: time.Second, Clock: mock}))
	reg, _ := register(t, p)
	tooLong := func(err error) {
		_ = resilience.Run(t.Context(), p, func(ctx context.Context) error {
			mock.Add(time.Second)
			<-ctx.Done()
			return err
		})
	}
	_, _ = run(p, nil), run(p, errDown)
	tooLong(errDown)
	tooLong(nil)
	tooLong(nil)
	scrape(t, reg).check(t, "t", scraped{
		series("timeout_calls_total", "t"):                        5,
		series("timeout_exceeded_total", "t", "result", "failed"): 1,
		series("timeout_exceeded_total", "t", "result", "late"):   2,
	})
}

// Calls of a fallback are counted by outcome.
func TestCollector_fallbackOutcomes(t *testing.T) {
	errOther := errors.New("not for the fallback")
	fail := false
	p := resilience.Must(fallback.New(fallback.Config{
		Name: "f",
		If:   func(err error) bool { return err != errOther },
		Handle: func(context.Context, error) error {
			if fail {
				return errDown
			}
			return nil
		},
	}))
	reg, _ := register(t, p)
	for range 4 {
		_ = run(p, nil)
	}
	_, _, _ = run(p, errOther), run(p, errDown), run(p, errDown)
	fail = true
	_, _, _ = run(p, errDown), run(p, errDown), run(p, errDown)
	scrape(t, reg).check(t, "f", scraped{
		series("fallback_calls_total", "f", "outcome", "unused"): 4,
		series("fallback_calls_total", "f", "outcome", "passed"): 1,
		series("fallback_calls_total", "f", "outcome", "used"):   2,
		series("fallback_calls_total", "f", "outcome", "failed"): 3,
	})
}

// A group reports its keys and evictions, and its counters survive evictions.
func TestCollector_keysAndEvictions(t *testing.T) {
	g := newGroup(t, newBulkhead("g", 1), keyed.Config{Name: "g", Max: 8})
	reg, _ := register(t, g)
	touch(t, g, 8)
	scrape(t, reg).check(t, "g", scraped{series("keyed_keys", "g"): 8, series("keyed_evicted_total", "g"): 0})
	touch(t, g, 20)
	s := g.Stats()
	if s.Evicted == 0 || s.Keys > 8 {
		t.Fatalf("%+v", s)
	}
	scrape(t, reg).check(t, "g", scraped{
		series("keyed_keys", "g"): float64(s.Keys), series("keyed_evicted_total", "g"): float64(s.Evicted),
		series("bulkhead_slots", "g"):                               float64(s.Keys),
		series("bulkhead_calls_total", "g", "outcome", "completed"): 28,
	})
}
