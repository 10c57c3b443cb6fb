// Package pairs measures what something costs as the ratio to the same without it, in
// pairs of halves one directly after the other.
package pairs

import (
	"fmt"
	"slices"
	"strconv"
)

// An Arm is one way to do something.
type Arm struct {
	Name string
	Do   func() error
}

// A Row compares two arms.
type Row struct {
	Name       string
	Base, Ours Arm
	Goal       float64 // what the median ratio is to be at most, 0 for none
}

// Measured is a Row and, for each of its pairs, what doing it once took in nanoseconds.
type Measured struct {
	Row
	Base, Ours []float64
}

// Measure takes the pairs of all rows in turn, so that each row is spread over the
// whole time, and within a pair base first and ours first by turns, so that a
// machine that gets slower is as often to the disadvantage of one as of the other.
// half returns what an Arm took to do it once.
func Measure(rows []Row, pairs int, half func(Arm) (float64, error)) ([]Measured, error) {
	all := make([]Measured, len(rows))
	for i, r := range rows {
		all[i].Row = r
	}
	for pair := range pairs {
		for i := range all {
			m := &all[i]
			halves := []func() error{
				func() error { return m.take(&m.Base, m.Row.Base, half) },
				func() error { return m.take(&m.Ours, m.Row.Ours, half) },
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

func (m *Measured) take(times *[]float64, a Arm, half func(Arm) (float64, error)) error {
	t, err := half(a)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", m.Name, a.Name, err)
	}
	*times = append(*times, t)
	return nil
}

// Ratios returns the spread of the ratios of the pairs. That of the medians would
// not be free of drift.
func (m *Measured) Ratios() Spread {
	all := make([]float64, len(m.Base))
	for i := range all {
		all[i] = m.Ours[i] / m.Base[i]
	}
	return SpreadOf(all)
}

// A Spread is where values lie.
type Spread struct{ Least, Lower, Median, Upper, Most float64 }

// SpreadOf returns the spread of values, which keep their order.
func SpreadOf(values []float64) Spread {
	s := slices.Sorted(slices.Values(values))
	return Spread{quantile(s, 0), quantile(s, 0.25), quantile(s, 0.5), quantile(s, 0.75), quantile(s, 1)}
}

// quantile returns the value at the share q of sorted, on the line between its
// neighbours if there is none.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	next := min(i+1, len(sorted)-1)
	return sorted[i] + (at-float64(i))*(sorted[next]-sorted[i])
}

// Cells returns the table of rows.
func Cells(rows []Measured) [][]string {
	all := [][]string{{"row", "base µs", "µs", "median ratio", "least", "lower quartile", "upper quartile", "most", "goal", ""}}
	for _, m := range rows {
		r := m.Ratios()
		goal, verdict := "", ""
		if m.Goal > 0 {
			goal, verdict = strconv.FormatFloat(m.Goal, 'f', 2, 64), "ok"
			if r.Median > m.Goal {
				verdict = "OVER"
			}
		}
		all = append(all, []string{
			m.Name, micros(SpreadOf(m.Base).Median), micros(SpreadOf(m.Ours).Median),
			ratio(r.Median), ratio(r.Least), ratio(r.Lower), ratio(r.Upper), ratio(r.Most), goal, verdict,
		})
	}
	return all
}

func micros(ns float64) string { return strconv.FormatFloat(ns/1000, 'f', 2, 64) }

func ratio(x float64) string { return strconv.FormatFloat(x, 'f', 4, 64) }
