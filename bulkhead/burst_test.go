package bulkhead_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/testkit"
)

// timeout is an error of a call that has timed out.
type timeout struct{}

func (timeout) Error() string { return "timed out" }
func (timeout) Timeout() bool { return true }

// timeouts is how many calls of timeOut time out. Three are evidence, and the first may count with
// the successes before it.
const timeouts = 4

// timeOut makes calls that time out, so that bursts in which no call answers are rejected.
func timeOut(t *testing.T, b *bulkhead.Bulkhead) {
	t.Helper()
	for range timeouts {
		if err := resilience.Run(t.Context(), b, func(context.Context) error { return timeout{} }); !errors.Is(err, timeout{}) {
			t.Fatal(err)
		}
	}
}

// takes returns a service whose calls take d and end with err.
func takes(d time.Duration, err error) func(context.Context, float64) error {
	return func(context.Context, float64) error { time.Sleep(d); return err }
}

// burst makes n calls at once in a synctest bubble. It returns how many were rejected.
func burst(b resilience.Policy, n int, serve func(context.Context, float64) error) (rejected int) {
	var rejections atomic.Int64
	done := make(chan struct{}, n)
	for range n {
		go func() {
			if errors.Is(resilience.Run(context.Background(), b, func(ctx context.Context) error { return serve(ctx, 0) }), bulkhead.ErrFull) {
				rejections.Add(1)
			}
			done <- struct{}{}
		}()
	}
	for range n {
		<-done
	}
	return int(rejections.Load())
}

// A cold bulkhead rejects none of a thousand calls at once.
func TestBurst_cold(t *testing.T) {
	for _, takesTime := range []time.Duration{time.Millisecond, 50 * time.Millisecond, time.Second} {
		for _, queue := range []int{0, bulkhead.NoQueue} {
			t.Run(fmt.Sprint(takesTime, ",", queue), func(t *testing.T) {
				for range 5 {
					synctest.Test(t, func(t *testing.T) {
						b := newBulkhead(t, bulkhead.Config{MaxQueue: queue})
						if n := burst(b, 1000, takes(takesTime, nil)); n != 0 {
							t.Errorf("%d rejected: %+v", n, b.Stats())
						}
					})
				}
			})
		}
	}
}

// A cold bulkhead rejects none of the calls of many threads that arrive at the same instant.
func TestBurst_coldAtOnce(t *testing.T) {
	const callers = 200
	for range 20 {
		b := newBulkhead(t, bulkhead.Config{})
		var rejected, in atomic.Int64
		testkit.AtOnce(callers, func(int) {
			if resilience.Run(context.Background(), b, func(context.Context) error {
				in.Add(1)
				for in.Load()+rejected.Load() < callers { // until all are in flight
					runtime.Gosched()
				}
				return nil
			}) != nil {
				rejected.Add(1)
			}
		})
		if s := b.Stats(); s.QueueFull+s.WaitExpired != 0 {
			t.Fatalf("rejected without evidence: %+v", s)
		}
	}
}

// A quiet client, with one call a second, may make many calls at once.
func TestBurst_quietClient(t *testing.T) {
	for _, d := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 500 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			b := newBulkhead(t, bulkhead.Config{})
			for range 60 {
				burst(b, 1, takes(d, nil))
				time.Sleep(time.Second)
			}
			for range 3 {
				if n := burst(b, 200, takes(d, nil)); n != 0 {
					t.Errorf("%v: %d of 200 rejected: %+v", d, n, b.Stats())
				}
				time.Sleep(time.Second)
			}
		})
	}
}

// After an hour without calls, a burst is not rejected, whatever the load was before.
func TestBurst_afterIdleHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		rng := rand.New(rand.NewPCG(8, 1))
		for range 3 {
			load(b, rng, 700, 5*time.Second, healthy)
			burst(b, 50, takes(3*time.Second, timeout{}))
			time.Sleep(time.Hour)
			if n := burst(b, 1000, takes(service, nil)); n != 0 {
				t.Errorf("%d rejected: %+v", n, b.Stats())
			}
			time.Sleep(time.Hour)
		}
	})
}

// The slots above those wanted that a burst leaves behind are no evidence against the next one.
func TestBurst_afterLeftoverSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		for range 20 {
			burst(b, 1, takes(10*time.Millisecond, nil))
		}
		for range 5 {
			if n := burst(b, 500, takes(10*time.Millisecond, nil)); n != 0 {
				t.Errorf("%d rejected: %+v", n, b.Stats())
			}
			time.Sleep(time.Hour)
		}
	})
}

// A dependency that hangs from the first call on is bounded after the first timeouts. The first
// two count in the load, because it is not known yet that most calls time out. Of 200 calls in
// flight they are 3 x 200 x (1 - (31/32)^2) = 37 slots, and three deviations of the arrivals more
// are 45.
func TestBurst_hangsFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		rng := rand.New(rand.NewPCG(9, 1))
		if _, n := load(b, rng, 200, 990*time.Millisecond, takes(time.Second, timeout{})); n != 0 {
			t.Errorf("%d rejected before the first timeout", n)
		}
		first := b.Stats().Slots
		for range 10 {
			load(b, rng, 200, time.Second, takes(time.Second, timeout{}))
			if s := b.Stats(); s.Slots > first+10 {
				t.Fatalf("%d slots after the first timeout: %+v", first, s)
			}
		}
		if s := b.Stats(); s.Slots > 45 || s.QueueFull == 0 {
			t.Errorf("after ten timeouts' time: %+v", s)
		}
		time.Sleep(2 * time.Second)
	})
}

// A dependency that begins to hang is bounded: the slots are those wanted and what arrives in
// twice the time that calls usually take.
func TestBurst_hangsAfterHealth(t *testing.T) {
	for name, before := range map[string]func(*testing.T, *bulkhead.Bulkhead, *rand.Rand){
		"at once": func(*testing.T, *bulkhead.Bulkhead, *rand.Rand) {},
		"after a quiet hour with one call": func(_ *testing.T, b *bulkhead.Bulkhead, _ *rand.Rand) {
			time.Sleep(time.Hour)
			burst(b, 1, takes(10*time.Millisecond, nil))
		},
		"after a burst": func(_ *testing.T, b *bulkhead.Bulkhead, _ *rand.Rand) {
			burst(b, 500, takes(10*time.Millisecond, nil))
		},
		"after a quiet minute": func(_ *testing.T, b *bulkhead.Bulkhead, rng *rand.Rand) {
			load(b, rng, 10, time.Minute, takes(10*time.Millisecond, nil))
		},
		"after a minute of quick failures": func(_ *testing.T, b *bulkhead.Bulkhead, rng *rand.Rand) {
			load(b, rng, 700, time.Minute, takes(50*time.Millisecond, errWork))
		},
	} {
		for _, warm := range []float64{200, 700, 3000} {
			t.Run(fmt.Sprint(name, ",", warm), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBulkhead(t, bulkhead.Config{})
					rng := rand.New(rand.NewPCG(10, 1))
					load(b, rng, warm, 5*time.Second, takes(10*time.Millisecond, nil))
					before(t, b, rng)
					slots := b.Stats().Slots
					load(b, rng, 2000, time.Second, takes(5*time.Second, timeout{}))
					most := slots + 2000*25/1000 + 25 // 25 ms, and three deviations of the arrivals
					if name == "after a minute of quick failures" {
						most += int(warm) * 50 / 1000 // those in flight answer, and count for the others
					}
					if s := b.Stats(); s.Slots > most || s.QueueFull+s.WaitExpired == 0 {
						t.Errorf("%d slots before, want at most %d: %+v", slots, most, s)
					}
					time.Sleep(6 * time.Second)
				})
			})
		}
	}
}

// The first pause rejects calls, because it could be a hang. The next ones of that length reject
// none, also if calls time out in them.
func TestBurst_pauses(t *testing.T) {
	const every, patience = 3 * time.Second, 500 * time.Millisecond
	for _, pause := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1900 * time.Millisecond} {
		for seed := range uint64(3) {
			synctest.Test(t, func(t *testing.T) {
				b := newBulkhead(t, bulkhead.Config{})
				rng := rand.New(rand.NewPCG(seed, 1))
				load(b, rng, 500, every, takes(10*time.Millisecond, nil))
				begin := time.Now()
				serve := func(context.Context, float64) error {
					wait := max(0, pause-time.Since(begin)%every)
					if time.Sleep(min(wait, patience)); wait > patience {
						return timeout{}
					}
					time.Sleep(10 * time.Millisecond)
					return nil
				}
				for i := range 4 {
					_, n := load(b, rng, 500, every, serve)
					if first := i == 0; n > 0 != first {
						t.Errorf("pause %d of %v, seed %d: %d rejected", i+1, pause, seed, n)
					}
				}
				time.Sleep(time.Second)
			})
		}
	}
}

// Without evidence there are at most 10 000 slots.
func TestBurst_mostSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{MaxQueue: bulkhead.NoQueue})
		if n := burst(b, 12_000, takes(time.Minute, nil)); n < 2000 || n > 2100 {
			t.Errorf("%d of 12 000 rejected: %+v", n, b.Stats())
		}
	})
}

// One or two timeouts are no evidence.
func TestBurst_fewTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead(t, bulkhead.Config{})
		burst(b, 1, takes(time.Second, timeout{}))
		burst(b, 1, takes(time.Second, timeout{}))
		if n := burst(b, 1000, takes(service, nil)); n != 0 {
			t.Errorf("%d rejected: %+v", n, b.Stats())
		}
	})
}

// Timeouts are evidence until two seconds, or the time of a call that times out, have passed twice.
func TestBurst_timeoutIsEvidence(t *testing.T) {
	for _, tt := range []struct {
		took, after time.Duration
		want        bool
	}{
		{time.Second, 0, true}, {time.Second, 2900 * time.Millisecond, true}, {time.Second, 8 * time.Second, false},
		{10 * time.Second, 0, true}, {10 * time.Second, 19 * time.Second, true}, {10 * time.Second, 31 * time.Second, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBulkhead(t, bulkhead.Config{})
			burst(b, timeouts, takes(tt.took, timeout{}))
			time.Sleep(tt.after)
			if n := burst(b, 100, takes(time.Minute, nil)); n > 0 != tt.want {
				t.Errorf("%d rejected %v after timeouts of %v", n, tt.after, tt.took)
			}
		})
	}
}

// If half of the calls hang for ten seconds, the others are not rejected: not before the first
// timeouts, not while the calls that hang end in a row, and not later.
func TestBurst_halfHang(t *testing.T) {
	for _, hangs := range []float64{0.3, 0.5, 0.6} {
		for seed := range uint64(3) {
			synctest.Test(t, func(t *testing.T) {
				b := newBulkhead(t, bulkhead.Config{})
				rng := rand.New(rand.NewPCG(seed, 1))
				load(b, rng, 100, 5*time.Second, takes(20*time.Millisecond, nil))
				sent, rejected := load(b, rng, 100, time.Minute, func(_ context.Context, luck float64) error {
					if luck < hangs {
						time.Sleep(10 * time.Second)
						return timeout{}
					}
					time.Sleep(20 * time.Millisecond)
					return nil
				})
				if rejected > sent/100 {
					t.Errorf("%v hang, seed %d: %d of %d calls rejected", hangs, seed, rejected, sent)
				}
				time.Sleep(10 * time.Second)
			})
		}
	}
}
