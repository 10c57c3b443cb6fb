package bulkhead_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
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
// the number of slots.
//
// Let L be the number of slots and p the share of quick answers. All slots are taken, so
// the average is L x p, with a deviation of L x sqrt(p(1-p)/63). For p = 0.18 these are
// 0.18 L and 0.048 L. Three times the average is 0.54 L, so L stays at 24. To raise it to
// 36 takes 6.6 deviations, which no run sees.
func TestSizing_hanging(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			b := newBulkhead(t, bulkhead.Config{})
			rng := rand.New(rand.NewPCG(seed, 1))
			for range 60 {
				load(b, rng, 250, time.Second, hang(0.18))
				if s := b.Stats(); s.Slots > 36 || s.InFlight > s.Slots {
					t.Fatalf("seed %d: stats %+v", seed, s)
				}
			}
			time.Sleep(2 * time.Second)
		})
	}
}

// The number of slots falls while all of them are taken and nothing succeeds.
func TestSizing_fallsWhileTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		rng := rand.New(rand.NewPCG(4, 1))
		load(b, rng, 700, 5*time.Second, func(context.Context, float64) error { time.Sleep(100 * time.Millisecond); return nil })
		before := b.Stats()
		for last := before.Slots; last > 24; {
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

// The number of slots follows a model of the moving average.
func TestSizing_model(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		rng := rand.New(rand.NewPCG(2, 1))
		var avg, high float64
		for range 400 {
			n := 1 + rng.IntN(24)
			held := make([]*bulkhead.Permit, n)
			for i := range held {
				held[i] = acquire(t, b)
			}
			for inFlight, i := range rng.Perm(n) {
				held[i].Release(nil)
				avg += (float64(n-i) - avg) / 32
				high = max(min(avg, float64(n-inFlight)), high-high/1024)
				want := max(24, 3*high)
				if got := float64(b.Stats().Slots); got > want+0.25 || got < want-1.25 { // whole slots, and fixed point
					t.Fatalf("%v slots, model %.2f", got, want)
				}
			}
		}
	})
}

// The number of slots falls to its minimum after the load has ended.
func TestSizing_fallsAfterLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		rng := rand.New(rand.NewPCG(3, 1))
		load(b, rng, 1000, 2*time.Second, func(context.Context, float64) error { time.Sleep(100 * time.Millisecond); return nil })
		if s := b.Stats(); s.Slots < 200 {
			t.Fatalf("stats %+v", s)
		}
		time.Sleep(time.Second)
		for range 10000 {
			_ = resilience.Run(context.Background(), b, nothing)
		}
		if s := b.Stats(); s.Slots != 24 {
			t.Errorf("stats %+v", s)
		}
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
		one, many := newBulkhead(t, bulkhead.Config{}), newBulkhead(t, bulkhead.Config{})
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

// Resizing under load loses no slot and adds none.
func TestSizing_losesNoSlot(t *testing.T) {
	for range 3 {
		b := newBulkhead(t, bulkhead.Config{MaxWait: time.Minute})
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for n := range 1000 {
					p, err := b.Acquire(context.Background())
					if err != nil {
						continue
					}
					if i%4 == 0 {
						runtime.Gosched()
					}
					if n%64 < 32 && i < 12 {
						err = errors.New("counts as 0")
					}
					p.Release(err)
				}
			})
		}
		wg.Wait()
		s := b.Stats()
		if s.InFlight != 0 || s.Queued != 0 || s.Completed+s.QueueFull != 16*1000 {
			t.Fatalf("stats %+v", s)
		}
		for range s.Slots {
			acquire(t, b) // blocks forever if there are fewer slots than Stats says
		}
		ctx, cancel := context.WithCancel(context.Background())
		wg.Go(func() {
			if _, err := b.Acquire(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v: there are more slots than Stats says", err)
				cancel()
			}
		})
		for b.Stats().Queued == 0 && ctx.Err() == nil {
			runtime.Gosched()
		}
		cancel()
		wg.Wait()
	}
}
