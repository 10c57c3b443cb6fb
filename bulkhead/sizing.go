package bulkhead

import (
	"math"
	"time"

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

	// halfLife is the time in which high falls by half, and how long a timeout is evidence and a
	// pause is remembered.
	halfLife = int64(30 * time.Second)
	// forgetEvery is the least time after which high is lowered again.
	forgetEvery = int64(250 * time.Millisecond)

	// fraction is the number of binary digits after the point of avg and high.
	fraction = 12
	// maxLoad bounds avg and high, so that they fit into 32 bits each.
	maxLoad = 1 << (31 - fraction)
)

// answerer is a Bulkhead as the Settler of the answers of lasting operations.
type answerer Bulkhead

func (a *answerer) Settle(t uint64, err error) {
	b := (*Bulkhead)(a)
	outcome := resilience.Success
	defer b.wentOn.Add(1) // also if a method of err panics
	if err != nil {
		outcome = policykit.LateOutcome(err, nil)
	}
	b.answer(ticket(t), outcome, err, false)
}

// learn records how a call ended, and reports whether it counts in the load: if most calls
// time out, those do not.
func (b *Bulkhead) learn(t ticket, o resilience.Outcome, timedOut, own bool) (counts bool) {
	now := b.clock.Nanos()
	admitted, inFlight, goingOn := b.look()
	b.mu.Lock()
	defer b.mu.Unlock()
	c, took, n := &b.congestion, t.took(now), t.number(admitted)
	switch {
	case timedOut:
		b.burst.timeouts++
		c.timedOut(now, took, n, admitted, inFlight, own)
	case o == resilience.Success:
		if b.burst.succeeded(now, took) {
			b.beforePause.Store(admitted)
		}
		c.succeeded(now, took, n, admitted)
	default:
		c.endedOtherwise(now, n, admitted)
	}
	b.burst.move(now, b.flow(admitted, inFlight, goingOn), int64(b.congestion.timeout))
	b.setWindow(now, inFlight)
	if passed := now - b.forgot; passed >= forgetEvery {
		b.forget(passed)
		b.forgot = now
	}
	b.chooseTimed(now, admitted)
	return o == resilience.Success || timedOut && !c.mostTimeOut()
}

// flow returns the flow of calls, of which so many are in flight. The caller holds mu.
func (b *Bulkhead) flow(admitted, inFlight, goingOn int64) flow {
	timeouts := b.burst.timeouts
	return flow{admitted, admitted - inFlight + goingOn - timeouts, timeouts}
}

// chooseTimed decides which calls are timed: while there are many and none has timed out lately,
// one in 64. The caller holds mu.
func (b *Bulkhead) chooseTimed(now, admitted int64) {
	before := b.untimed.Load()
	untimed := before
	if calls := admitted - b.rateFrom.admitted; calls >= rateCalls {
		untimed = 0
		if float64(now-b.rateFrom.at) < float64(calls)/manyCalls*float64(time.Second) {
			untimed = timedShare - 1
		}
		b.rateFrom.admitted, b.rateFrom.at = admitted, now
	}
	if b.congestion.recent() {
		untimed = 0
	}
	if untimed != before {
		b.untimed.Store(untimed)
	}
}

// setWindow makes the window of the congestion the number of slots. It holds back the slots
// above it that are free. The others are held back as their calls end. The caller holds mu.
func (b *Bulkhead) setWindow(now, inFlight int64) {
	w := int64(b.congestion.window)
	if before := b.window.Swap(w); (before == 0) != (w == 0) {
		b.changed = now
	}
	if w == 0 {
		return
	}
	if free := b.slots.Load() - max(w, inFlight); free > 0 && b.sem.TryAcquire(free) {
		b.slots.Add(-free)
	}
}

// forget lowers high by the time that has passed.
func (b *Bulkhead) forget(passed int64) {
	left := math.Exp2(-float64(passed) / float64(halfLife))
	for {
		w := b.load.Load()
		avg, high := unpack(w)
		if b.load.CompareAndSwap(w, uint64(avg)<<32|uint64(float64(high)*left)) {
			return
		}
	}
}

// exceed is called for a call that has found no slot. If the call may exceed the slots, there is
// one more for it, and exceed returns true. may reports whether the call may at least be queued,
// because slots were added for those ahead of it.
func (b *Bulkhead) exceed() (has, may bool) {
	returned := false
	defer func() {
		if !returned { // the Clock has panicked
			b.arrived.Add(-1)
		}
	}()
	now := b.clock.Nanos()
	returned = true
	admitted, inFlight, goingOn := b.look()
	b.mu.Lock()
	defer b.mu.Unlock()
	congested := b.congestion.isFull(now)
	b.setWindow(now, inFlight)
	if congested {
		return false, false
	}
	b.untimed.Store(0) // so that burst.succeeded is called for the next success
	slots := b.slots.Load()
	_, high := unpack(b.load.Load())
	switch want := wanted(high); {
	case want > slots: // a congestion has just ended
		b.addSlots(want)
	case !b.burst.admits(now, slots, want, b.flow(admitted, inFlight, goingOn), int64(b.congestion.timeout)):
		return false, false
	case b.queued.Load() > 0:
		b.addSlots(slots + 1)
	default:
		b.slots.Store(slots + 1) // with the token that was held back, which is the call's now
		return true, true
	}
	return b.sem.TryAcquire(1), true
}

// answer adds a call to the load, one word that contains, in fixed point:
//
//	avg, the average number admitted while a call ran, 32 bits | high 32 bits
//
// Calls write it when they answer, and learn lowers high. A call that loses the exchange
// starts again from the winner's value. A load that stays the same is not written, as with
// one caller that makes one call after another.
//
// A call that ran for a long time may have seen more calls admitted than were ever in
// flight at once. It counts in full, because the many short calls see few. But high does
// not rise above the number in flight. A call that is Ignored changes nothing, and neither does one
// that was admitted before the end of a pause, unless it adds 0.
func (b *Bulkhead) answer(t ticket, o resilience.Outcome, err error, own bool) {
	if o == resilience.Ignored {
		if b.window.Load() > 0 {
			b.learn(t, o, false, false)
		}
		return
	}
	counts := o == resilience.Success
	timedOut := !counts && policykit.TimedOut(err)
	if timedOut || t.timed() || b.untimed.Load() == 0 {
		counts = b.learn(t, o, timedOut, own)
	}
	var ran, goingOn, inFlight int64
	if counts {
		ran, inFlight, goingOn = b.look()
		n := t.number(ran)
		if n <= b.beforePause.Load() {
			return // its wait for the end of the pause is no load
		}
		ran = min(max(1, ran-n+1), maxLoad)
		goingOn, inFlight = goingOn<<fraction, min(inFlight, maxLoad)<<fraction
	}
	for {
		w := b.load.Load()
		avg, high := unpack(w)
		avg += (ran<<fraction - avg) / smoothing
		high = max(min(avg+goingOn, inFlight), high)
		next := uint64(avg)<<32 | uint64(high)
		if next == w || b.load.CompareAndSwap(w, next) {
			if want := b.wanted(high); want > b.slots.Load() {
				b.grow(want)
			}
			return
		}
	}
}

// wanted returns the number of slots that there should be.
func (b *Bulkhead) wanted(high int64) int64 {
	if w := b.window.Load(); w > 0 {
		return w
	}
	return wanted(high)
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

// grow raises the number of slots to want. If another goroutine is changing the number, the
// next call that answers tries again.
func (b *Bulkhead) grow(want int64) {
	if b.mu.TryLock() {
		b.addSlots(want)
		b.mu.Unlock()
	}
}

// addSlots raises the number of slots to want, unless it is higher. It releases tokens of the
// semaphore that were held back. The caller holds mu.
func (b *Bulkhead) addSlots(want int64) {
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
	if slots == minSlots && b.window.Load() == 0 {
		return false
	}
	_, high := unpack(b.load.Load())
	want := b.wanted(high)
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
