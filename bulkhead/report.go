package bulkhead

import (
	"fmt"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

var (
	outcomes = policykit.Labels("outcome", "completed", "rejected", "canceled")
	reasons  = policykit.Labels("reason", "queue_full", "wait_expired")
)

// Report implements resilience.Reporter.
func (b *Bulkhead) Report(details bool) resilience.Report {
	r := resilience.Report{Kind: policy, Name: b.cfg.Name}
	if b == b.root { // a fork shares the counters of its origin
		c := b.counters()
		r.Values = policykit.AppendCounters(r.Values, "calls_total", outcomes, c.Completed, c.QueueFull+c.WaitExpired, c.Canceled)
		r.Values = policykit.AppendCounters(r.Values, "rejected_total", reasons, c.QueueFull, c.WaitExpired)
	}
	g := b.gauges()
	r.Values = append(r.Values,
		resilience.Value{Name: "in_flight", Value: float64(g.InFlight), Max: float64(g.Slots)},
		resilience.Value{Name: "waiting", Value: float64(g.Queued)},
		resilience.Value{Name: "slots", Value: float64(g.Slots)},
	)
	if details {
		r.Settings, r.Time = policykit.Settings(b.String()), b.clock.Now()
	}
	return r
}

// String returns the settings that the bulkhead uses, for people. The text may change.
func (b *Bulkhead) String() string {
	c := &b.cfg
	s := policykit.Describe(policy, c.Name, b.key)
	if c.Slots == 0 {
		s += fmt.Sprintf("%d slots or more, sizes itself", minSlots)
	} else {
		s += policykit.Count(c.Slots, "slot")
	}
	switch {
	case c.MaxQueue < 0:
		return s + ", no queue"
	case c.MaxQueue == 0 && c.Slots == 0:
		s += ", queue of half as many"
	default:
		s += fmt.Sprintf(", queue of %d", b.maxQueue(int64(c.Slots)))
	}
	if c.MaxWait < 0 {
		return s + ", unbounded waits"
	}
	return s + fmt.Sprintf(", waits of up to %v", c.MaxWait)
}

// Stats is what a Bulkhead has counted since it was made, and its present state.
type Stats struct {
	Counters
	Gauges
}

// Counters are the counters of a bulkhead and all its forks. They never fall.
//
// Each call of Apply or Acquire is counted in exactly one of them when it ends, unless its
// context was done before the call.
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
	// while one call ran. High is the recent maximum of Average plus the calls that have
	// answered and go on. What enters High is capped at the calls in flight, so Average may
	// be higher. High halves in about 700 calls. Both are 0 with a Config.Slots.
	Average, High float64
}

// Stats returns the counters and the gauges. They are read one after another, so they
// agree with each other only while no call runs.
func (b *Bulkhead) Stats() Stats { return Stats{b.counters(), b.gauges()} }

func (b *Bulkhead) counters() Counters {
	return Counters{
		Completed:   b.root.completed() + b.forksCompleted.Load(),
		QueueFull:   b.rejectedFull.Load(),
		WaitExpired: b.rejectedLate.Load(),
		Canceled:    b.canceled.Load(),
	}
}

func (b *Bulkhead) gauges() Gauges {
	avg, high := unpack(b.load.Load())
	return Gauges{
		InFlight: int(b.inFlight()),
		Queued:   int(b.queued.Load()),
		Slots:    int(b.slots.Load()),
		Average:  float64(avg) / (1 << fraction),
		High:     float64(high) / (1 << fraction),
	}
}
