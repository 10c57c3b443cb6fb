package bulkhead

// Stats is what a Bulkhead has counted since it was made. The counters are those
// of a bulkhead and all its forks. InFlight and Waiting are those of a fork
// alone, or of a bulkhead with all its forks; Limit is its own.
type Stats struct {
	// InFlight calls hold a slot, Waiting callers are in line for one.
	InFlight, Waiting int
	// Limit is how many slots there are at this moment.
	Limit int
	// Admitted calls had or have a slot.
	Admitted uint64
	// Rejected calls found the queue full, or waited for longer than
	// Config.MaxWait.
	QueueFull, WaitExpired uint64
	// Canceled callers gave up while they waited.
	Canceled uint64
}

// Stats returns the counters. They are read one after another while calls go on,
// so they agree with each other once the bulkhead is at rest.
func (b *Bulkhead) Stats() Stats {
	s := Stats{
		Limit:       int(b.limit.Load()),
		QueueFull:   b.queueFull.Load(),
		WaitExpired: b.waitExpired.Load(),
		Canceled:    b.canceled.Load(),
	}
	departed := b.root.departed.Load() + b.shared.departed.Load()
	waiting := b.shared.waiting.Load()
	arrived := b.root.arrived.Load() + b.shared.arrived.Load()
	s.Admitted = uint64(max(0, arrived-waiting-int64(s.QueueFull+s.WaitExpired+s.Canceled)))
	if b != b.root {
		departed, waiting, arrived = b.departed.Load(), b.waiting.Load(), b.arrived.Load()
	}
	s.InFlight, s.Waiting = int(max(0, arrived-departed-waiting)), int(waiting)
	return s
}
