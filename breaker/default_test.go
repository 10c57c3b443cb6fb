package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

// drive makes a call every interval for d, each failing with the probability
// given, and returns how many were made and how many reached the dependency.
func (r *rig) drive(rng *rand.Rand, interval, d time.Duration, fail float64) (made, reached int) {
	for range int(d / interval) {
		var err error
		if rng.Float64() < fail {
			err = errDown
		}
		made++
		if got := r.run(err); !errors.Is(got, breaker.ErrOpen) {
			reached++
		}
		r.clock.add(interval)
	}
	return made, reached
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 17)) }

// TestDefault_opensWithinTenSeconds: at one call a second, all failing, the default
// opens within 10 s.
func TestDefault_opensWithinTenSeconds(t *testing.T) {
	r := newRig(t, breaker.Config{})
	r.drive(seeded(0), time.Second, time.Minute, 0)
	start := r.clock.Now()
	for r.Stats().Opened == 0 {
		r.drive(seeded(0), time.Second, time.Second, 1)
	}
	if d := r.clock.Now().Sub(start); d > 10*time.Second {
		t.Errorf("opened after %v", d)
	}
}

// TestDefault_fivePercentFailing: with 5 % of the calls failing the default does not
// open in a week.
func TestDefault_fivePercentFailing(t *testing.T) {
	for seed := range uint64(3) {
		r := newRig(t, breaker.Config{})
		r.drive(seeded(seed), time.Second, 7*24*time.Hour, 0.05)
		if s := r.Stats(); s.Opened != 0 {
			t.Errorf("seed %d: opened %d times", seed, s.Opened)
		}
	}
}

// TestDefault_halfFailing: with half of 50 calls a second failing the default does not
// open in an hour.
func TestDefault_halfFailing(t *testing.T) {
	for seed := range uint64(3) {
		r := newRig(t, breaker.Config{})
		r.drive(seeded(seed), 20*time.Millisecond, time.Hour, 0.5)
		if s := r.Stats(); s.Opened != 0 {
			t.Errorf("seed %d: opened %d times", seed, s.Opened)
		}
	}
}

// TestDefault_firstErrors: the first errors after the start do not open.
func TestDefault_firstErrors(t *testing.T) {
	r := newRig(t, breaker.Config{})
	r.drive(seeded(0), time.Millisecond, 900*time.Millisecond, 1)
	r.want(breaker.Closed)
}

// TestDefault_slowStart: after a recovery one more call is admitted for each success.
func TestDefault_slowStart(t *testing.T) {
	r := newRig(t, breaker.Config{})
	r.silence(7, time.Second)
	r.openTime()
	credit := 1
	for r.State() == breaker.HalfOpen {
		calls := []*held{}
		for {
			h := r.start(context.Background())
			if h == nil {
				break
			}
			calls = append(calls, h)
		}
		if len(calls) != credit {
			t.Fatalf("%d calls in flight, want the credit of %d", len(calls), credit)
		}
		for _, h := range calls {
			if r.State() == breaker.HalfOpen {
				credit++
			}
			_ = h.finish(nil)
		}
		if s := r.Stats(); s.State == breaker.HalfOpen && (s.Credit != credit || s.InFlight != 0) {
			t.Fatalf("credit %d, in flight %d after %d successes", s.Credit, s.InFlight, credit-1)
		}
	}
	r.want(breaker.Closed)
	if credit != 65 {
		t.Errorf("closed after %d successes, want 64", credit-1)
	}
}

// TestDefault_burstInHalfOpen: a burst of timeouts in HALF_OPEN opens again.
func TestDefault_burstInHalfOpen(t *testing.T) {
	r := defaultHalfOpen(t, 10)
	var calls []*held
	for h := r.start(t.Context()); h != nil; h = r.start(t.Context()) {
		calls = append(calls, h)
	}
	for _, h := range calls {
		r.want(breaker.HalfOpen)
		_ = h.finish(errTimeout)
	}
	r.want(breaker.Open)
	if e := r.seen[len(r.seen)-1]; len(calls) != 10 || e.Failures != 10 || e.Err != errTimeout {
		t.Errorf("%d calls, event %+v", len(calls), e)
	}
}

// TestDefault_noticesRecovery: the end of an outage is noticed in proportion to its
// length, with few probes.
func TestDefault_noticesRecovery(t *testing.T) {
	const interval = 20 * time.Millisecond
	for _, outage := range []time.Duration{3 * time.Second, 10 * time.Second, time.Minute} {
		for seed := range uint64(20) {
			t.Run(fmt.Sprint(outage, "/", seed), func(t *testing.T) {
				r := newRig(t, breaker.Config{})
				rng := seeded(seed)
				r.clock.add(time.Duration(rng.Int64N(int64(interval))))
				r.drive(rng, interval, time.Minute, 0)
				made, reached := r.drive(rng, interval, outage, 1)
				if outage == time.Minute && float64(reached) >= 0.08*float64(made) {
					t.Errorf("%d of %d calls reached the dependency", reached, made)
				}
				up := r.clock.Now()
				for r.run(nil) != nil {
					r.clock.add(interval)
				}
				if d := r.clock.Now().Sub(up); d > outage/25+80*time.Millisecond {
					t.Errorf("noticed after %v", d)
				}
			})
		}
	}
}

// stream is an operation that goes on when Run has returned.
type stream struct {
	resilience.Tail
	run uint32
}

func (s *stream) Run(context.Context) error { s.run = s.Begin(); return nil }
func (s *stream) Discard()                  { s.End(s.run, context.Canceled) }
