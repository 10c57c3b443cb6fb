package bulkhead

import (
	"context"

	"github.com/resilience-go/resilience"
)

const (
	minLimit  = 24
	headroom  = 3    // limit per call usually in flight
	smoothing = 32   // the moving average takes one part in so many of each call
	decay     = 1024 // high loses one part in so many with each call

	fraction = 12 // binary digits behind the point of avg and high
	maxLoad  = 1 << (31 - fraction)
)

// answered is a Bulkhead that hears when lasting operations have answered.
type answered Bulkhead

func (a *answered) Settle(n uint64, err error) {
	b := (*Bulkhead)(a)
	if err != nil {
		defer b.wentOn.Add(1) // whatever methods of err do
		b.answer(int64(n), err)
		return
	}
	b.answer(int64(n), nil)
	b.wentOn.Add(1)
}

// answer adds the call that was the n-th to be admitted to the load, a word that
// holds
//
//	average admitted while a call ran 32 | high 32
//
// in fixed point. Its writers are the calls as they answer; who loses the
// exchange starts again from what the winner left. A load that stays as it is is
// not written, as with one caller that makes one call after another.
//
// A call that ran for long may have seen more admitted than were ever in flight
// at once, and counts in full, since the many short ones see few. But high does
// not rise above what is in flight.
func (b *Bulkhead) answer(n int64, err error) {
	var ran, goingOn, inFlight int64
	if err == nil || resilience.OutcomeOf(context.Background(), err, nil) == resilience.Success {
		ran, inFlight, goingOn = b.look()
		ran = min(max(1, ran-n+1), maxLoad)
		goingOn, inFlight = goingOn<<fraction, min(inFlight, maxLoad)<<fraction
	}
	for {
		w := b.load.Load()
		avg, high := unpack(w)
		avg += (ran<<fraction - avg) / smoothing
		high = max(min(avg+goingOn, inFlight), high-high/decay)
		next := uint64(avg)<<32 | uint64(high)
		if next == w || b.load.CompareAndSwap(w, next) {
			if want := wanted(high); want > b.limit.Load() {
				b.grow(want)
			}
			return
		}
	}
}

func unpack(load uint64) (avg, high int64) { return int64(load >> 32), int64(load & (1<<32 - 1)) }

func wanted(high int64) int64 { return max(minLimit, headroom*high>>fraction) }

// grow raises the limit to want by giving out tokens of the semaphore that were
// held back. If another goroutine is moving it, the next call that answers tries
// again.
func (b *Bulkhead) grow(want int64) {
	if !b.mu.TryLock() {
		return
	}
	defer b.mu.Unlock()
	if d := want - b.limit.Load(); d > 0 {
		b.limit.Store(want) // first, so that there are never more taken than it says
		b.sem.Release(d)
	}
}

// shrink reports whether a slot that has become free is to be held back, because
// the limit is higher than wanted, and lowers the limit by it. So the limit falls
// by one with each call that ends, also while others wait, and never below what is
// in flight.
func (b *Bulkhead) shrink() bool {
	limit := b.limit.Load()
	if limit == minLimit {
		return false
	}
	_, high := unpack(b.load.Load())
	want := wanted(high)
	if want >= limit || !b.mu.TryLock() {
		return false
	}
	defer b.mu.Unlock()
	if want >= b.limit.Load() {
		return false // somebody else was quicker
	}
	b.limit.Add(-1)
	return true
}
