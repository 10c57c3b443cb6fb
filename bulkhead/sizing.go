package bulkhead

import (
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

const (
	// minSlots is the least number of slots of a bulkhead that sizes itself. A new process
	// can start with it, and it does not use up a pool of connections.
	minSlots = 24
	// headroom is the number of slots per call that is usually in flight. Three leaves
	// slots for bursts.
	headroom = 3
	// smoothing is how many calls the moving average covers: a call counts as one part in
	// 32, so that one slow call moves it little.
	smoothing = 32
	// decay is how many calls high lasts: each call takes one part in 1024 of it, so it
	// halves in about 700 calls.
	decay = 1024

	// fraction is the number of binary digits after the point of avg and high.
	fraction = 12
	// maxLoad bounds avg and high, so that they fit into 32 bits each.
	maxLoad = 1 << (31 - fraction)
)

// answerer is a Bulkhead as the Settler of the answers of lasting operations.
type answerer Bulkhead

func (a *answerer) Settle(n uint64, err error) {
	b := (*Bulkhead)(a)
	outcome := resilience.Success
	defer b.wentOn.Add(1) // also if a method of err panics
	if err != nil {
		outcome = policykit.LateOutcome(err, nil)
	}
	b.answer(int64(n), outcome)
}

// answer adds the n-th admitted call to the load, one word that contains, in fixed point:
//
//	avg, the average number admitted while a call ran, 32 bits | high 32 bits
//
// Calls write it when they answer. A call that loses the exchange starts again from the
// winner's value. A load that stays the same is not written, as with one caller that makes
// one call after another.
//
// A call that ran for a long time may have seen more calls admitted than were ever in
// flight at once. It counts in full, because the many short calls see few. But high does
// not rise above the number in flight. A call that is Ignored changes nothing.
func (b *Bulkhead) answer(n int64, o resilience.Outcome) {
	var ran, goingOn, inFlight int64
	switch o {
	case resilience.Ignored:
		return
	case resilience.Success:
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
			if want := wanted(high); want > b.slots.Load() {
				b.grow(want)
			}
			return
		}
	}
}

// look returns how many calls have been admitted, how many of them are in flight, and how
// many of those have answered. Calls that have just arrived, and will be queued or
// rejected, cannot be told from admitted calls. But never more calls are in flight than
// there are slots.
func (b *Bulkhead) look() (admitted, inFlight, goingOn int64) {
	queued, departed := b.queued.Load(), b.departed.Load()
	goingOn = int64((b.wentOn.Load()-departed>>departedBits)<<departedBits) >> departedBits
	admitted = b.arrived.Load() - queued
	inFlight = here(admitted, departed)
	if undecided := inFlight - b.slots.Load(); undecided > 0 {
		admitted, inFlight = admitted-undecided, inFlight-undecided
	}
	return admitted, inFlight, max(0, goingOn)
}

func unpack(load uint64) (avg, high int64) { return int64(load >> 32), int64(load & (1<<32 - 1)) }

// wanted returns the number of slots that high asks for.
func wanted(high int64) int64 { return max(minSlots, headroom*high>>fraction) }

// grow raises the number of slots to want. It releases tokens of the semaphore that were
// held back. If another goroutine is changing the number, the next call that answers tries
// again.
func (b *Bulkhead) grow(want int64) {
	if !b.mu.TryLock() {
		return
	}
	defer b.mu.Unlock()
	if d := want - b.slots.Load(); d > 0 {
		b.slots.Store(want) // before Release, so that never more slots are taken than there are
		b.sem.Release(d)
	}
}

// shrink lowers the number of slots by one and returns true if there are more slots than
// wanted. The caller then holds back the slot that becomes free. So the number falls by
// one with each call that ends, even while calls are queued, and never below the calls in
// flight.
func (b *Bulkhead) shrink() bool {
	slots := b.slots.Load()
	if slots == minSlots {
		return false
	}
	_, high := unpack(b.load.Load())
	want := wanted(high)
	if want >= slots || !b.mu.TryLock() {
		return false
	}
	defer b.mu.Unlock()
	if want >= b.slots.Load() {
		return false // another goroutine was faster
	}
	b.slots.Add(-1)
	return true
}
