// Package check has what the checks of several configurations have in common.
package check

import (
	"fmt"
	"time"

	"github.com/benbjohnson/clock"
)

// Negative returns an error if v, a field of a policy's configuration, is negative and
// not -1, which is the value of constant. So a negative number has one meaning.
func Negative[T ~int | ~int64](policy, name, field string, v T, constant string) error {
	if v >= -1 {
		return nil
	}
	return fmt.Errorf("%s %q: %s is %v: must not be negative; for none use %s", policy, name, field, v, constant)
}

// Duration returns an error if d, that field of the configuration of a policy of that
// kind and name, is so short that it can only be a number without a unit. The time of a Clock
// may be of any kind, so with one nothing is too short.
func Duration(policy, name, field string, d time.Duration, c clock.Clock) error {
	if c != nil || d <= 0 || d >= time.Microsecond {
		return nil
	}
	return fmt.Errorf("%s %q: %s is %v: must be at least 1µs; a time.Duration counts nanoseconds, so write a unit, as in %d*time.Millisecond", policy, name, field, d, d)
}
