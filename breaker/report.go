package breaker

import (
	"errors"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/report"
)

var (
	stateWords  = []string{Closed: "closed", Open: "open", HalfOpen: "half_open"}
	outcomes    = report.Labels("outcome", "success", "failure", "ignored", "rejected")
	stateLabels = report.Labels("state", stateWords...)
	modeLabels  = report.Labels("mode", "auto", "forced_open", "disabled", "metrics_only")
	results     = report.Labels("result", "success", "failure", "ignored", "late")
)

// Report implements resilience.Reporter.
func (b *Breaker) Report(details bool) resilience.Report {
	state, mode := b.State(), b.Mode()
	r := resilience.Report{Kind: policy, Name: b.cfg.Name, State: state.String(), Attention: state != Closed}
	if mode != Auto {
		r.Mode = mode.String()
	}
	var open float64 // seconds
	if b == b.root { // a fork shares the counters
		s := b.Stats()
		r.Values = report.Append(r.Values, "calls_total", outcomes, s.Successes, s.Failures, s.Ignored, s.Rejected)
		r.Values = append(r.Values, resilience.Value{Name: "would_reject_total", Value: float64(s.WouldReject)})
		r.Values = report.Append(r.Values, "probes_total", results, s.ProbesSucceeded, s.ProbesFailed, s.ProbesIgnored, s.ProbesLate)
		for _, t := range b.Transitions() {
			r.Values = append(r.Values, resilience.Value{
				Name: "transitions_total", Value: float64(t.Count),
				Labels: []string{"from", stateWords[t.From], "to", stateWords[t.To], "rule", t.Rule},
			})
		}
		open = s.OpenTime.Seconds() + s.OpenNow.Seconds()
	} else if state != Closed {
		open = b.Stats().OpenNow.Seconds()
	}
	r.Values = report.OneOf(r.Values, "state", stateLabels, int(state))
	r.Values = report.OneOf(r.Values, "mode", modeLabels, int(mode))
	r.Values = append(r.Values, resilience.Value{Name: "open_seconds_total", Value: open})
	if details {
		b.explain(&r)
	}
	return r
}

// explain fills in the details of r.
func (b *Breaker) explain(r *resilience.Report) {
	x := b.Explain()
	r.State, r.Attention = x.Stats.State.String(), x.Stats.State != Closed
	r.Settings, r.Time, r.Since = report.Settings(b.String()), x.Time, x.Stats.Since
	r.Why, r.Next, r.RetryAt = x.Why(), x.Next(), x.Stats.RetryAt
	for _, t := range x.History {
		r.History = append(r.History, t.event(b.cfg.Name, x.Key))
	}
}

// event returns t as an event.
func (t Transition) event(name, key string) resilience.Event {
	e := resilience.Event{
		Kind: events[t.To], Time: t.Time, Policy: policy, Name: name, Key: key,
		From: t.From.String(), To: t.To.String(), Reason: t.Rule,
		Failures: t.Failures, Calls: t.Calls, Delay: t.OpenFor,
	}
	if t.Mode != Auto {
		e.Mode = t.Mode.String()
	}
	if t.Error != "" {
		e.Err = errors.New(t.Error)
	}
	return e
}
