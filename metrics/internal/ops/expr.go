package ops

import (
	"fmt"
	"slices"
	"strings"

	"github.com/resilience-go/resilience/metrics/internal/series"
)

// A scope is how expressions in one place select series and add them up.
type scope struct {
	filter string   // matches of every selector, before its own matches
	window string   // of rates
	by     bool     // adds up by the labels to keep; if false, without the labels to drop
	drop   []string // labels of scrape targets to drop
}

var (
	// inRules adds up all processes. It lists the labels to drop, so that the labels of
	// clusters, namespaces and environments stay.
	inRules = scope{window: "5m", drop: []string{"instance", "pod"}}
	// inProcess does not add up processes. Its window contains two scrapes even if
	// Prometheus scrapes once a minute and one scrape fails.
	inProcess = scope{window: "3m"}
	// onDashboard adds up the series that the variables of the dashboard select.
	onDashboard = scope{
		filter: `job=~"$job",instance=~"$instance",` + series.NameLabel + `=~"$name"`,
		window: "$__rate_interval",
		by:     true,
	}
)

// A match is a label and the values to select.
type match struct {
	label  string
	values []string
}

func is(label string, values ...string) match { return match{label, values} }

// String returns the match in PromQL, without braces.
func (m match) String() string {
	op := "="
	if len(m.values) > 1 {
		op = "=~"
	}
	return fmt.Sprintf("%s%s%q", m.label, op, strings.Join(m.values, "|"))
}

// check panics if the metric cannot have a series that m selects.
func (m match) check(metric *series.Metric) {
	for _, l := range metric.Labels {
		if l.Name != m.label {
			continue
		}
		for _, v := range m.values {
			if l.Values != nil && !slices.Contains(l.Values, v) {
				panic(fmt.Sprintf("ops: %s has no %s %q", metric.Name, m.label, v))
			}
		}
		return
	}
	panic(fmt.Sprintf("ops: %s has no label %q", metric.Name, m.label))
}

// of returns a selector of the series of a metric that match.
func (s scope) of(m *series.Metric, matches ...match) string { return s.named(m, "", matches) }

// named returns what of does, for a metric whose series have a suffix in their names.
func (s scope) named(m *series.Metric, suffix string, matches []match) string {
	var parts []string
	if s.filter != "" {
		parts = append(parts, s.filter)
	}
	for _, x := range matches {
		x.check(m)
		parts = append(parts, x.String())
	}
	if len(parts) == 0 {
		return m.Name + suffix
	}
	return m.Name + suffix + "{" + strings.Join(parts, ",") + "}"
}

// rate returns the growth of a counter per second.
func (s scope) rate(m *series.Metric, matches ...match) string {
	return "rate(" + s.of(m, matches...) + "[" + s.window + "])"
}

// total returns the sum of expr, which has the labels of m, by the labels to keep.
func (s scope) total(m *series.Metric, expr string, keep ...string) string {
	for _, k := range keep {
		is(k).check(m)
	}
	if s.by {
		return "sum by (" + strings.Join(append([]string{series.NameLabel}, keep...), ", ") + ") (" + expr + ")"
	}
	drop := slices.Clone(s.drop)
	for _, l := range m.Labels {
		if !slices.Contains(keep, l.Name) {
			drop = append(drop, l.Name)
		}
	}
	if len(drop) == 0 {
		return expr
	}
	return "sum without (" + strings.Join(drop, ", ") + ") (" + expr + ")"
}

// flow returns the sum of the rates of a counter.
func (s scope) flow(m *series.Metric, matches ...match) string {
	return s.total(m, s.rate(m, matches...))
}

// level returns the sum of a gauge.
func (s scope) level(m *series.Metric, matches ...match) string {
	return s.total(m, s.of(m, matches...))
}

func ratio(part, whole string) string { return part + "\n/\n" + whole }

// The shares that the dashboard shows and the rules record.

func (s scope) rejectedShare() string {
	return ratio(s.flow(series.BreakerCalls, is("outcome", "rejected")), s.flow(series.BreakerCalls))
}

func (s scope) failedShare() string {
	return ratio(s.flow(series.BreakerCalls, is("outcome", "failure")), s.flow(series.BreakerCalls, is("outcome", "success", "failure")))
}

func (s scope) openShare() string {
	return ratio(s.flow(series.BreakerOpenSeconds), s.level(series.BreakerState))
}

func (s scope) attemptsPerCall() string {
	return ratio(s.flow(series.RetryAttempts), s.flow(series.RetryAttempts, is("kind", "first")))
}

func (s scope) outOfBudgetShare() string {
	return ratio(s.flow(series.RetrySuppressed, is("reason", "out_of_budget")), s.flow(series.RetryCalls))
}

func (s scope) refusedShare() string {
	return ratio(s.flow(series.BulkheadCalls, is("outcome", "rejected", "canceled")), s.flow(series.BulkheadCalls))
}

// noSlotShare includes the requests that left the queue, which did not reach the handler
// either.
func (s scope) noSlotShare() string {
	return ratio(s.flow(series.LimitCalls, is("outcome", "shed", "queue_full", "canceled")), s.flow(series.LimitCalls))
}

// quantile returns a quantile of native histograms, and of classic ones where there are
// no native ones. It leaves out rejected calls, which take no time and would hide how long
// the others took.
func (s scope) quantile(q string) string {
	m, ran := series.CallDuration, []match{is("outcome", "success", "failure")}
	native := s.total(m, s.rate(m, ran...))
	classic := "rate(" + s.named(m, "_bucket", ran) + "[" + s.window + "])"
	if s.by {
		classic = "sum by (" + series.NameLabel + ", le) (" + classic + ")"
	} else {
		classic = s.total(m, classic)
	}
	return "histogram_quantile(" + q + ", " + native + ")\nor\nhistogram_quantile(" + q + ", " + classic + ")"
}
