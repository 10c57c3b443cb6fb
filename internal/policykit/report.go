package policykit

import (
	"slices"
	"strings"

	"github.com/resilience-go/resilience"
)

// Labels returns one list of labels for each value of label. A policy makes them once,
// so that a report allocates no labels.
func Labels(label string, values ...string) [][]string {
	all := make([][]string, len(values))
	for i, v := range values {
		all[i] = []string{label, v}
	}
	return all
}

// Label returns a reason as the value of a label: "out of budget" is out_of_budget.
func Label(reason string) string { return strings.ReplaceAll(reason, " ", "_") }

// AppendCounters adds one counter for each of labels to values.
func AppendCounters(values []resilience.Value, name string, labels [][]string, counts ...uint64) []resilience.Value {
	values = slices.Grow(values, len(counts))
	for i, n := range counts {
		values = append(values, resilience.Value{Name: name, Labels: labels[i], Value: float64(n)})
	}
	return values
}

// AppendOneOf adds one gauge for each of labels to values: 1 for the present one, which has
// the index now, and 0 for the others.
func AppendOneOf(values []resilience.Value, name string, labels [][]string, now int) []resilience.Value {
	values = slices.Grow(values, len(labels))
	for i := range labels {
		v := resilience.Value{Name: name, Labels: labels[i]}
		if i == now {
			v.Value = 1
		}
		values = append(values, v)
	}
	return values
}

// Settings returns text without the kind and the name at its start, which a report has
// in fields of its own.
func Settings(text string) string {
	_, settings, _ := strings.Cut(text, ": ")
	return settings
}
