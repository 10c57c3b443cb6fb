package breaker

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

// Name returns the name from the Config.
func (b *Breaker) Name() string { return b.cfg.Name }

// Mode returns the mode of the breaker.
func (b *Breaker) Mode() Mode { return b.episode.Load().mode }

// State returns the state at this moment. It is HalfOpen as soon as the open time is
// over, even if no call has been made since. The event and the counter of the
// transition come with the next call.
func (b *Breaker) State() State {
	e := b.episode.Load()
	if e.state == Open && e.over(b.clock.Nanos()) {
		return HalfOpen
	}
	return e.state
}

// Idle reports whether a keyed.Group may drop the breaker. A breaker is not idle
//
//   - in OPEN before its time is over,
//   - in HALF_OPEN with calls in flight,
//   - in CLOSED while a rule is more than half of the way to opening it,
//   - in another mode than the breaker that New returned.
//
// Failures in a row count for this until they are too old; see Silence. Failures among the
// last calls count until ten seconds after the last failure. Failures in a window count until
// they leave it.
func (b *Breaker) Idle() bool {
	e := b.episode.Load()
	now := b.clock.Nanos()
	switch {
	case e.mode != b.root.Mode():
		return false
	case e.state == Open:
		return e.over(now) || e.mode == ForcedOpen
	case e.mode == Disabled:
		return true
	case e.state == HalfOpen:
		return unpack(e.word.Load()).inFlight == 0
	}
	run := e.run(e.word.Load(), now)
	for i := range e.book.tallies {
		if e.book.tallies[i].near(now, run) {
			return false
		}
	}
	return true
}

// Retire moves the time of the present OPEN up to now to the counters that the breaker
// shares with its forks. A keyed.Group calls it when it drops a fork, whose OPEN may
// never be left. A retired breaker can still be used, and no time is counted twice.
func (b *Breaker) Retire() {
	if e := b.episode.Load(); e.state == Open {
		if d := e.uncounted(b.clock.Nanos()); d > 0 {
			b.outages().open.Add(d)
		}
	}
}

// presentOpen returns how long the present OPEN of this breaker has lasted, or did last
// if its time is over and no call has been made since. Time that Retire has moved is
// not included.
//
// The time in OPEN of a breaker and its forks is Stats.OpenTime of the breaker and then
// presentOpen of each fork. In that order no time is counted twice.
func (b *Breaker) presentOpen() time.Duration {
	e := b.episode.Load()
	if e.state != Open {
		return 0
	}
	return e.present(b.clock.Nanos())
}

// Stats returns the counters and the gauges.
func (b *Breaker) Stats() Stats { return b.stats(b.episode.Load()) }

func (b *Breaker) stats(e *episode) Stats {
	var s Stats
	s.Counters = b.counted() // before e.present: see there
	s.Mode, s.State, s.Since = e.mode, e.state, e.began
	if e.rejection != nil {
		s.LastError = e.rejection.Cause
	}
	switch e.state {
	case Closed:
		s.FailuresInARow = e.run(e.word.Load(), b.clock.Nanos())
	case Open:
		now := b.clock.Nanos()
		s.OpenTime += e.present(now)
		switch {
		case s.Mode == ForcedOpen: // its end is unknown
		case !e.over(now):
			s.RetryAt = b.clock.At(e.until)
		default:
			s.State, s.Credit = HalfOpen, 1 // for the next call
			if now >= e.until {
				s.Since = e.ends()
			}
		}
	case HalfOpen:
		w := e.word.Load()
		c := unpack(w)
		s.Credit, s.InFlight, s.FailuresInARow = c.left, c.inFlight, e.run(w, b.clock.Nanos())
	}
	return s
}

// counted returns the counters, without the present OPEN.
func (s *shared) counted() Counters {
	all := Counters{
		Successes:   s.count.Sum(int(resilience.Success)),
		Failures:    s.count.Sum(int(resilience.Failure)),
		Ignored:     s.count.Sum(int(resilience.Ignored)),
		Rejected:    s.count.Sum(rejected),
		WouldReject: s.count.Sum(wouldReject),
	}
	c := s.counters.Load()
	if c == nil {
		return all
	}
	all.ProbesSucceeded = c.probes[resilience.Success].Load()
	all.ProbesFailed = c.probes[resilience.Failure].Load()
	all.ProbesIgnored = c.probes[resilience.Ignored].Load()
	all.ProbesLate = c.late.Load()
	all.OpenTime = time.Duration(c.open.Load())
	for i := range c.transitions {
		switch n := c.transitions[i].Load(); c.to(i) {
		case Open:
			all.Opened += n
		case HalfOpen:
			all.HalfOpened += n
		case Closed:
			all.Closed += n
		}
	}
	return all
}

// Transitions returns how often each possible transition was made, by the breaker and
// its forks. Its length and order never change, no two elements have the same
// transition and rule, and the counts only grow.
func (b *Breaker) Transitions() []TransitionCount { return b.transitionCounts() }

// Rules returns the counts of the rules, in the order of Config.Trip. Where rules count
// nothing it returns nil: in OPEN, in HALF_OPEN before its first success, and in HALF_OPEN
// if a rule is a Rate or a Slow.
func (b *Breaker) Rules() []RuleStats { return b.ruleStats(b.episode.Load()) }

func (b *Breaker) ruleStats(e *episode) []RuleStats {
	if e.state == Open || e.state == HalfOpen && !e.judges(unpack(e.word.Load())) {
		return nil
	}
	now := b.clock.Nanos()
	run := e.run(e.word.Load(), now)
	all := make([]RuleStats, len(e.book.tallies))
	for i := range all {
		t := &e.book.tallies[i]
		hits, calls := t.count(now, run)
		all[i] = RuleStats{t.Rule, hits, calls}
	}
	return all
}

// Explain says why the breaker is in its state and what happens next. Print the
// Explanation.
func (b *Breaker) Explain() Explanation {
	e := b.episode.Load()
	x := Explanation{
		Name: b.cfg.Name, Key: b.key, Time: b.clock.Now(),
		Stats: b.stats(e), Rules: b.ruleStats(e), closeAfter: b.cfg.CloseAfter,
	}
	if e.under != nil {
		x.under = e.under.resumed(b.clock.Nanos())
	}
	if e.past != nil {
		x.History, x.Began = slices.Clone(e.past.last), e.past.began
	}
	return x
}

// The values of labels in reports.
var (
	stateWords  = []string{Closed: "closed", Open: "open", HalfOpen: "half_open"}
	outcomes    = policykit.Labels("outcome", "success", "failure", "ignored", "rejected")
	stateLabels = policykit.Labels("state", stateWords...)
	modeLabels  = policykit.Labels("mode", "auto", "forced_open", "disabled", "metrics_only")
	results     = policykit.Labels("result", "success", "failure", "ignored", "late")
)

// Report implements resilience.Reporter. The breaker that New returned reports the
// counters of all its forks. A fork reports only its state and its present OPEN.
func (b *Breaker) Report(details bool) resilience.Report {
	state, mode := b.State(), b.Mode()
	r := resilience.Report{Kind: policy, Name: b.cfg.Name, State: state.String(), Attention: state != Closed, Recovering: state == HalfOpen}
	if mode != Auto {
		r.Mode = mode.String()
	}
	var open time.Duration
	if b == b.root {
		s := b.Stats()
		r.Values = policykit.AppendCounters(r.Values, "calls_total", outcomes, s.Successes, s.Failures, s.Ignored, s.Rejected)
		r.Values = append(r.Values, resilience.Value{Name: "would_reject_total", Value: float64(s.WouldReject)})
		r.Values = policykit.AppendCounters(r.Values, "probes_total", results, s.ProbesSucceeded, s.ProbesFailed, s.ProbesIgnored, s.ProbesLate)
		for _, t := range b.Transitions() {
			r.Values = append(r.Values, resilience.Value{
				Name: "transitions_total", Value: float64(t.Count),
				Labels: []string{"from", stateWords[t.From], "to", stateWords[t.To], "rule", t.Rule},
			})
		}
		open = s.OpenTime
	} else {
		open = b.presentOpen()
		r.Values = make([]resilience.Value, 0, len(stateLabels)+len(modeLabels)+1)
	}
	r.Values = policykit.AppendOneOf(r.Values, "state", stateLabels, int(state))
	r.Values = policykit.AppendOneOf(r.Values, "mode", modeLabels, int(mode))
	r.Values = append(r.Values, resilience.Value{Name: "open_seconds_total", Value: open.Seconds()})
	if details {
		b.addDetails(&r)
	}
	return r
}

// urgency is the Level of the states in Report.History.
var urgency = [...]slog.Level{Closed: slog.LevelDebug, Open: slog.LevelWarn, HalfOpen: slog.LevelInfo}

// addDetails sets the fields of r that only a report with details has.
func (b *Breaker) addDetails(r *resilience.Report) {
	x := b.Explain()
	r.State, r.Attention, r.Recovering = x.Stats.State.String(), x.Stats.State != Closed, x.Stats.State == HalfOpen
	r.Settings, r.Time, r.Since = policykit.Settings(b.String()), x.Time, x.Stats.Since
	r.Why, r.Next, r.RetryAt = x.Why(), x.Next(), x.Stats.RetryAt
	for _, t := range x.History {
		e := t.event(b.cfg.Name, x.Key)
		e.Level = urgency[t.To]
		r.History = append(r.History, e)
	}
}

// String describes the configuration, with the numbers that the breaker uses. It has
// no state. The text may change.
func (b *Breaker) String() string {
	c := &b.cfg
	var s strings.Builder
	s.WriteString(policykit.Describe(policy, c.Name, b.key))
	s.WriteString("opens on ")
	for i := range b.rules {
		if i > 0 {
			s.WriteString(" or ")
		}
		s.WriteString(b.rules[i].text)
	}
	switch {
	case c.OpenFor == 0:
		fmt.Fprintf(&s, ", for about 1/%d of the silence, %v to %v", silenceShare, minOpenFor, c.MaxOpenFor)
	case c.MaxOpenFor > c.OpenFor:
		fmt.Fprintf(&s, ", for %v doubling up to %v", c.OpenFor, c.MaxOpenFor)
	default:
		fmt.Fprintf(&s, ", for %v", c.OpenFor)
	}
	fmt.Fprintf(&s, ", or for the RetryAfter of a failure up to %v; closes ", maxRetryAfter)
	if c.CloseAfter == 1 {
		s.WriteString("at the first success")
	} else {
		fmt.Fprintf(&s, "after %d successes", c.CloseAfter)
		if b.windows {
			s.WriteString(" if no failure takes credit")
		}
	}
	if c.ProbeTimeout == Unbounded {
		s.WriteString("; probes have no timeout")
	} else {
		fmt.Fprintf(&s, "; probes have %v", c.ProbeTimeout)
	}
	fmt.Fprintf(&s, "; a success counts when %v", c.Until)
	return s.String()
}
