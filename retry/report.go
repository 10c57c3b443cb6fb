package retry

import (
	"fmt"
	"math"
	"slices"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

var (
	outcomes     = policykit.Labels("outcome", "first_try", "recovered", "gave_up", "aborted")
	attempts     = policykit.Labels("kind", "first", "retry")
	reasonLabels = func() (labels []string) {
		for _, why := range Reasons() {
			labels = append(labels, policykit.Label(why))
		}
		return labels
	}()
	suppressed = policykit.Labels("reason", reasonLabels...)
)

// Report implements resilience.Reporter.
func (r *Retry) Report(details bool) resilience.Report {
	p := resilience.Report{Kind: policy, Name: r.cfg.Name}
	if !r.fork { // a fork shares the counters of its origin
		s := r.Stats()
		p.Values = policykit.AppendCounters(p.Values, "calls_total", outcomes, s.FirstTry, s.Recovered, s.GaveUp(), s.Aborted)
		p.Values = policykit.AppendCounters(p.Values, "attempts_total", attempts, s.Calls(), s.Retries)
		p.Values = slices.Grow(p.Values, len(suppressed)+2)
		for i, why := range Reasons() {
			p.Values = policykit.AppendCounters(p.Values, "suppressed_total", suppressed[i:], s.Stopped[why])
		}
	}
	level, capacity := r.Budget()
	p.Values = append(p.Values,
		resilience.Value{Name: "budget_units", Value: float64(level), Max: float64(capacity)},
		resilience.Value{Name: "budget_capacity_units", Value: float64(capacity)},
	)
	if details {
		p.Settings, p.Time = policykit.Settings(r.String()), r.clock.Now()
	}
	return p
}

// String returns the settings that the retry uses, for people. The text may change.
func (r *Retry) String() string {
	c := &r.cfg
	s := policykit.Describe(policy, c.Name, r.key) + policykit.Count(c.MaxAttempts, "attempt")
	if c.MaxAttempts == 1 {
		return s
	}
	if c.MaxDelay == math.MaxInt64 {
		s += ", unbounded waits"
	} else {
		s += fmt.Sprintf(", waits of up to %v", c.MaxDelay)
	}
	if c.Budget < 0 {
		return s + ", no budget"
	}
	return s + fmt.Sprintf(", budget of %d at %d a retry, %d after a timeout", c.Budget, quickPrice, timeoutPrice)
}

// Stats is what a Retry has counted since it was made, and its present state.
type Stats struct {
	Counters
	Gauges
}

// Counters are the counters of a retry and all its forks. They never fall.
type Counters struct {
	// FirstTry, Recovered and Aborted are the calls that succeeded at the first attempt,
	// that succeeded after a retry, and that ended in a panic or runtime.Goexit. Stopped
	// has the calls that were given up, by reason. Stopped[OutOfBudget] and
	// Stopped[AllFailing] are the calls that the budget stopped.
	FirstTry, Recovered, Aborted uint64
	Stopped                      map[string]uint64
	// Retries are the attempts after the first ones.
	Retries uint64
	// Earned, Spent and Refunded are units of the budget. Earned is one for each call that
	// succeeds at its first attempt, even if the budget is full. Spent is the prices of
	// retries. Refunded is the refunded prices, as far as the budget had space for them.
	// All are 0 without a budget.
	Earned, Spent, Refunded int64
}

// Gauges are the present state of one retry without its forks. Both are 0 without a
// budget.
type Gauges struct {
	// Level is how many units the budget holds, Capacity how many it can hold at present.
	Level, Capacity int64
}

// GaveUp returns how many calls were given up, for whatever reason.
func (s Counters) GaveUp() (n uint64) {
	for _, calls := range s.Stopped {
		n += calls
	}
	return n
}

// Calls returns how many calls have ended.
func (s Counters) Calls() uint64 { return s.FirstTry + s.Recovered + s.Aborted + s.GaveUp() }

// Stats returns the counters and the gauges. They are read one after another, so they
// agree with each other only while no call runs.
func (r *Retry) Stats() Stats {
	var s Stats
	s.Counters = Counters{
		FirstTry:  r.count.Sum(rootFirstTry) + r.count.Sum(forkFirstTry),
		Recovered: r.count.Sum(recovered),
		Aborted:   r.stopped[aborted].Load(),
		Stopped:   make(map[string]uint64, len(reasons)-1),
		Retries:   r.count.Sum(retries),
		Spent:     r.spent.Load(),
		Refunded:  r.refunded.Load(),
	}
	for why := outOfAttempts; int(why) < len(reasons); why++ {
		s.Stopped[reasons[why]] = r.stopped[why].Load()
	}
	if r.cfg.Budget < 0 {
		return s
	}
	s.Earned = int64(s.FirstTry)
	s.Level, s.Capacity = r.Budget()
	return s
}
