package policykit

import (
	"fmt"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
)

// The defaults that package stack needs in order to compare layers.
const (
	// DefaultTimeout is the timeout of an operation. Almost no call should take longer, and
	// it still ends a hang.
	DefaultTimeout = 10 * time.Second
	// DefaultMaxWait is how long a bulkhead queues a call. It is enough for a burst or a
	// short pause.
	DefaultMaxWait = 100 * time.Millisecond
	// DefaultProbeTimeout is how long a probe holds its slot in a breaker. It is longer
	// than the two above together, so that a slow dependency can close a breaker.
	DefaultProbeTimeout = 15 * time.Second
)

// CheckNegative returns an error if v, a field of a policy's configuration, is negative
// and not -1, the value of constant. So a negative number has one meaning.
func CheckNegative[T ~int | ~int64](policy, name, field string, v T, constant string) error {
	if v >= -1 {
		return nil
	}
	return fmt.Errorf("%s %q: %s is %v: must not be negative; for none use %s", policy, name, field, v, constant)
}

// CheckDuration returns an error if d, a field of a policy's configuration, is so short
// that it can only be a number without a unit. With a Clock any duration is valid, because
// its time may have any unit.
func CheckDuration(policy, name, field string, d time.Duration, c clock.Clock) error {
	if c != nil || d <= 0 || d >= time.Microsecond {
		return nil
	}
	return fmt.Errorf("%s %q: %s is %v: must be at least 1µs; a time.Duration counts nanoseconds, so write a unit, as in %d*time.Millisecond", policy, name, field, d, d)
}

// Until returns m, the field of a policy's configuration, or byDefault if m is 0. It
// returns an error if m is not a moment.
func Until(policy, name, field string, m, byDefault resilience.Moment) (resilience.Moment, error) {
	switch m {
	case 0:
		return byDefault, nil
	case resilience.Answered, resilience.Ended:
		return m, nil
	default:
		return 0, fmt.Errorf("%s %q: %s is %d: must be resilience.Answered or resilience.Ended, or 0 for the default", policy, name, field, uint8(m))
	}
}
