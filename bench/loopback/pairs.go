package main

import (
	"fmt"
	"slices"
)

// An arm is one way to make a request.
type arm struct {
	name string
	do   func() error
}

// A row compares two arms.
type row struct {
	name       string
	base, ours arm
	goal       float64 // what the median ratio is to be at most, 0 for none
}

// measured is a row and, for each of its pairs, what a request took in nanoseconds.
type measured struct {
	row
	base, ours []float64
}

// measure takes the pairs of all rows in turn, so that each row is spread over the
// whole time, and within a pair base first and ours first by turns, so that a
// machine that gets slower is as often to the disadvantage of one as of the other.
// half returns what a request with an arm took.
func measure(rows []row, pairs int, half func(arm) (float64, error)) ([]measured, error) {
	all := make([]measured, len(rows))
	for i, r := range rows {
		all[i].row = r
	}
	for pair := range pairs {
		for i := range all {
			m := &all[i]
			halves := []func() error{
				func() error { return m.take(&m.base, m.row.base, half) },
				func() error { return m.take(&m.ours, m.row.ours, half) },
			}
			if pair%2 == 1 {
				slices.Reverse(halves)
			}
			for _, take := range halves {
				if err := take(); err != nil {
					return nil, err
				}
			}
		}
	}
	return all, nil
}

func (m *measured) take(times *[]float64, a arm, half func(arm) (float64, error)) error {
	t, err := half(a)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", m.name, a.name, err)
	}
	*times = append(*times, t)
	return nil
}

// ratios returns the spread of the ratios of the pairs. That of the medians would
// not be free of drift.
func (m *measured) ratios() spread {
	all := make([]float64, len(m.base))
	for i := range all {
		all[i] = m.ours[i] / m.base[i]
	}
	return spreadOf(all)
}

// A spread is where values lie.
type spread struct{ least, lower, median, upper, most float64 }

func spreadOf(values []float64) spread {
	s := slices.Sorted(slices.Values(values))
	return spread{quantile(s, 0), quantile(s, 0.25), quantile(s, 0.5), quantile(s, 0.75), quantile(s, 1)}
}

// quantile returns the value at the share q of sorted, on the line between its
// neighbours if there is none.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	next := min(i+1, len(sorted)-1)
	return sorted[i] + (at-float64(i))*(sorted[next]-sorted[i])
}
