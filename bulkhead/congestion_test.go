package bulkhead_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
)

// worker is a service that runs one call after another. A call times out after a second, and the
// worker runs it all the same.
type worker struct {
	mu   sync.Mutex
	free time.Time
	each time.Duration
}

func (w *worker) serve(context.Context, float64) error {
	const patience = time.Second
	w.mu.Lock()
	now := time.Now()
	if w.free.Before(now) {
		w.free = now
	}
	w.free = w.free.Add(w.each)
	takes := w.free.Sub(now)
	w.mu.Unlock()
	time.Sleep(min(takes, patience))
	if takes > patience {
		return timeout{}
	}
	return nil
}

// overload makes calls of w at a rate for d. A share of other calls are canceled or fail quickly.
// It returns how many calls have succeeded and how many there were.
func overload(b resilience.Policy, rng *rand.Rand, rate float64, d time.Duration, w *worker, other float64) (succeeded, sent int) {
	var n atomic.Int64
	sent, _ = load(b, rng, rate, d, func(ctx context.Context, luck float64) error {
		if luck < other {
			time.Sleep(time.Millisecond)
			return []error{errWork, context.Canceled, resilience.Ignore(errWork)}[int(luck*1e6)%3]
		}
		err := w.serve(ctx, luck)
		if err == nil {
			n.Add(1)
		}
		return err
	})
	return int(n.Load()), sent
}

// Of an overloaded dependency the window makes use of nearly all that it can do, also while some
// of the calls are canceled or fail quickly.
func TestCongestion_overload(t *testing.T) {
	for _, other := range []float64{0, 0.1, 0.5} {
		for seed := range uint64(3) {
			synctest.Test(t, func(t *testing.T) {
				b := newBulkhead(t, bulkhead.Config{})
				rng := rand.New(rand.NewPCG(seed, 1))
				w := &worker{each: 10 * time.Millisecond}
				overload(b, rng, 200/(1-other), 5*time.Second, w, other)
				n, sent := overload(b, rng, 200/(1-other), time.Minute, w, other)
				if s := b.Stats(); n < 85*60 || !s.Congested || s.Slots > 100 {
					t.Errorf("%v others: %d of %d calls succeed, of 6000 that could: %+v", other, n, sent, s)
				}
				time.Sleep(20 * time.Second)
			})
		}
	}
}

// When an overload is over, the congestion ends although the traffic needs more slots than the
// window, also if some of the calls were canceled or failed quickly.
func TestCongestion_overloadIsOver(t *testing.T) {
	for _, other := range []float64{0, 0.1, 0.5} {
		for seed := range uint64(3) {
			synctest.Test(t, func(t *testing.T) {
				b := newBulkhead(t, bulkhead.Config{})
				rng := rand.New(rand.NewPCG(seed, 1))
				overload(b, rng, 200/(1-other), 10*time.Second, &worker{each: 10 * time.Millisecond}, other)
				if s := b.Stats(); !s.Congested {
					t.Fatalf("not congested: %+v", s)
				}
				load(b, rng, 700, 10*time.Second, healthy)
				sent, rejected := load(b, rng, 700, 10*time.Second, healthy)
				if s := b.Stats(); rejected != 0 || s.Congested {
					t.Errorf("%v others: %d of %d calls rejected: %+v", other, rejected, sent, s)
				}
				time.Sleep(20 * time.Second)
			})
		}
	}
}

// One key is congested and another is not.
func TestCongestion_forks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		bad, good := b.Fork("bad").(*bulkhead.Bulkhead), b.Fork("good").(*bulkhead.Bulkhead)
		done := make(chan struct{})
		go func() {
			overload(bad, rand.New(rand.NewPCG(1, 1)), 200, 20*time.Second, &worker{each: 10 * time.Millisecond}, 0)
			close(done)
		}()
		sent, rejected := load(good, rand.New(rand.NewPCG(2, 1)), 700, 20*time.Second, healthy)
		<-done
		if s := good.Stats(); rejected != 0 || s.Congested || s.Slots < 150 {
			t.Errorf("good: %d of %d rejected: %+v", rejected, sent, s.Gauges)
		}
		if s := bad.Stats(); !s.Congested || s.QueueFull+s.WaitExpired == 0 || s.Slots > 100 {
			t.Errorf("bad: %+v", s)
		}
		if s := b.Stats(); s.Congested || s.Slots != 24 {
			t.Errorf("origin: %+v", s)
		}
		time.Sleep(20 * time.Second)
	})
}

// A window that was left behind does not bound a burst an hour later.
func TestCongestion_staleWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		overload(b, rand.New(rand.NewPCG(1, 1)), 200, 10*time.Second, &worker{each: 10 * time.Millisecond}, 0)
		time.Sleep(time.Hour)
		if s := b.Stats(); !s.Congested {
			t.Fatalf("not congested: %+v", s)
		}
		if n := burst(b, 1000, takes(service, nil)); n != 0 {
			t.Errorf("%d rejected: %+v", n, b.Stats())
		}
	})
}

// A dependency of which a replica hangs is not congested, nor is one that pauses.
func TestCongestion_noQueue(t *testing.T) {
	for name, serve := range map[string]func(context.Context, float64) error{
		"replica": hang(0.6),
		"pause": func(context.Context, float64) error {
			now := time.Now()
			if since := now.Sub(now.Truncate(10 * time.Second)); since < 1500*time.Millisecond {
				if left := 1500*time.Millisecond - since; left < time.Second {
					time.Sleep(left)
				} else {
					time.Sleep(time.Second)
					return timeout{}
				}
			}
			time.Sleep(5 * time.Millisecond)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBulkhead(t, bulkhead.Config{})
				rng := rand.New(rand.NewPCG(3, 1))
				for range 400 {
					load(b, rng, 300, 100*time.Millisecond, serve)
					if s := b.Stats(); s.Congested {
						t.Fatalf("congested: %+v", s)
					}
				}
				time.Sleep(2 * time.Second)
			})
		})
	}
}
