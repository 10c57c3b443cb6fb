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
	// WouldReject counts calls that ran because of MetricsOnly alone. They are
	// among those by outcome, too.
	WouldReject uint64
	// Transitions, by the state that they led to.
	Opened, HalfOpened, Closed uint64
	// Probes are the calls that HALF_OPEN admitted, by what they meant for it: a slow
	// one is a failure where a SlowRate counts, and one is late once it has held its
	// place for longer than Config.ProbeTimeout. Those that ended after HALF_OPEN did
	// meant nothing, and are not among them.
	ProbesSucceeded, ProbesFailed, ProbesIgnored, ProbesLate uint64
	// OpenTime was spent in OPEN before the present state.
	OpenTime time.Duration

	// State and Mode at this moment, as by Breaker.State and Breaker.Mode.
	State State
	Mode  Mode
	// Since is when the last transition was, one of SetMode and Reset included, or when
	// the open time was over, whichever is later.
	Since time.Time
	// OpenNow is how long the present OPEN has lasted, and after its end, until the
	// call that finds it over, how long it did, less what is part of OpenTime already,
	// where Idle adds what it might be the last to see. To add up that of several forks,
	// take OpenTime first: no time is counted twice then, but what moves from the one to
	// the other meanwhile may be missing for that moment.
	OpenNow time.Duration
	// FailuresInARow counts up to the present, in CLOSED and HALF_OPEN.
	FailuresInARow int
	// Credit and InFlight say how many calls HALF_OPEN admits and has admitted.
	Credit, InFlight int
	// RetryAt is when OPEN is over, otherwise zero.
	RetryAt time.Time
	// LastError is the failure that opened the breaker, nil in CLOSED.
	LastError error
}

// RuleStats is what one rule has counted by now.
type RuleStats struct {
	Rule Rule
	// Hits of Calls failed, or were slow. For failures in a row Calls is 0, and
	// FailureRate counts no more hits than it takes.
	Hits, Calls int
}

// Stats returns the counters and the state.
func (b *Breaker) Stats() Stats { return b.stats(b.episode.Load()) }

func (b *Breaker) stats(e *episode) Stats {
	var now int64
	if e.state == Open {
		now = b.clock.Nanos()
	}
	s := Stats{
		Successes:   b.count.Sum(int(resilience.Success)),
		Failures:    b.count.Sum(int(resilience.Failure)),
		Ignored:     b.count.Sum(int(resilience.Ignored)),
		Rejected:    b.count.Sum(rejected),
		WouldReject: b.count.Sum(wouldReject),
		Mode:        e.mode,
		State:       e.state,
		Since:       b.clock.At(e.since),
	}
	b.addRare(&s)
	if e.rejection != nil {
		s.LastError = e.rejection.Cause
	}
	switch e.state {
	case Closed:
		s.FailuresInARow, _ = e.run()
	case Open:
		s.OpenNow = e.openNow(now)
		switch {
		case s.Mode == ForcedOpen: // nobody knows when it is over
		case !e.over(now):
			s.RetryAt = b.clock.At(e.until)
		default:
			s.State, s.Credit = HalfOpen, 1 // for the call that comes next
			if now >= e.until {
				s.Since = b.clock.At(max(e.since, e.until))
			}
		}
	case HalfOpen:
		c := unpack(e.word.Load())
		s.Credit, s.InFlight, s.FailuresInARow = c.left, c.inFlight, c.failures
	}
	return s
}

// Rules returns what the rules of Config.Trip have counted, in their order; in OPEN
// and HALF_OPEN, where they count nothing, it returns nil.
func (b *Breaker) Rules() []RuleStats { return b.rules(b.episode.Load()) }

func (b *Breaker) rules(e *episode) []RuleStats {
	if e.state != Closed {
		return nil
	}
	now := b.clock.Nanos()
	run, _ := e.run()
	all := make([]RuleStats, len(e.book.tallies))
	for i := range all {
		t := &e.book.tallies[i]
		hits, calls, _ := t.count(now, run, 0)
		all[i] = RuleStats{*t.Rule, hits, calls}
	}
	return all
}
