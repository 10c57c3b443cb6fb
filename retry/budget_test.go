package retry_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
)

// A new budget pays for four quick retries, or for one retry after a timeout.
func TestRetry_startingBudget(t *testing.T) {
	for name, test := range map[string]struct {
		err     error
		retries uint64
	}{
		"quick":                    {errBoom, 4},
		"timeout":                  {timedOut{}, 1},
		"wrapped timeout":          {fmt.Errorf("call: %w", timedOut{}), 1},
		"deadline of the attempt":  {context.DeadlineExceeded, 1},
		"quick, asked to wait for": {retry.After(errBoom, 0), 4},
	} {
		t.Run(name, func(t *testing.T) {
			r := must(t, quick(retry.Config{MaxAttempts: 6, Budget: 20}))
			op, _ := script(test.err)
			wantReason(t, run(r, op), retry.OutOfBudget)
			if s := r.Stats(); s.Retries != test.retries || s.Stopped[retry.OutOfBudget] != 1 {
				t.Fatalf("counted %+v, want %d retries", s, test.retries)
			}
		})
	}
}

// The default budget pays for all retries of one call.
func TestConfig_defaultBudget(t *testing.T) {
	for attempts := 2; attempts <= 20; attempts++ {
		op, runs := script(errBoom)
		wantReason(t, run(must(t, quick(retry.Config{MaxAttempts: attempts})), op), retry.OutOfAttempts)
		if runs() != attempts {
			t.Fatalf("%d attempts, want %d", runs(), attempts)
		}
	}
}

// If the budget is too low, the error and the counters say so, and the attempt's error
// is kept.
func TestRetry_outOfBudget(t *testing.T) {
	r := must(t, quick(retry.Config{Budget: 5}))
	op, _ := script(timedOut{})
	err := run(r, op)
	e := wantReason(t, err, retry.OutOfBudget)
	if e.Err != (timedOut{}) || e.Attempts != 1 || r.Stats().Stopped[retry.OutOfBudget] != 1 {
		t.Fatalf("%+v, counted %+v", e, r.Stats())
	}
}

// A retry that succeeds is refunded.
func TestRetry_successRefunds(t *testing.T) {
	r := must(t, quick(retry.Config{Budget: 20}))
	for range 1000 {
		op, _ := script(timedOut{}, nil)
		if err := run(r, op); err != nil {
			t.Fatal(err)
		}
	}
	if s := r.Stats(); s.Spent != 20_000 || s.Refunded != 20_000 || s.Level != 20 {
		t.Fatalf("counted %+v", s)
	}
}

// While every call fails, there are almost no retries, however full the budget is.
func TestRetry_allFailing(t *testing.T) {
	r := must(t, quick(retry.Config{}))
	succeed, _ := script(nil)
	for range 100_000 {
		_ = run(r, succeed)
	}
	runs := 0
	for range 10_000 {
		_ = run(r, func(context.Context) error { runs++; return errBoom })
	}
	if runs > 10_002 {
		t.Fatalf("%d attempts for 10000 calls", runs)
	}
}

// Without a budget every call makes MaxAttempts attempts.
func TestRetry_noBudget(t *testing.T) {
	r := must(t, quick(retry.Config{Budget: retry.NoBudget}))
	op, runs := script(timedOut{})
	for range 1000 {
		wantReason(t, run(r, op), retry.OutOfAttempts)
	}
	if s := r.Stats(); runs() != 3000 || s.Spent+s.Refunded+s.Earned != 0 || s.Level != 0 || s.Capacity != 0 {
		t.Fatalf("%d runs, counted %+v", runs(), s)
	}
}

// Each fork has its own budget and streak; the counters are shared.
func TestRetry_Fork_ownBudget(t *testing.T) {
	root := must(t, quick(retry.Config{MaxAttempts: 6, Budget: 20}))
	one, other := root.Fork(""), root.Fork("")
	op, _ := script(errBoom)
	for _, p := range []resilience.Policy{one, other, root} {
		wantReason(t, run(p, op), retry.OutOfBudget)
	}
	if s := root.Stats(); s.Retries != 12 || s.Stopped[retry.OutOfBudget] != 3 {
		t.Fatalf("counted %+v, want the retries of all", s)
	}
	succeed, _ := script(nil)
	for range 20 {
		_ = run(one, succeed)
	}
	wantReason(t, run(one, op), retry.OutOfBudget)
	if s := root.Stats(); s.Retries != 16 || s.Level != 0 || s.FirstTry != 20 {
		t.Fatalf("counted %+v, want what one fork earned to be its own", s)
	}
	wantReason(t, run(other, op), retry.AllFailing)
}

// A fork's successes fill the fork's bucket and not the root's.
func TestRetry_Fork_ownSuccesses(t *testing.T) {
	root := must(t, quick(retry.Config{}))
	fork := root.Fork("").(*retry.Retry)
	succeed, _ := script(nil)
	failing, _ := script(errBoom)
	_ = run(root, failing)
	for range 1000 {
		_ = run(fork, succeed)
	}
	if s := root.Stats(); s.Level != 10 {
		t.Fatalf("counted %+v", s)
	}
	for range 3 {
		_ = run(root, succeed)
	}
	if s := root.Stats(); s.Level != 13 || fork.Stats().Level != 20 {
		t.Fatalf("root %+v, fork %+v", s, fork.Stats())
	}
}

// A fork that is made late holds one second of its own successes.
func TestRetry_Fork_madeLate(t *testing.T) {
	c := testkit.NewClock()
	root := must(t, quick(retry.Config{Clock: c}))
	c.Move(time.Hour)
	fork := root.Fork("").(*retry.Retry)
	succeed, _ := script(nil)
	for range 10_000 {
		c.Move(time.Millisecond)
		_ = run(fork, succeed)
	}
	if s := fork.Stats(); s.Capacity != 1000 || s.Level != 1000 {
		t.Fatalf("level %d of %d, want 1000: it had 1000 successes a second", s.Level, s.Capacity)
	}
}

// The bucket holds the successes of one second.
func TestRetry_budgetCapacity(t *testing.T) {
	c := testkit.NewClock()
	r := must(t, quick(retry.Config{Clock: c}))
	succeed, _ := script(nil)
	for range 500 * 60 {
		_ = run(r, succeed)
		c.Move(2 * time.Millisecond)
	}
	if s := r.Stats(); s.Capacity != 500 || s.Level != 500 {
		t.Fatalf("level %d of %d, want 500", s.Level, s.Capacity)
	}
}

// demand is how often calls, of which a part p of the attempts fails, are tried.
func demand(t *testing.T, c retry.Config, p float64, err error, seed uint64) (amplification, allowed float64) {
	t.Helper()
	const calls = 10_000
	clock := testkit.NewClock()
	c.Clock = clock
	r := must(t, quick(c))
	random := rand.New(rand.NewPCG(seed, 1))
	runs := 0
	for range calls {
		clock.Move(time.Millisecond)
		_ = run(r, func(context.Context) error {
			runs++
			if random.Float64() < p {
				return err
			}
			return nil
		})
	}
	s := r.Stats()
	stopped := s.Stopped[retry.OutOfBudget] + s.Stopped[retry.AllFailing]
	return float64(runs) / calls, float64(s.Retries) / float64(max(1, s.Retries+stopped))
}

// Retries never make more than 1.45 attempts per call, whatever share of the attempts
// fails.
func TestRetry_amplification(t *testing.T) {
	worst := 0.0
	for _, attempts := range []int{2, 3, 10, 1000} {
		rates := []int{31, 32, 33, 99} // around the worst, and almost all
		for p := 0; p <= 100; p += 5 {
			rates = append(rates, p)
		}
		for _, p := range rates {
			for _, err := range []error{errBoom, timedOut{}} {
				if attempts != 3 && (err != errBoom || p < 25 || p > 50) { // the worst is at a third
					continue
				}
				a, _ := demand(t, retry.Config{MaxAttempts: attempts, Budget: 20}, float64(p)/100, err, uint64(p))
				worst = max(worst, a)
				if a > 1.45 {
					t.Errorf("%d attempts, %d %% of them fail with %v: %.3f calls per request", attempts, p, err, a)
				}
			}
		}
	}
	t.Logf("at most %.3f calls per request", worst)
}

// fleet is how often the calls of a second are tried, second by second, when 250
// policies make four calls a second each, of which a part p of the attempts fails.
func fleet(t *testing.T, p float64, err error) (attempts [30]int) {
	t.Helper()
	c := testkit.NewClock()
	random := rand.New(rand.NewPCG(250, 250))
	var policies [250]*retry.Retry
	for i := range policies {
		policies[i] = must(t, quick(retry.Config{Clock: c}))
	}
	succeed, _ := script(nil)
	for second := -60; second < len(attempts); second++ { // a healthy minute first
		for range 4 {
			c.Move(time.Second / 4)
			for _, r := range policies {
				if second < 0 {
					_ = run(r, succeed)
					continue
				}
				_ = run(r, func(context.Context) error {
					attempts[second]++
					if random.Float64() < p {
						return err
					}
					return nil
				})
			}
		}
	}
	return attempts
}

// The budgets of 250 clients do not add up to a storm of retries.
func TestRetry_fleet(t *testing.T) {
	const calls = 1000 // a second
	for name, test := range map[string]struct {
		p     float64
		err   error
		first int // extra attempts in the first second
		later int // in each of the last ten
	}{
		"all fail":       {1, errBoom, 250 * 2, 0}, // and then all are failing
		"all time out":   {1, timedOut{}, 250, 0},
		"half fail":      {.5, errBoom, 250 * 3, 300},
		"half time out":  {.5, timedOut{}, 350, 100},
		"a third fails":  {.33, errBoom, 250 * 2, 450},
		"a tenth of all": {.1, errBoom, 150, 150},
	} {
		t.Run(name, func(t *testing.T) {
			attempts := fleet(t, test.p, test.err)
			if extra := attempts[0] - calls; extra > test.first {
				t.Errorf("%d extra attempts in the first second, want at most %d", extra, test.first)
			}
			for second := len(attempts) - 10; second < len(attempts); second++ {
				if extra := attempts[second] - calls; extra > test.later {
					t.Errorf("%d extra attempts in second %d, want at most %d", extra, second, test.later)
				}
			}
		})
	}
}

// Up to 20 % quick failures, the budget pays for at least 98 % of the retries.
func TestRetry_budgetSuffices(t *testing.T) {
	for p := 1; p <= 20; p++ {
		if _, allowed := demand(t, retry.Config{}, float64(p)/100, errBoom, uint64(p)); allowed < .98 {
			t.Errorf("%d %% fail: %.3f of the retries are allowed", p, allowed)
		}
	}
}

// With overlapping calls, all but a share of about p*p of the retries are allowed, where
// p is the failure rate. A call whose two predecessors failed too is stopped as if all
// calls were failing. So 98 % are allowed only up to 14 % failures, and 96 % at 20 %.
func TestRetry_overlappingCalls(t *testing.T) {
	for _, p := range []float64{.05, .1, .15, .2} {
		synctest.Test(t, func(t *testing.T) {
			r := must(t, retry.Config{})
			var mu sync.Mutex
			random := rand.New(rand.NewPCG(1, 2))
			var all sync.WaitGroup
			for range 20_000 {
				time.Sleep(time.Millisecond)
				all.Go(func() {
					_ = run(r, func(context.Context) error {
						time.Sleep(5 * time.Millisecond)
						mu.Lock()
						defer mu.Unlock()
						if random.Float64() < p {
							return errBoom
						}
						return nil
					})
				})
			}
			all.Wait()
			s := r.Stats()
			stopped := s.Stopped[retry.OutOfBudget] + s.Stopped[retry.AllFailing]
			if allowed := float64(s.Retries) / float64(s.Retries+stopped); allowed < 1-p*p-.01 {
				t.Errorf("%v fail: %.3f of the retries are allowed: %+v", p, allowed, s)
			}
		})
	}
}

// 64 goroutines share one budget and count every unit once.
func TestRetry_budgetConcurrency(t *testing.T) {
	r := must(t, quick(retry.Config{MaxAttempts: 1000, Budget: 500}))
	op, _ := script(errBoom)
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() { _ = run(r, op) })
	}
	all.Wait()
	if s := r.Stats(); s.Retries > 100 || s.Level < 0 || s.Level != 500-s.Spent+s.Refunded || total(s) != 64 {
		t.Fatalf("counted %+v", s)
	}
}

// A refund never raises the level above the capacity.
func TestRetry_refundCapped(t *testing.T) {
	r := must(t, quick(retry.Config{}))
	succeed, _ := script(nil)
	err := run(r, func(ctx context.Context) error {
		if resilience.Attempt(ctx) == 1 {
			return errBoom
		}
		for range 10 {
			_ = run(r, succeed)
		}
		again, _ := script(errBoom, nil)
		_ = run(r, again) // to pay brings the level up to date; this price comes back
		return nil
	})
	if s := r.Stats(); err != nil || s.Level != 20 || s.Spent != 10 || s.Refunded != 5 {
		t.Fatalf("error %v, counted %+v", err, s)
	}
}

// A reading of a retry does not change how many retries it allows later: the rate of the
// successes is measured between calls, not between readings.
func TestRetry_readingChangesNothing(t *testing.T) {
	recovered := func(read func(*retry.Retry)) uint64 {
		clock := testkit.NewClock()
		r := must(t, quick(retry.Config{Clock: clock}))
		ok, _ := script(nil)
		once, _ := script(errBoom, nil)
		_ = run(r, once) // Idle looks at the budget only after a retry
		for range 95 {   // 1000 calls a second
			for range 100 {
				_ = run(r, ok)
			}
			clock.Move(100 * time.Millisecond)
		}
		read(r)
		clock.Move(1500 * time.Millisecond)
		read(r)
		for range 100 { // each needs two retries
			twice, _ := script(errBoom, errBoom, nil)
			_ = run(r, twice)
		}
		return r.Stats().Recovered
	}
	want := recovered(func(*retry.Retry) {})
	for name, read := range map[string]func(*retry.Retry){
		"Idle":   func(r *retry.Retry) { _ = r.Idle() },
		"Budget": func(r *retry.Retry) { _, _ = r.Budget() },
		"Stats":  func(r *retry.Retry) { _ = r.Stats() },
		"Report": func(r *retry.Retry) { _ = r.Report(false) },
	} {
		if got := recovered(read); got != want {
			t.Errorf("%d calls recovered; with two calls of %s %d", want, name, got)
		}
	}
}

// An error whose outcome is Success ends the streak of failures.
func TestRetry_successOutcomeEndsStreak(t *testing.T) {
	r := must(t, quick(retry.Config{}))
	op, runs := script(retry.Permanent(errBoom), retry.Permanent(errBoom), opinion{resilience.Success}, errBoom)
	for range 3 {
		_ = run(r, op)
	}
	wantReason(t, run(r, op), retry.OutOfAttempts)
	if runs() != 6 {
		t.Fatalf("%d runs, want 3 of the last call", runs())
	}
}
