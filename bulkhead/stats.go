package bulkhead

// Stats is what a Bulkhead has counted since it was made, and how it stands.
//
// Every call of Apply or Acquire whose context was not done when it came ends up
// in exactly one of the counters: Completed, QueueFull, WaitExpired, Canceled.
// They never fall and are those of a bulkhead and all its forks. InFlight and
// Waiting are those of a fork alone, or of a bulkhead with all its forks; Limit,
// Average and High are its own.
//
// If Limit stays at 24 while QueueFull grows, look at how the calls end: what fails
// does not raise it.
type Stats struct {
	// InFlight calls hold a slot, Queued callers are in line for one.
	InFlight, Queued int
	// Slots is how many slots there are at this moment.
	Slots int
	// Average and High are what Bulkhead describes: of the calls that were admitted
	// while a call ran, over about 32 calls, and the highest of late with those that
	// go on, which loses half in about 700 calls. Average may exceed High, which is
	// never more than were in flight. Both are 0 with a Config.Slots.
	Average, High float64
	// Completed calls had a slot and have ended.
	Completed uint64
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
		InFlight:    int(b.inFlight()),
		Queued:      int(b.waiting.Load()),
		Slots:       int(b.limit.Load()),
		Average:     float64(avg) / (1 << fraction),
		High:        float64(high) / (1 << fraction),
		Completed:   b.root.completed() + b.forks.completed(),
		QueueFull:   b.queueFull.Load(),
		WaitExpired: b.waitExpired.Load(),
		Canceled:    b.canceled.Load(),
	}
	if b == b.root {
		s.InFlight += int(b.forks.inFlight())
		s.Queued += int(b.forks.waiting.Load())
	}
	return s
}
