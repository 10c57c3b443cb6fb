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
)

// load sends calls at a rate for d, each with luck between 0 and 1, and returns
// how many there were and how many were rejected.
func load(b resilience.Policy, rng *rand.Rand, rate float64, d time.Duration, serve func(ctx context.Context, luck float64) error) (sent, rejected int) {
	var refused atomic.Int64
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Duration(rng.ExpFloat64() / rate * float64(time.Second))) {
		sent++
		luck := rng.Float64()
		go func() {
			err := resilience.Run(context.Background(), b, func(ctx context.Context) error { return serve(ctx, luck) })
			if errors.Is(err, bulkhead.ErrFull) {
				refused.Add(1)
			}
		}()
	}
	synctest.Wait()
	return sent, int(refused.Load())
}

func TestAHealthyServiceThatNeedsSeventyInFlightSoonRejectsNothing(t *testing.T) {
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
				t.Errorf("seed %d: limit %d for 70 in flight", seed, s.Slots)
			}
		})
	}
}

// hang is a service that answers a share of its calls quickly and no other one.
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

// The rule bounds the limit L of a service that has always hung but for a share p
// of quick answers, because the slots are all taken and the average is that of the
// successes: L x p, with a deviation of L x sqrt(p(1-p)/63). For p = 0.18 those are
// 0.18 L and 0.048 L. Three times the average is 0.54 L, so the limit stays at 24;
// to raise it to 36 takes 6.6 deviations, which no run sees.
func TestAHangingServiceWhoseQuickCallsStillAnswerDoesNotRaiseTheLimit(t *testing.T) {
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

func TestALimitThatIsAllTakenFallsWhenNothingSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		rng := rand.New(rand.NewPCG(4, 1))
		load(b, rng, 700, 5*time.Second, func(context.Context, float64) error { time.Sleep(100 * time.Millisecond); return nil })
		before := b.Stats()
		for last := before.Slots; last > 24; {
			load(b, rng, 700, 5*time.Second, hang(0))
			s := b.Stats()
			if s.Slots >= last || s.InFlight != s.Slots || s.Queued == 0 {
				t.Fatalf("limit %d five seconds after %d: stats %+v", s.Slots, last, s)
			}
			last = s.Slots
		}
		if before.Slots < 200 {
			t.Errorf("stats before %+v", before)
		}
		time.Sleep(2 * time.Second)
	})
}

func TestTheLimitFollowsTheModel(t *testing.T) {
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
			for inFlight, who := range rng.Perm(n) {
				held[who].Release(nil)
				avg += (float64(n-who) - avg) / 32
				high = max(min(avg, float64(n-inFlight)), high-high/1024)
				want := max(24, 3*high)
				if got := float64(b.Stats().Slots); got > want+0.25 || got < want-1.25 { // whole slots, and fixed point
					t.Fatalf("limit %v, model %.2f", got, want)
				}
			}
		}
	})
}

func TestTheLimitFallsAgainWhenTheLoadHasGone(t *testing.T) {
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
		free := occupy(b, 24+12) // as many slots and places in line as it says
		if err := resilience.Run(context.Background(), b, nothing); !errors.Is(err, bulkhead.ErrFull) {
			t.Error("there are more slots than the limit")
		}
		for range 36 {
			free()
		}
		time.Sleep(time.Second)
	})
}

func TestNoAnswerIsLostInTheAverage(t *testing.T) {
	const each, workers = 500, 4
	fail := func(b *bulkhead.Bulkhead, times int) {
		for range times { // a failure counts 0, whatever is in flight beside it
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
		var ready atomic.Int64
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				for ready.Add(1); ready.Load() < workers; {
					runtime.Gosched()
				}
				fail(many, each)
			})
		}
		all.Wait()
		got, want := many.Stats(), one.Stats()
		if got.High != want.High || got.Average != want.Average || want.High < 1 {
			t.Fatalf("average %v and high %v, want %v and %v", got.Average, got.High, want.Average, want.High)
		}
	}
}

func TestResizingUnderLoadLosesNoSlot(t *testing.T) {
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
			acquire(t, b) // waits for ever if there are fewer slots than the limit says
		}
		ctx, cancel := context.WithCancel(context.Background())
		wg.Go(func() {
			if _, err := b.Acquire(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v: there are more slots than the limit says", err)
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
