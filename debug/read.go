package debug

import (
	"strings"

	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/retry"
)

var (
	closed   = breaker.Closed.String()
	open     = breaker.Open.String()
	halfOpen = breaker.HalfOpen.String()
)

// readBreaker reads b, which the keys of the group called of are forked from unless
// that is nil. Then nothing calls b itself, so its state is of interest only if it was
// set to one.
func readBreaker(b *breaker.Breaker, of *string) *breakerView {
	x := b.Explain()
	s := &x.Stats
	v := &breakerView{
		common: common{Kind: "breaker", Name: clip(x.Name), Key: clip(x.Key), Group: of},
		Calls: &breakerCalls{
			Successes: s.Successes, Failures: s.Failures, Ignored: s.Ignored,
			Rejected: s.Rejected, WouldReject: s.WouldReject,
			ProbesSucceeded: s.ProbesSucceeded, ProbesFailed: s.ProbesFailed, ProbesIgnored: s.ProbesIgnored,
			ProbesLate: s.ProbesLate, Opened: s.Opened, HalfOpened: s.HalfOpened, Closed: s.Closed,
			OpenTime: seconds(s.OpenTime),
		},
	}
	if of != nil && len(x.History) == 0 && s.Mode == breaker.Auto {
		return v
	}
	v.standing = &standing{
		State: s.State.String(), Mode: unlessAuto(s.Mode),
		Since: stamp{s.Since}, Ago: seconds(max(0, x.Time.Sub(s.Since))),
		Why: clipTo(maxSentence, x.Why()), Next: clipTo(maxSentence, x.Next()),
		RetryAt: stamp{s.RetryAt}, FailuresInARow: s.FailuresInARow,
		OpenNow: openNow(&x), History: []step{}, now: x.Time,
	}
	if s.State == breaker.HalfOpen {
		v.Probing = &probing{s.Credit, s.InFlight}
	}
	if !s.RetryAt.IsZero() {
		v.RetryIn = seconds(max(0, s.RetryAt.Sub(x.Time)))
	}
	for _, r := range x.Rules {
		v.Rules = append(v.Rules, rule{r.Rule.String(), r.Hits, r.Calls})
	}
	for _, t := range x.History {
		v.History = append(v.History, readTransition(t))
	}
	if !x.Began.Time.IsZero() {
		began := readTransition(x.Began)
		v.Began = &began
	}
	return v
}

// openNow returns how long the present OPEN has lasted.
func openNow(x *breaker.Explanation) seconds {
	if x.Stats.State != breaker.Open {
		return 0
	}
	return seconds(max(0, x.Time.Sub(x.Stats.Since)))
}

func readTransition(t breaker.Transition) step {
	return step{
		Time: stamp{t.Time}, From: t.From.String(), To: t.To.String(), Mode: unlessAuto(t.Mode),
		Rule: t.Rule, Failures: t.Failures, Calls: t.Calls, Slow: t.Slow,
		Reason: t.Reason(), OpenFor: seconds(t.OpenFor), Error: clip(t.Error),
	}
}

func unlessAuto(m breaker.Mode) string {
	if m == breaker.Auto {
		return ""
	}
	return m.String()
}

func readRetry(r *retry.Retry, of *string) *retryView {
	s := r.Stats()
	c := &retryCalls{FirstTry: s.FirstTry, Recovered: s.Recovered, Aborted: s.Aborted, Retries: s.Retries}
	for _, why := range retry.Reasons() {
		c.Suppressed = append(c.Suppressed, reason{strings.ReplaceAll(why, " ", "_"), why, s.Stopped[why]})
	}
	c.Attempts = s.Calls() + s.Retries
	v := &retryView{common: common{Kind: "retry", Name: clip(r.Name()), Group: of}, Calls: c}
	if of == nil && s.Capacity > 0 {
		v.Budget = &budget{s.Level, s.Capacity}
	}
	return v
}

func readBulkhead(b *bulkhead.Bulkhead, of *string) *bulkheadView {
	s := b.Stats()
	v := &bulkheadView{
		common:   common{Kind: "bulkhead", Name: clip(b.Name()), Group: of},
		InFlight: s.InFlight, Limit: s.Slots, Waiting: s.Queued,
		Calls: &bulkheadCalls{
			Completed: s.Completed, Canceled: s.Canceled,
			Rejected: reasons{{"queue_full", "queue full", s.QueueFull}, {"wait_expired", "waited too long", s.WaitExpired}},
		},
	}
	if of != nil {
		v.Limit = 0 // each key has its own
	}
	return v
}

// NotClosed are the breakers that an operator looks for first.
func (p *page) NotClosed() (all []*breakerView) {
	p.each(func(b *breakerView) {
		if b.NotClosed() {
			all = append(all, b)
		}
	})
	return all
}

// First are those of NotClosed that the HTML has.
func (p *page) First() []*breakerView { return head(p.NotClosed()) }

// More says which it does not have, "" if it has all.
func (p *page) More() string {
	var more states
	hidden := p.NotClosed()
	hidden = hidden[len(head(hidden)):]
	for _, b := range hidden {
		more.add(b.State)
	}
	return andMore(hidden, "breaker", more)
}

// Rest are the other breakers that stand outside of groups, and what those in groups
// have counted.
func (p *page) Rest() (rest []*breakerView) {
	for _, b := range p.Breakers {
		if !b.NotClosed() {
			rest = append(rest, b)
		}
	}
	return rest
}

// Icon is the word for a state that stands in a class of the style.
func (s *standing) Icon() string { return strings.ToLower(s.State) }

func head[T any](all []T) []T { return all[:min(shown, len(all))] }
