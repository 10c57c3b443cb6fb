package bulkhead

import (
	"fmt"
	"time"

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
	g := b.gauges()
	if b.cfg.Slots == 0 {
		r.State, r.Attention = states[g.Congested], g.Congested
	}
	if b == b.root { // a fork shares the counters of its origin
		c := b.counters()
		r.Values = policykit.AppendCounters(r.Values, "calls_total", outcomes, c.Completed, c.QueueFull+c.WaitExpired, c.Canceled)
		r.Values = policykit.AppendCounters(r.Values, "rejected_total", reasons, c.QueueFull, c.WaitExpired)
	}
	congested := 0.0
	if g.Congested {
		congested = 1
	}
	r.Values = append(r.Values,
		resilience.Value{Name: "in_flight", Value: float64(g.InFlight), Max: float64(g.Slots)},
		resilience.Value{Name: "waiting", Value: float64(g.Queued)},
		resilience.Value{Name: "slots", Value: float64(g.Slots)},
		resilience.Value{Name: "congested", Value: congested},
	)
	if details {
		r.Settings, r.Time = policykit.Settings(b.String()), b.clock.Now()
		if b.cfg.Slots == 0 {
			r.Since, r.Why, r.Next = b.explain()
		}
	}
	return r
}

// states are the values of State in the reports of a bulkhead that sizes itself.
var states = map[bool]string{false: "NORMAL", true: "CONGESTED"}

// explain returns since when the bulkhead is in its state, why, and what happens next.
func (b *Bulkhead) explain() (since time.Time, why, next string) {
	admitted, inFlight, goingOn := b.look()
	b.mu.Lock()
	c, burst, changed := b.congestion, b.burst, b.changed
	f := b.flow(admitted, inFlight, goingOn)
	b.mu.Unlock()
	now := b.clock.Nanos()
	burst.move(now, f, int64(c.timeout))
	since = b.clock.At(changed)
	took, timeout := policykit.Round(time.Duration(c.took)), policykit.Round(time.Duration(c.timeout))
	switch {
	case c.window > 0 && c.checking:
		return since, fmt.Sprintf("over %.0f %% of the calls timed out after %v, and the others took %v", 100*manyTimeouts, timeout, took),
			fmt.Sprintf("checks whether calls succeed with %d in flight", int(c.window))
	case c.window > 0:
		return since, fmt.Sprintf("calls take %v of %v, and fewer time out with %d in flight", took, timeout, int(c.window)),
			fmt.Sprintf("ends when %v pass in which no call finds all slots taken", time.Duration(calmFor))
	case now < c.rest:
		return since, "calls timed out, and fewer calls in flight did not help",
			fmt.Sprintf("checks that again in %v at the earliest", policykit.Round(time.Duration(c.rest-now)))
	case burst.timeOut(f) && burst.hang(f):
		calls := f.since(burst.began)
		return since, fmt.Sprintf("%d of the last %d calls answered, and %d timed out", calls.answered, calls.admitted, calls.timeouts),
			"rejects bursts until more calls answer"
	case burst.usual > 0:
		return since, "", fmt.Sprintf("admits bursts while calls end within %v", policykit.Round(time.Duration(burst.patience())))
	}
	return since, "", "admits bursts until calls time out"
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
	// Congested reports whether a congestion window bounds the slots.
	Congested bool
	// Average is a moving average, over about 32 calls, of the calls that were admitted
	// while one call ran. High is the recent maximum of Average plus the calls that have
	// answered and go on. What enters High is capped at the calls in flight, so Average may
	// be higher. High halves in 30 s. Both are 0 with a Config.Slots.
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
		InFlight:  int(b.inFlight()),
		Queued:    int(b.queued.Load()),
		Slots:     int(b.slots.Load()),
		Congested: b.window.Load() > 0,
		Average:   float64(avg) / (1 << fraction),
		High:      float64(high) / (1 << fraction),
	}
}
