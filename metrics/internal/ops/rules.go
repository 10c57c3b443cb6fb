package ops

import (
	"fmt"
	"strings"

	"github.com/resilience-go/resilience/metrics/internal/series"
)

// A Recording is a rule that keeps the result of an expression as a series.
type Recording struct {
	Name string // level:metric:operations
	Help string
	Expr string
}

// An Alert is a rule that tells an operator. Its texts but Summary have no templates:
// the page of the operator has them too.
type Alert struct {
	Name     string
	Severity string // warning, or critical
	For      string // how long Expr must hold; empty if it looks back by itself
	Expr     string
	Summary  string // a template
	Means    string // what has happened
	Look     string // what to look at first, after "Look first"
	Do       string // what to do
	Ignore   string // when it is no trouble, after "Ignore it"
}

// Page is the address of the operator's page.
const Page = "https://github.com/resilience-go/resilience/blob/main/docs/observability.md"

// Runbook returns the address of what is to be done.
func (a *Alert) Runbook() string { return Page + "#" + strings.ToLower(a.Name) }

// Description is the runbook as one text.
func (a *Alert) Description() string {
	return strings.Join([]string{a.Means, "Look first " + a.Look, "Do this: " + a.Do, "Ignore it " + a.Ignore}, " ")
}

// name makes the name of a recording out of that of a metric.
func name(level string, m *series.Metric, operations string) string {
	return level + ":" + strings.TrimSuffix(m.Name, "_total") + ":" + operations
}

// Recordings are the rules that the alerts and the panels of others can build on.
var Recordings = []*Recording{
	breakerCalls, breakerRejected, breakerFailed, breakerOpen, attemptsPerCall, outOfBudget, bulkheadRefused, limitRefused, duration99,
}

var (
	breakerCalls = &Recording{
		Name: name("name_outcome", series.BreakerCalls, "rate5m"),
		Help: "Calls a second, by outcome.",
		Expr: inRules.total(series.BreakerCalls, inRules.rate(series.BreakerCalls), "outcome"),
	}
	breakerRejected = &Recording{
		Name: name("name", series.BreakerCalls, "rejected_ratio_rate5m"),
		Help: "Share of the calls that the breaker rejected.",
		Expr: inRules.rejectedShare(),
	}
	breakerFailed = &Recording{
		Name: name("name", series.BreakerCalls, "failed_ratio_rate5m"),
		Help: "Share of failures among the calls that ran and were judged.",
		Expr: inRules.failedShare(),
	}
	breakerOpen = &Recording{
		Name: name("name", series.BreakerOpenSeconds, "ratio_rate5m"),
		Help: "Share of their time that the breakers spent in OPEN.",
		Expr: inRules.openShare(),
	}
	attemptsPerCall = &Recording{
		Name: name("name", series.RetryAttempts, "per_call_rate5m"),
		Help: "All attempts for each first one.",
		Expr: inRules.attemptsPerCall(),
	}
	outOfBudget = &Recording{
		Name: name("name", series.RetrySuppressed, "out_of_budget_ratio_rate5m"),
		Help: "Share of the calls that were given up because the budget was empty.",
		Expr: inRules.outOfBudgetShare(),
	}
	bulkheadRefused = &Recording{
		Name: name("name", series.BulkheadCalls, "refused_ratio_rate5m"),
		Help: "Share of the calls that got no slot: rejected, or canceled while they waited.",
		Expr: inRules.refusedShare(),
	}
	limitRefused = &Recording{
		Name: name("name", series.LimitCalls, "refused_ratio_rate5m"),
		Help: "Share of the requests that did not come to the handler: refused, or canceled while they waited.",
		Expr: inRules.noPlaceShare(),
	}
	duration99 = &Recording{
		Name: name("name", series.CallDuration, "p99_rate5m"),
		Help: "99 of 100 calls that ran took less than this.",
		Expr: inRules.quantile("0.99"),
	}
)

// Rules returns rules.yaml.
func Rules() []byte {
	var b strings.Builder
	b.WriteString("# Made by `go generate ./metrics`. Do not edit it: a test compares.\n")
	b.WriteString("groups:\n  - name: resilience-recording\n    rules:\n")
	for _, r := range Recordings {
		fmt.Fprintf(&b, "      # %s\n      - record: %s\n        expr: |-\n%s", r.Help, r.Name, indent(r.Expr, 10))
	}
	b.WriteString("  - name: resilience-alerts\n    rules:\n")
	for _, a := range Alerts {
		fmt.Fprintf(&b, "      - alert: %s\n        expr: |-\n%s", a.Name, indent(a.Expr, 10))
		if a.For != "" {
			fmt.Fprintf(&b, "        for: %s\n", a.For)
		}
		fmt.Fprintf(&b, "        labels:\n          severity: %s\n        annotations:\n", a.Severity)
		fmt.Fprintf(&b, "          summary: >-\n%s", indent(wrap(a.Summary), 12))
		fmt.Fprintf(&b, "          description: >-\n%s", indent(wrap(a.Description()), 12))
		fmt.Fprintf(&b, "          runbook_url: %s\n", a.Runbook())
	}
	return []byte(b.String())
}

func indent(text string, spaces int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Repeat(" ", spaces) + strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.String()
}

// wrap breaks text at spaces. The lines of a folded scalar are joined by spaces again.
func wrap(text string) string {
	const width = 100
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
