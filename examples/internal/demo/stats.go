package demo

import (
	"math"
	"slices"
	"time"
)

// Percentile returns the smallest of the values that at least p percent of them do
// not exceed, 0 if there are no values. It sorts them.
func Percentile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	rank := int(math.Ceil(p / 100 * float64(len(values))))
	return values[max(rank, 1)-1]
}

// Median returns the median of the values, 0 if there are no values. It sorts them.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	slices.Sort(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
