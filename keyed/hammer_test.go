package keyed_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/retry"
)

// tally counts the results of the calls, one number for each counter of a policy.
type tally struct {
	succeeded, failed, open, full, special atomic.Uint64
}

// hammered is a group with a template of three layers and one key of its own.
type hammered struct {
	g        *keyed.Group
	retry    *retry.Retry
	breaker  *breaker.Breaker
	bulkhead *bulkhead.Bulkhead
	own      *breaker.Breaker
}

func hammer(t *testing.T, keys int) *hammered {
	h := &hammered{
		retry:    resilience.Must(retry.New(retry.Config{MaxAttempts: 1})),
		breaker:  opensAtOnce(clock.NewMock()),
		bulkhead: resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: -1})),
		own:      resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Hour})),
	}
	h.g = must(t, resilience.Compose(h.retry, h.breaker, h.bulkhead), keyed.Config{
		Max: keys, Keys: map[string]resilience.Policy{"special": h.own},
	})
	return h
}

// call makes one call, counts its result and returns its error.
func (h *hammered) call(t *testing.T, n *tally, key string, fn resilience.Func) error {
	err := resilience.RunOperation(t.Context(), h.g, &call{key: key, fn: fn})
	switch {
	case errors.Is(err, breaker.ErrOpen):
		n.open.Add(1)
	case errors.Is(err, bulkhead.ErrFull):
		n.full.Add(1)
	case errors.Is(err, errBoom):
		n.failed.Add(1)
	case err == nil:
		n.succeeded.Add(1)
	default:
		t.Errorf("key %s: %v", key, err)
	}
	return err
}

// With 64 goroutines and 10,000 keys no call and no count is lost.
func TestGroup_concurrentCounts(t *testing.T) {
	const workers, calls, most, all = 64, 200, 100, 10_000
	h := hammer(t, most)
	var n tally
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 41))
			down := fmt.Sprint("down ", w)
			_ = h.call(t, &n, down, fail) // its breaker opens, and the mock clock does not move
			for i := range calls {
				key := fmt.Sprint(rng.IntN(all))
				switch i % 16 {
				case 0: // an open breaker is remembered
					if err := h.call(t, &n, down, succeed); !errors.Is(err, breaker.ErrOpen) {
						t.Errorf("%s: %v, though its breaker had opened", down, err)
					}
				case 1: // so is the key of a call in flight, whose only slot is taken
					_ = h.call(t, &n, key, func(context.Context) error {
						for range 4 {
							_ = h.call(t, &n, fmt.Sprint("inner ", rng.IntN(all)), succeed)
						}
						if err := h.call(t, &n, key, succeed); !errors.Is(err, bulkhead.ErrFull) {
							t.Errorf("%s was dropped during a call: %v", key, err)
						}
						return nil
					})
				case 2:
					_ = resilience.Run(t.Context(), h.g.For("special"), succeed)
					n.special.Add(1)
				default:
					_ = h.call(t, &n, key, succeed)
				}
			}
		})
	}
	wg.Wait()
	h.check(t, &n, most+workers)
}

// check compares the counters of the policies with the tally. At rest at most most keys
// may be remembered.
func (h *hammered) check(t *testing.T, n *tally, most int) {
	t.Helper()
	succeeded, failed, open, full := n.succeeded.Load(), n.failed.Load(), n.open.Load(), n.full.Load()
	if s := h.retry.Stats(); s.FirstTry != succeeded {
		t.Errorf("retry counted %+v of %d successes", s, succeeded)
	}
	if s := h.breaker.Stats(); s.Successes != succeeded || s.Failures != failed || s.Rejected != open || s.Ignored != full {
		t.Errorf("breaker counted %+v: want %d successes, %d failures, %d rejected, %d ignored", s, succeeded, failed, open, full)
	}
	if s := h.bulkhead.Stats(); s.Completed != succeeded+failed || s.QueueFull+s.WaitExpired != full || s.InFlight != 0 || s.Queued != 0 {
		t.Errorf("bulkhead counted %+v, want %d and %d", s, succeeded+failed, full)
	}
	if s := h.own.Stats(); s.Successes != n.special.Load() {
		t.Errorf("the exception counted %+v of %d", s, n.special.Load())
	}
	there := 0
	for range h.g.All() {
		there++
	}
	s := h.g.Stats()
	if s.Keys != there || s.Evicted == 0 {
		t.Errorf("counted %+v, %d keys are there", s, there)
	}
	flood(t, h.g, 300) // nothing is in flight now, so only open breakers are kept
	if k := h.g.Stats().Keys; k > most {
		t.Errorf("%d keys at rest, want at most %d", k, most)
	}
}

// Keys that must be kept do not make each insertion sweep.
func TestGroup_sweepsRarely(t *testing.T) {
	const keys, most = 800, 80
	var asked atomic.Int64
	g := must(t, &forker{idle: func() bool { asked.Add(1); return false }}, keyed.Config{Max: most})
	for i := range keys {
		_ = run(t, g.For(fmt.Sprint(i)), succeed)
	}
	// A sweep runs each time that an eighth of Max has come on top: 72 times. It calls Idle
	// of each key at most twice. A sweep at each insertion would call it ten times as often.
	if n := asked.Load(); n < keys || n > 72*keys*2 {
		t.Errorf("Idle was called %d times", n)
	}
}
