package bulkhead_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
)

const service = 100 * time.Millisecond

func healthy(context.Context, float64) error { time.Sleep(service); return nil }

// What a quick call sees admitted while it runs is a number of Poisson with the
// mean 70 and the deviation 8.4, however many hang beside it. Five deviations more
// are 112, and three times that is 336.
func TestAWarmLimitIsBoundedWhileMostCallsHang(t *testing.T) {
	for _, timeout := range []time.Duration{time.Second, 3 * time.Second, 10 * time.Second} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprint(timeout, ",", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBulkhead(t, bulkhead.Config{})
					rng := rand.New(rand.NewPCG(seed, 1))
					load(b, rng, 700, 5*time.Second, healthy)
					for end := time.Now().Add(timeout + 2*time.Second); time.Now().Before(end); {
						load(b, rng, 700, 50*time.Millisecond, func(ctx context.Context, luck float64) error {
							if luck < 0.18 {
								return healthy(ctx, luck)
							}
							time.Sleep(timeout)
							return context.DeadlineExceeded
						})
						s := b.Stats()
						if s.Slots > 336 || s.InFlight > s.Slots {
							t.Fatalf("stats %+v", s)
						}
					}
					if s := b.Stats(); s.QueueFull == 0 {
						t.Errorf("nothing was bounded: stats %+v", s)
					}
					time.Sleep(timeout + time.Second)
				})
			})
		}
	}
}

// Most calls see few others admitted and a few see very many. The average is that
// of all of them, so it is the number in flight all the same.
func TestAHealthyServiceOfManyQuickCallsAndSomeSlowOnesRejectsNothing(t *testing.T) {
	const mean = 0.9*0.01 + 0.1*1 // seconds
	for _, inFlight := range []float64{30, 70} {
		for seed := range uint64(2) {
			t.Run(fmt.Sprint(inFlight, ",", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBulkhead(t, bulkhead.Config{})
					rng := rand.New(rand.NewPCG(seed, 2))
					serve := func(_ context.Context, luck float64) error {
						if luck < 0.9 {
							time.Sleep(10 * time.Millisecond)
						} else {
							time.Sleep(time.Second)
						}
						return nil
					}
					load(b, rng, inFlight/mean, 10*time.Second, serve)
					sent, rejected := load(b, rng, inFlight/mean, time.Minute, serve)
					s := b.Stats()
					if rejected != 0 || s.Slots > int(6*inFlight) {
						t.Errorf("%d of %d rejected: stats %+v", rejected, sent, s)
					}
					time.Sleep(2 * time.Second)
				})
			})
		}
	}
}

// show is a lasting operation that answers after some time and then goes on.
type show struct {
	stream
	answer, on time.Duration
}

func (s *show) Run(context.Context) error {
	run := s.Begin()
	time.AfterFunc(s.answer+s.on, func() { s.End(run, nil) })
	time.Sleep(s.answer)
	s.Answer(run)
	return nil
}

// shows has n of them come at a rate and returns how many were rejected.
func shows(b resilience.Policy, rng *rand.Rand, n int, rate float64, answer, on time.Duration) int {
	var refused atomic.Int64
	for range n {
		go func() {
			if resilience.RunOperation(context.Background(), b, &show{answer: answer, on: on}) != nil {
				refused.Add(1)
			}
		}()
		time.Sleep(time.Duration(rng.ExpFloat64() / rate * float64(time.Second)))
	}
	synctest.Wait()
	return int(refused.Load())
}

func TestStreamsRaiseTheLimitFromAColdStart(t *testing.T) {
	for name, tt := range map[string]struct {
		n      int
		rate   float64
		answer time.Duration
		on     time.Duration
		most   int
	}{
		"bodies of a minute":               {200, 20, 0, time.Minute, 200},
		"bodies that answer after 50 ms":   {2000, 20, 50 * time.Millisecond, time.Minute, 1300},
		"streams of an hour":               {1000, 5, 10 * time.Millisecond, time.Hour, 1000},
		"streams of an hour for six hours": {3000, 0.15, 10 * time.Millisecond, time.Hour, 620},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBulkhead(t, bulkhead.Config{})
				rng := rand.New(rand.NewPCG(5, 1))
				if refused := shows(b, rng, tt.n, tt.rate, tt.answer, tt.on); refused != 0 {
					t.Errorf("%d of %d rejected", refused, tt.n)
				}
				s := b.Stats()
				if s.Slots > 3*tt.most+24 || s.Average > 10 {
					t.Errorf("stats %+v", s)
				}
				time.Sleep(tt.on + time.Second)
				if s := b.Stats(); s.InFlight != 0 || s.Completed != uint64(tt.n) {
					t.Errorf("at rest %+v", s)
				}
			})
		})
	}
}

func TestStreamsAndCallsBesideEachOtherRejectNothingOnceWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		rng := rand.New(rand.NewPCG(6, 1))
		_, cold := load(b, rng, 400, 3*service, healthy)
		streams := make(chan int)
		go func() { streams <- shows(b, rand.New(rand.NewPCG(7, 1)), 600, 10, 20*time.Millisecond, 10*time.Minute) }()
		sent, calls := load(b, rng, 400, time.Minute, healthy)
		if n := <-streams; n != 0 || calls != 0 || cold > 100 {
			t.Errorf("%d streams and %d of %d calls rejected, %d at first", n, calls, sent, cold)
		}
		if s := b.Stats(); s.Slots < 3*600 || s.Average > 100 {
			t.Errorf("stats %+v", s)
		}
		time.Sleep(time.Hour)
		for range 10000 {
			_ = resilience.Run(context.Background(), b, nothing)
		}
		if s := b.Stats(); s.Slots != 24 || s.InFlight != 0 {
			t.Errorf("after the streams %+v", s)
		}
	})
}
