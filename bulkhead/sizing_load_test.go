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
	"github.com/resilience-go/resilience/internal/testkit"
)

const service = 100 * time.Millisecond

func healthy(context.Context, float64) error { time.Sleep(service); return nil }

// If most calls of a busy service begin to hang, the number of slots stays bounded. The
// number that a quick call sees admitted while it runs has a Poisson distribution with
// mean 70 and deviation 8.4, however many calls hang. Five deviations more are 112, and
// three times that is 336. In twice the usual time, which is 200 ms, 140 calls arrive with a
// deviation of 12. Five deviations more are 200.
func TestSizing_warmThenHangs(t *testing.T) {
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
						if s.Slots > 336+200 || s.InFlight > s.Slots {
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

// A healthy service with many quick calls and some slow ones rejects none. Most calls
// see few others admitted and a few see very many, and the average of all is the number
// in flight.
func TestSizing_mixedDurations(t *testing.T) {
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

// newShow returns a lasting operation that answers after some time and then goes on.
func newShow(answer, on time.Duration) *testkit.Lasting {
	op := &testkit.Lasting{}
	op.Func = func(context.Context) error {
		time.AfterFunc(answer+on, func() { op.Finish(nil) })
		time.Sleep(answer)
		op.Reply()
		return nil // answers a second time
	}
	return op
}

// shows runs n such operations at a rate and returns how many were rejected.
func shows(b resilience.Policy, rng *rand.Rand, n int, rate float64, answer, on time.Duration) int {
	var rejections atomic.Int64
	for range n {
		go func() {
			if resilience.RunOperation(context.Background(), b, newShow(answer, on)) != nil {
				rejections.Add(1)
			}
		}()
		time.Sleep(time.Duration(rng.ExpFloat64() / rate * float64(time.Second)))
	}
	synctest.Wait()
	return int(rejections.Load())
}

// Streams raise the number of slots from a cold start, so none is rejected.
func TestSizing_streams(t *testing.T) {
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
				if rejected := shows(b, rng, tt.n, tt.rate, tt.answer, tt.on); rejected != 0 {
					t.Errorf("%d of %d rejected", rejected, tt.n)
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

// Streams and calls together are not rejected once the bulkhead is warm.
func TestSizing_streamsAndCalls(t *testing.T) {
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
