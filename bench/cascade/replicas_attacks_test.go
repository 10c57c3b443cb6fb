package cascade_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
)

// attacks are what could make endpoints worse than a random choice.
var attacks = []*replicated{
	{name: "1 % of the requests take 50x longer, timeout 5 s", attempt: 5 * time.Second, takes: longTail(.01, 50)},
	{name: "2 % of the requests take 10x longer", takes: longTail(.02, 10)},
	{name: "1 % of the callers have 10 ms", hurries: hurrying(.01)},
	{name: "30 % of the callers have 10 ms", hurries: hurrying(.3)},
	{name: "one hangs, 30 % of the callers have 10 ms", hurries: hurrying(.3), is: one(during(condition{answer: hangs}))},
	{name: "timeout 50 ms", attempt: 50 * time.Millisecond, mean: 2 * time.Millisecond},
	{name: "one hangs, timeout 50 ms", attempt: 50 * time.Millisecond, mean: 2 * time.Millisecond, is: one(during(condition{answer: hangs}))},
	{name: "timeout 10 s, callers leave after 2 s", attempt: 10 * time.Second, deadline: 2 * time.Second},
	{name: "one hangs, timeout 10 s, callers leave after 2 s", attempt: 10 * time.Second, deadline: 2 * time.Second, is: one(during(condition{answer: hangs}))},
	{name: "one hangs from the first call on", cold: true, is: one(during(condition{answer: hangs}))},
	{name: "healthy", hundred: true},
	{name: "one refuses", hundred: true, is: one(during(condition{answer: refuses}))},
	{name: "one hangs", hundred: true, is: one(during(condition{answer: hangs}))},
	{name: "half are down", hundred: true, is: halfIn(condition{answer: refuses})},
	{name: "all hang for 8 s", hundred: true, is: alike(lasting(8*time.Second, condition{answer: hangs}))},
	{name: "one answers 429", is: one(during(condition{answer: sheds}))},
	{name: "one answers half with 429", is: one(during(condition{answer: sheds, share: .5}))},
	{name: "one answers garbage, 10x slower", is: one(during(condition{answer: garbles, slower: 10}))},
	{name: "one hangs for half of the requests", is: one(during(condition{answer: hangs, share: .5}))},
	{name: "one pauses 400 ms every 3 s", is: one(func(at time.Duration) condition {
		return condition{pause: max(0, 400*time.Millisecond-at%(3*time.Second))}
	})},
	{name: "all pause 400 ms every 3 s", is: alike(func(at time.Duration) condition {
		return condition{pause: max(0, 400*time.Millisecond-at%(3*time.Second))}
	})},
	{name: "half hang", is: halfIn(condition{answer: hangs})},
	{name: "half answer 503", is: halfIn(condition{answer: fails})},
	{name: "one address changes every 3 s", moves: moving(3*time.Second, 1)},
	{name: "all addresses change every 10 s", moves: moving(10*time.Second, math.MaxInt)},
	{name: "one refuses, all addresses change every 10 s", moves: moving(10*time.Second, math.MaxInt), is: one(during(condition{answer: refuses}))},
	{name: "one refuses, the clock is set back an hour", clock: steps(-time.Hour), is: one(during(condition{answer: refuses}))},
	{name: "one hangs, the clock is set forward an hour", clock: steps(time.Hour), is: one(during(condition{answer: hangs}))},
	{name: "the clock is set back an hour", clock: steps(-time.Hour)},
	{name: "the clock is set forward an hour", clock: steps(time.Hour)},
}

// longTail is exponentially distributed for most requests, and times longer for a share.
func longTail(share, times float64) quantile {
	return func(u float64) float64 {
		if u < share {
			return -times * math.Log(1-u/share)
		}
		return -math.Log(1 - (u-share)/(1-share))
	}
}

// hurrying has a share of the callers leave after 10 ms.
func hurrying(share float64) func(*rand.Rand) time.Duration {
	return func(luck *rand.Rand) time.Duration {
		if luck.Float64() < share {
			return 10 * time.Millisecond
		}
		return time.Hour
	}
}

// halfIn has half of the replicas in trouble.
func halfIn(c condition) func(i, n int) func(time.Duration) condition {
	return func(i, n int) func(time.Duration) condition {
		if i < n/2 {
			return during(c)
		}
		return nil
	}
}

// moving has so many of the addresses change again and again, first the addresses of the last
// replicas.
func moving(every time.Duration, most int) func(*choosing) {
	return func(c *choosing) {
		var move func()
		turn := 0
		move = func() {
			for range min(most, len(c.addresses)) {
				turn++
				i := turn % len(c.addresses)
				c.addresses[i] = fmt.Sprintf("%03d-%d", i, turn)
			}
			c.update()
			if turn < 1000 && time.Since(c.replicas[0].begin) < trouble {
				time.AfterFunc(every, move)
			}
		}
		time.AfterFunc(every, move)
	}
}

// stepping is a clock that is set once.
type stepping struct {
	clock.Clock
	at time.Time // when it is set
	by time.Duration
}

// steps is a clock that is set in the middle of the trouble.
func steps(by time.Duration) func(start time.Time) clock.Clock {
	return func(start time.Time) clock.Clock {
		return &stepping{clock.New(), start.Add(leadOfReplicas + trouble/2), by}
	}
}

func (s *stepping) Now() time.Time {
	now := time.Now()
	if now.Before(s.at) {
		return now
	}
	return now.Add(s.by)
}

func (s *stepping) Since(t time.Time) time.Duration { return s.Now().Sub(t) }
func (s *stepping) Until(t time.Time) time.Duration { return t.Sub(s.Now()) }

// Endpoints are never worse than the stack without them, whatever the trouble. The demand on
// the time is for processes with at least 50 calls a second. More requests and a longer tail
// are no loss if many more calls succeed.
func TestEndpoints_neverWorseThanTheStack(t *testing.T) {
	if brief() {
		t.Skip("single runs stray")
	}
	rows := []string{
		"| scenario | replicas | processes | ok %: stack | endpoints | p99 ms: stack | endpoints | p999 ms: stack | endpoints | share %: endpoints | load: stack | endpoints | ejections |",
		"|" + strings.Repeat("---|", 13),
	}
	done := replicaTrials{}
	for _, s := range attacks {
		for _, n := range []int{3, 20, 100} {
			for _, f := range []fleet{few, many, alone} {
				if !*printTable && (n != 3 || f != few) || n == 20 && f != few || n == 100 && !s.hundred {
					continue
				}
				t.Run(fmt.Sprintf("%s, %d replicas, %v", s.name, n, f), func(t *testing.T) {
					stack, ours := done.of(t, s, n, f, stackRandom), done.of(t, s, n, f, stackChoosing)
					gain := ours.success() - stack.success()
					if gain < -1.5 {
						t.Errorf("%.2f %% succeed, %.2f %% without endpoints", ours.success(), stack.success())
					}
					if f.rate >= 50 && gain < 1 && (ours.load() > stack.load()+0.1 || ours.quantile(.99) > 1.15*stack.quantile(.99)) {
						t.Errorf("%.3f requests for each call, 99th percentile %.0f ms; without endpoints %.3f and %.0f ms",
							ours.load(), ours.quantile(.99), stack.load(), stack.quantile(.99))
					}
					rows = append(rows, fmt.Sprintf("| %s | %d | %v | %.2f | %.2f | %.0f | %.0f | %.0f | %.0f | %.2f | %.2f | %.2f | %d |", s.name, n, f,
						stack.success(), ours.success(), stack.quantile(.99), ours.quantile(.99), stack.quantile(.999), ours.quantile(.999),
						ours.share(0, trouble), stack.load(), ours.load(), ours.ejections))
				})
			}
		}
	}
	if *printTable {
		show(t, rows)
	}
}
