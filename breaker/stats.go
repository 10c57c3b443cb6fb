package breaker

import "time"

// Stats has the counters and the gauges of a Breaker.
type Stats struct {
	Counters
	Gauges
}

// Counters count since the breaker was made, for the breaker and all its forks. They
// only grow.
type Counters struct {
	// Successes, Failures and Ignored are calls that ran, by outcome. A call whose
	// result was too late to change the state is counted too.
	Successes, Failures, Ignored uint64
	// Rejected calls did not run.
	Rejected uint64
	// WouldReject are calls that ran only because of MetricsOnly. They are counted by
	// outcome too.
	WouldReject uint64
	// Opened, HalfOpened and Closed are transitions, by the state that they led to.
	Opened, HalfOpened, Closed uint64
	// The Probes fields are calls that HALF_OPEN admitted, by what they meant for it. A
	// slow call is a failure if there is a Slow rule. A call is late if it held its
	// slot longer than Config.ProbeTimeout. Calls that ended after HALF_OPEN are not
	// counted here.
	ProbesSucceeded, ProbesFailed, ProbesIgnored, ProbesLate uint64
	// OpenTime is the time in OPEN: the present OPEN of the breaker itself up to now,
	// and every OPEN that has ended of the breaker and its forks. The Report of a fork
	// has the fork's present OPEN.
	//
	// It is exact at rest. If it is read while an OPEN ends, that OPEN may be missing
	// for this one reading, so a reader that must not see it fall keeps the largest
	// value.
	OpenTime time.Duration
}

// Gauges describe the breaker alone, without its forks, at one moment.
type Gauges struct {
	// State and Mode are as Breaker.State and Breaker.Mode return them.
	State State
	Mode  Mode
	// Since is the wall time at which the last transition happened, SetMode and Reset
	// included. After the open time, it is the end of the open time.
	Since time.Time
	// FailuresInARow counts up to now, in CLOSED and HALF_OPEN.
	FailuresInARow int
	// Credit is how many calls HALF_OPEN admits at a time, InFlight how many of them
	// are running.
	Credit, InFlight int
	// RetryAt is when OPEN ends, by the present wall time. It is zero in other states and
	// with ForcedOpen.
	RetryAt time.Time
	// LastError is the failure that opened the breaker. It is nil in CLOSED.
	LastError error
}

// RuleStats has the counts of one rule.
type RuleStats struct {
	Rule Rule
	// Hits of Calls failed or were slow. For failures in a row Calls is 0. A Rate
	// without Over counts at most its Failures.
	Hits, Calls int
}
