package breaker

import (
	"time"

	"github.com/resilience-go/resilience"
)

// Stats is what a Breaker has counted since it was made. The counters only grow.
// Those of a breaker with forks include its forks; the rest describes the
// breaker alone, at one moment.
type Stats struct {
	// Calls that ran, by outcome. A call whose result came too late to count for
	// the state is counted here all the same.
	Successes, Failures, Ignored uint64
	// Rejected calls did not run.
	Rejected uint64
	// Transitions, by the state that they led to.
	Opened, HalfOpened, Closed uint64
	// Leaked places in HALF_OPEN were held for longer than Config.ProbeTimeout.
	Leaked uint64

	// State at this moment, as by Breaker.State.
	State State
	// Since is when the last transition was.
	Since time.Time
	// FailuresInARow counts up to the present, in CLOSED and HALF_OPEN.
	FailuresInARow int
	// Credit and InFlight say how many calls HALF_OPEN admits and has admitted.
	Credit, InFlight int
	// RetryAt is when OPEN is over, otherwise zero.
	RetryAt time.Time
	// LastError is the failure that opened the breaker, nil in CLOSED.
	LastError error
}

// Stats returns the counters and the state.
func (b *Breaker) Stats() Stats {
	e := b.episode.Load()
	s := Stats{
		Successes:  b.count.Sum(int(resilience.Success)),
		Failures:   b.count.Sum(int(resilience.Failure)),
		Ignored:    b.count.Sum(int(resilience.Ignored)),
		Rejected:   b.count.Sum(rejected),
		Opened:     b.entered[Open].Load(),
		HalfOpened: b.entered[HalfOpen].Load(),
		Closed:     b.entered[Closed].Load(),
		Leaked:     b.leaked.Load(),
		State:      b.state(e),
		Since:      b.clock.At(e.since),
	}
	if e.rejection != nil {
		s.LastError = e.rejection.Cause
	}
	switch e.state {
	case Closed:
		s.FailuresInARow, _ = e.run()
	case Open:
		if s.State == HalfOpen {
			s.Credit = 1 // for the call that comes next
		} else {
			s.RetryAt = b.clock.At(e.until)
		}
	case HalfOpen:
		c := unpack(e.word.Load())
		s.Credit, s.InFlight, s.FailuresInARow = c.left, c.inFlight, c.failures
	}
	return s
}
