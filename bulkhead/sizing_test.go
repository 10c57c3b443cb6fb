package bulkhead_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/testkit"
)

// load makes calls at a rate for d, each with a luck between 0 and 1. It returns how many
// calls it made and how many were rejected.
func load(b resilience.Policy, rng *rand.Rand, rate float64, d time.Duration, serve func(ctx context.Context, luck float64) error) (sent, rejected int) {
	var rejections atomic.Int64
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Duration(rng.ExpFloat64() / rate * float64(time.Second))) {
		sent++
		luck := rng.Float64()
		go func() {
			err := resilience.Run(context.Background(), b, func(ctx context.Context) error { return serve(ctx, luck) })
			if errors.Is(err, bulkhead.ErrFull) {
				rejections.Add(1)
			}
		}()
	}
	synctest.Wait()
	return sent, int(rejections.Load())
}

// A healthy service that needs 70 calls in flight soon rejects none.
func TestSizing_healthy(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			b := newBulkhead(t, bulkhead.Config{})
			rng := rand.New(rand.NewPCG(seed, 1))
			serve := func(context.Context, float64) error { time.Sleep(service); return nil }
			_, first := load(b, rng, 700, 3*service, serve)
			sent, rest := load(b, rng, 700, time.Minute, serve)
			time.Sleep(time.Second)
			if first >= 100 || rest != 0 {
				t.Errorf("seed %d: %d rejected at first, then %d of %d", seed, first, rest, sent)
			}
			if s := b.Stats(); s.Slots < 150 || s.Slots > 300 {
				t.Errorf("seed %d: %d slots for 70 in flight", seed, s.Slots)
			}
		})
	}
}

// hang returns a service that answers a share of its calls quickly and hangs for the others.
func hang(quick float64) func(context.Context, float64) error {
	return func(ctx context.Context, luck float64) error {
		if luck < quick {
			time.Sleep(5 * time.Millisecond)
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		<-ctx.Done()
		return ctx.Err()
	}
}

// A service that hangs for most calls, and answers the others quickly, does not raise
// the number of slots for more than moments: before the first timeouts, and while a quarter
// of the calls happen to answer.
//
// Let L be the number of slots and p the share of quick answers. All slots are taken, so
// the average is L x p, with a deviation of L x sqrt(p(1-p)/63). For p = 0.18 these are
// 0.18 L and 0.048 L. Three times the average is 0.54 L, so L stays at 24. To raise it to
// 36 takes 6.6 deviations, which no run sees. Without a bulkhead, 205 calls are in flight.
func TestSizing_hanging(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			b := newBulkhead(t, bulkhead.Config{})
			rng := rand.New(rand.NewPCG(seed, 1))
			raised := 0
			for range 60 {
				load(b, rng, 250, time.Second, hang(0.18))
				s := b.Stats()
				if s.Slots > 48 {
					raised++
				}
				if s.InFlight > s.Slots {
					t.Errorf("seed %d: stats %+v", seed, s)
				}
			}
			if raised > 6 {
				t.Errorf("seed %d: over 48 slots in %d of 60 seconds", seed, raised)
			}
			time.Sleep(2 * time.Second)
		})
	}
}

// The number of slots falls while all of them are taken and nothing succeeds, once calls have
// begun to time out.
func TestSizing_fallsWhileTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		rng := rand.New(rand.NewPCG(4, 1))
		load(b, rng, 700, 5*time.Second, healthy)
		before := b.Stats()
		load(b, rng, 700, 5*time.Second, hang(0))
		for last := b.Stats().Slots; last > 24; {
			load(b, rng, 700, 5*time.Second, hang(0))
			s := b.Stats()
			if s.Slots >= last || s.InFlight != s.Slots || s.Queued == 0 {
				t.Fatalf("%d slots five seconds after %d: stats %+v", s.Slots, last, s)
			}
			last = s.Slots
		}
		if before.Slots < 200 {
			t.Errorf("stats before %+v", before)
		}
		time.Sleep(2 * time.Second)
	})
}

// The number of slots follows a model of the moving average, of which the highest value halves
// in 30 s.
func TestSizing_model(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		rng := rand.New(rand.NewPCG(2, 1))
		var avg, high float64
		last := time.Now()
		for range 2000 {
			n := 1 + rng.IntN(24)
			held := make([]*bulkhead.Permit, n)
			for i := range held {
				held[i] = acquire(t, b)
			}
			time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
			for inFlight, i := range rng.Perm(n) {
				high *= math.Exp2(-time.Since(last).Seconds() / 30)
				last = time.Now()
				held[i].Release(nil)
				avg += (float64(n-i) - avg) / 32
				high = max(min(avg, float64(n-inFlight)), high)
				want, wantLater := max(24, 3*high), max(24, 3*high*math.Exp2(0.25/30))        // high falls every 250 ms
				if got := float64(b.Stats().Slots); got > wantLater+1.25 || got < want-1.25 { // whole slots, and fixed point
					t.Fatalf("%v slots, model %.2f", got, want)
				}
			}
		}
	})
}

// After the load has ended, the number of slots falls to its minimum, by one for each call.
func TestSizing_fallsAfterLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		rng := rand.New(rand.NewPCG(3, 1))
		load(b, rng, 1000, 2*time.Second, healthy)
		before := b.Stats()
		if before.Slots < 200 {
			t.Fatalf("stats %+v", before)
		}
		time.Sleep(4 * time.Minute) // eight times the time in which high halves
		for range before.Slots - 23 {
			_ = resilience.Run(context.Background(), b, nothing)
		}
		if s := b.Stats(); s.Slots != 24 {
			t.Errorf("stats %+v", s)
		}
		timeOut(t, b)
		free := occupy(b, 24+12) // the slots and the queue
		if err := resilience.Run(context.Background(), b, nothing); !errors.Is(err, bulkhead.ErrFull) {
			t.Error("there are more slots than Stats says")
		}
		for range 36 {
			free()
		}
		time.Sleep(time.Second)
	})
}

// Concurrent answers are all in the average.
func TestSizing_concurrentAnswers(t *testing.T) {
	const each, workers = 500, 4
	fail := func(b *bulkhead.Bulkhead, times int) {
		for range times { // a failure counts as 0, whatever else is in flight
			acquire(t, b).Release(errWork)
		}
	}
	for range 20 {
		c := bulkhead.Config{Clock: testkit.NewClock()} // it stands still, so that high does not fall
		one, many := newBulkhead(t, c), newBulkhead(t, c)
		for _, b := range []*bulkhead.Bulkhead{one, many} {
			for range 40 {
				var held [24]*bulkhead.Permit
				for i := range held {
					held[i] = acquire(t, b)
				}
				for _, p := range held {
					p.Release(nil)
				}
			}
		}
		fail(one, each*workers)
		testkit.AtOnce(workers, func(int) { fail(many, each) })
		got, want := many.Stats(), one.Stats()
		if got.High != want.High || got.Average != want.Average || want.High < 1 {
			t.Fatalf("average %v and high %v, want %v and %v", got.Average, got.High, want.Average, want.High)
		}
	}
}
