package breaker

import (
	"fmt"
	"time"
)

// maxRun is how many failures in a row an episode can count.
const maxRun = 1<<runBits - 1

// Rule is a condition under which a closed breaker opens. The zero value is
// invalid; rules come from the functions of this package.
type Rule struct {
	failures int
	span     time.Duration
}

// Silence opens when that many calls in a row failed, the last of them at least
// span after the first, without a success between: the dependency has been
// silent. Any success starts the count again. Silence(7, time.Second), the default,
// never opened in simulation while half of 50 calls a second failed; with few calls
// in span, bad luck suffices, at the price of an OPEN of 50 ms. failures is 1 to
// 65535; span is not negative and counts in microseconds.
func Silence(failures int, span time.Duration) Rule {
	return Rule{failures, span}
}

// Consecutive opens when that many calls in a row failed, however quickly. It is
// Silence(failures, 0).
func Consecutive(failures int) Rule { return Silence(failures, 0) }

// String returns the rule as it is written in Go.
func (r Rule) String() string {
	if r.span == 0 {
		return fmt.Sprintf("Consecutive(%d)", r.failures)
	}
	return fmt.Sprintf("Silence(%d, %v)", r.failures, r.span)
}

func (r Rule) validate() error {
	switch {
	case r.failures < 1 || r.failures > maxRun:
		return fmt.Errorf("is %v: the number of failures must be 1 to %d", r, maxRun)
	case r.span < 0:
		return fmt.Errorf("is %v: the span must not be negative", r)
	}
	return nil
}
