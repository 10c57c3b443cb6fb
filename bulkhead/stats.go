package bulkhead

// Stats is what a Bulkhead has counted since it was made, and its present state.
type Stats struct {
	Counters
	Gauges
}

// Counters are the counters of a bulkhead and all its forks. They never fall.
//
// Every call of Apply or Acquire whose context was not done when it came is counted in
// exactly one of them.
//
// If Gauges.Slots stays at 24 while QueueFull grows, look at how the calls end: a call
// that fails does not raise the number of slots.
type Counters struct {
	// Completed calls had a slot and have ended.
	Completed uint64
	// QueueFull calls were rejected because the queue was full, WaitExpired calls
	// because they had waited for Config.MaxWait.
	QueueFull, WaitExpired uint64
	// Canceled callers gave up while they were queued.
	Canceled uint64
}

// Gauges are the present state of one bulkhead without its forks.
type Gauges struct {
	// InFlight calls hold a slot, Queued callers wait for one.
	InFlight, Queued int
	// Slots is how many slots there are at this moment.
	Slots int
	// Average is a moving average, over about 32 calls, of the calls that were admitted
	// while one call ran. High is its recent maximum together with the calls that have
	// answered and go on; it loses half in about 700 calls. Average may exceed High,
	// which never exceeds the calls in flight. Both are 0 with a Config.Slots.
	Average, High float64
}

// Stats returns the counters and gauges. They are read one after another while calls go
// on, so they agree with each other once the bulkhead is at rest.
func (b *Bulkhead) Stats() Stats { return Stats{b.counters(), b.gauges()} }

func (b *Bulkhead) counters() Counters {
	return Counters{
		Completed:   b.root.completed() + b.forksCompleted.Load(),
		QueueFull:   b.queueFull.Load(),
		WaitExpired: b.waitExpired.Load(),
		Canceled:    b.canceled.Load(),
	}
}

func (b *Bulkhead) gauges() Gauges {
	avg, high := unpack(b.load.Load())
	return Gauges{
		InFlight: int(b.inFlight()),
		Queued:   int(b.waiting.Load()),
		Slots:    int(b.limit.Load()),
		Average:  float64(avg) / (1 << fraction),
		High:     float64(high) / (1 << fraction),
	}
}
