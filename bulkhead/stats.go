package bulkhead

// Stats is what a Bulkhead has counted since it was made, and how it stands.
//
// Every call of Apply or Acquire whose context was not done when it came ends up
// in exactly one of the counters: Admitted + QueueFull + WaitExpired + Canceled
// are the calls, less those that wait. The counters never fall and are those of a
// bulkhead and all its forks. InFlight and Waiting are those of a fork alone, or
// of a bulkhead with all its forks; Limit, Average and High are its own.
//
// A bulkhead that sizes itself, with a Config.Limit of 0, keeps its Limit at
// 3 x High, rounded down, and at 24 or more; it falls by one slot with each call
// that ends, so it may lag behind a High that has fallen. If Limit stays at 24 while
// QueueFull grows, look at how the calls end: what fails does not raise it.
type Stats struct {
	// InFlight calls hold a slot, Waiting callers are in line for one.
	InFlight, Waiting int
	// Limit is how many slots there are at this moment.
	Limit int
	// Average is the moving average of the calls in flight as calls answer, over
	// about 32 of them, in which a call that did not succeed counts as 0. High is
	// the highest Average of late: it loses half in about 700 calls. Both are 0
	// with a Config.Limit.
	Average, High float64
	// Admitted calls had or have a slot.
	Admitted uint64
	// QueueFull calls were rejected because the queue was full, WaitExpired calls
	// because they had waited for Config.MaxWait.
	QueueFull, WaitExpired uint64
	// Canceled callers gave up while they waited.
	Canceled uint64
}

// Stats returns the counters. They are read one after another while calls go on,
// so they agree with each other once the bulkhead is at rest.
func (b *Bulkhead) Stats() Stats {
	avg, high := unpack(b.load.Load())
	s := Stats{
		Limit:       int(b.limit.Load()),
		Average:     float64(avg) / (1 << fraction),
		High:        float64(high) / (1 << fraction),
		Admitted:    b.admitted.Load() + b.forks.admitted.Load(),
		QueueFull:   b.queueFull.Load(),
		WaitExpired: b.waitExpired.Load(),
		Canceled:    b.canceled.Load(),
	}
	waiting := b.waiting.Load()
	inFlight := b.here.Load() - waiting
	if b == b.root {
		ended := b.forks.ended.Load()
		inFlight += int64(b.forks.admitted.Load() - ended)
		waiting += b.forks.waiting.Load()
	}
	s.InFlight, s.Waiting = int(max(0, inFlight)), int(waiting)
	return s
}
