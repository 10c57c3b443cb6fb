package resilience

// Priority says how much an operation matters when there is no capacity for all. The zero
// value is Normal. A value out of range counts as the nearest one in range.
//
// An operation has a priority if it has the optional method Priority. A limit serves the
// queued operations of a higher priority first, and rejects those of the lowest first.
type Priority int8

const (
	// Lowest is for work that nobody misses: prefetching, crawlers, speculation.
	Lowest Priority = iota - 2
	// Low is for work that can wait: batches, reports, synchronization.
	Low
	// Normal is for all other work, and for operations without a priority.
	Normal
	// Critical is for work that must not fail while any work succeeds, such as a payment.
	Critical
)

// String returns "lowest", "low", "normal" or "critical".
func (p Priority) String() string {
	switch p.inRange() {
	case Lowest:
		return "lowest"
	case Low:
		return "low"
	case Critical:
		return "critical"
	default:
		return "normal"
	}
}

// inRange returns the priority in range that is nearest to p.
func (p Priority) inRange() Priority { return max(Lowest, min(p, Critical)) }
