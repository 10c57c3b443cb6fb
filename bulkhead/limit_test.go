package bulkhead_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
)

// load sends calls at a rate for d, each with luck between 0 and 1, and returns
// how many there were and how many were rejected.
func load(b resilience.Policy, rng *rand.Rand, rate float64, d time.Duration, serve func(ctx context.Context, luck float64) error) (sent, rejected int) {
	var mu sync.Mutex
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Duration(rng.ExpFloat64() / rate * float64(time.Second))) {
		sent++
		luck := rng.Float64()
		go func() {
			err := resilience.Run(context.Background(), b, func(ctx context.Context) error { return serve(ctx, luck) })
			if errors.Is(err, bulkhead.ErrFull) {
				mu.Lock()
				rejected++
				mu.Unlock()
			}
		}()
	}
	synctest.Wait()
	mu.Lock()
	defer mu.Unlock()
	return sent, rejected
}

func TestAHealthyServiceThatNeedsSeventyInFlightSoonRejectsNothing(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			b := newBulkhead(t, bulkhead.Config{})
			rng := rand.New(rand.NewPCG(seed, 1))
			const service = 100 * time.Millisecond
			serve := func(context.Context, float64) error { time.Sleep(service); return nil }
			_, first := load(b, rng, 700, 3*service, serve)
			sent, rest := load(b, rng, 700, time.Minute, serve)
			time.Sleep(time.Second)
			if first >= 100 || rest != 0 {
				t.Errorf("seed %d: %d rejected at first, then %d of %d", seed, first, rest, sent)
			}
			if s := b.Stats(); s.Limit < 150 || s.Limit > 300 {
				t.Errorf("seed %d: limit %d for 70 in flight", seed, s.Limit)
			}
		})
	}
}

func TestAHangingServiceWhoseQuickCallsStillAnswerDoesNotRaiseTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		rng := rand.New(rand.NewPCG(1, 1))
		hang := func(ctx context.Context, luck float64) error {
			if luck < 0.18 {
				time.Sleep(5 * time.Millisecond)
				return nil
			}
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			<-ctx.Done()
			return ctx.Err()
		}
		load(b, rng, 250, 30*time.Second, hang)
		if s := b.Stats(); s.Limit > 30 || s.InFlight > s.Limit {
			t.Errorf("stats %+v", s)
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
			free := occupy(b, n)
			for inFlight := n; inFlight > 0; inFlight-- {
				free()
				avg += (float64(inFlight) - avg) / 32
				high = max(avg, high-high/1024)
				want := max(24, 3*high)
				if got := float64(b.Stats().Limit); got > want+0.25 || got < want-1.25 { // whole slots, and fixed point
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
		if s := b.Stats(); s.Limit < 200 {
			t.Fatalf("stats %+v", s)
		}
		time.Sleep(time.Second)
		for range 10000 {
			_ = resilience.Run(context.Background(), b, nothing)
		}
		if s := b.Stats(); s.Limit != 24 {
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

func TestResizingUnderLoadLosesNoSlot(t *testing.T) {
	b := newBulkhead(t, bulkhead.Config{MaxWait: time.Minute})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := range 3000 {
				_ = resilience.Run(context.Background(), b, func(context.Context) error {
					if n%64 < 32 && i < 12 {
						return errors.New("counts as 0")
					}
					return nil
				})
			}
		})
	}
	wg.Wait()
	s := b.Stats()
	if s.InFlight != 0 || s.Waiting != 0 || s.Admitted+s.QueueFull != 16*3000 {
		t.Fatalf("stats %+v", s)
	}
	leave := make(chan struct{})
	for range s.Limit {
		wg.Go(func() {
			_ = resilience.Run(context.Background(), b, func(context.Context) error { <-leave; return nil })
		})
	}
	for b.Stats().InFlight < s.Limit {
		runtime.Gosched() // hangs if there are fewer slots than the limit says
	}
	close(leave)
	wg.Wait()
}
