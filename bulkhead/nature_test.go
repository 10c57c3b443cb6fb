package bulkhead_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
)

// sometimes returns a service whose calls take d, and of which a share hangs until it times out
// after a second.
func sometimes(d time.Duration, share float64) func(context.Context, float64) error {
	return func(_ context.Context, luck float64) error {
		if luck < share {
			time.Sleep(time.Second)
			return timeout{}
		}
		time.Sleep(d)
		return nil
	}
}

// congestedFor makes calls at a rate for d and returns for how long b was congested, and the share
// of the calls that were rejected.
func congestedFor(b *bulkhead.Bulkhead, rng *rand.Rand, rate float64, d time.Duration, serve func(context.Context, float64) error) (congested time.Duration, rejected float64) {
	const each = 100 * time.Millisecond
	all, full := 0, 0
	for end := time.Now().Add(d); time.Now().Before(end); {
		sent, n := load(b, rng, rate, each, serve)
		all, full = all+sent, full+n
		if b.Stats().Congested {
			congested += each
		}
	}
	return congested, float64(full) / float64(all)
}

// A dependency whose calls take long by nature, from the first call on, is not congested for
// longer than some seconds, if some of its calls hang.
func TestCongestion_slowByNature(t *testing.T) {
	for _, share := range []float64{0.05, 0.1, 0.2} {
		for _, takes := range []time.Duration{450, 600, 800, 950} {
			for _, rate := range []float64{5, 60} {
				t.Run(fmt.Sprint(share, takes, rate), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						b := newBulkhead(t, bulkhead.Config{})
						rng := rand.New(rand.NewPCG(1, 1))
						d, rejected := congestedFor(b, rng, rate, 2*time.Minute, sometimes(takes*time.Millisecond, share))
						if d > 3*time.Second || rejected > 0.02 {
							t.Errorf("congested for %v, and %.3f rejected: %+v", d, rejected, b.Stats())
						}
						time.Sleep(2 * time.Second)
					})
				})
			}
		}
	}
}

// If a quick dependency becomes slow, and one of twenty of its calls hangs, most calls succeed.
func TestCongestion_becomesSlow(t *testing.T) {
	for _, rate := range []float64{20, 100, 300} {
		for seed := range uint64(3) {
			synctest.Test(t, func(t *testing.T) {
				b := newBulkhead(t, bulkhead.Config{})
				rng := rand.New(rand.NewPCG(seed, 1))
				congestedFor(b, rng, rate, time.Minute, sometimes(10*time.Millisecond, 0.05))
				d, rejected := congestedFor(b, rng, rate, time.Minute, sometimes(600*time.Millisecond, 0.05))
				if rejected > 0.05 {
					t.Errorf("%v calls a second: congested for %v, and %.3f rejected: %+v", rate, d, rejected, b.Stats())
				}
				time.Sleep(2 * time.Second)
			})
		}
	}
}

// The deadlines of callers that end slow calls are no congestion, although they take longer than
// the successes.
func TestCongestion_callersDeadlines(t *testing.T) {
	for _, share := range []float64{0.35, 0.6} {
		synctest.Test(t, func(t *testing.T) {
			b := newBulkhead(t, bulkhead.Config{})
			rng := rand.New(rand.NewPCG(1, 1))
			congestedFor(b, rng, 50, 10*time.Second, sometimes(10*time.Millisecond, 0))
			hurried := func(ctx context.Context, luck float64) error {
				if luck < share {
					<-ctx.Done()
					return ctx.Err()
				}
				time.Sleep(900 * time.Millisecond)
				return nil
			}
			for range 300 {
				luck := rng.Float64()
				go func() {
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					defer cancel()
					_ = resilience.Run(ctx, b, func(ctx context.Context) error { return hurried(ctx, luck) })
				}()
				time.Sleep(20 * time.Millisecond)
				synctest.Wait()
				if s := b.Stats(); s.Congested {
					t.Fatalf("%v have a deadline that ends them: congested: %+v", share, s)
				}
			}
			time.Sleep(2 * time.Second)
		})
	}
}

// With the window, an overloaded dependency does most of what it can for as long as the overload
// lasts.
func TestCongestion_overloadLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		rng := rand.New(rand.NewPCG(1, 1))
		w := &worker{each: 20 * time.Millisecond}
		overload(b, rng, 25, 20*time.Second, w, 0)
		for minute := range 10 {
			n, sent := overload(b, rng, 100, time.Minute, w, 0)
			if n < 80*60/2 { // 50 calls a second could succeed
				t.Errorf("minute %d: %d of %d calls succeed, of 3000 that could: %+v", minute, n, sent, b.Stats())
			}
		}
		time.Sleep(20 * time.Second)
	})
}
