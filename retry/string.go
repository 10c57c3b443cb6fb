package retry

import (
	"fmt"
	"math"

	"github.com/resilience-go/resilience/internal/policykit"
)

// String describes the retry by the numbers that it works with, for people: the text
// may change.
func (r *Retry) String() string {
	c := &r.cfg
	s := policykit.Describe(policy, c.Name, r.key) + policykit.Count(c.MaxAttempts, "attempt")
	if c.MaxAttempts == 1 {
		return s
	}
	if c.MaxDelay == math.MaxInt64 {
		s += ", waits without a bound"
	} else {
		s += fmt.Sprintf(", waits of up to %v", c.MaxDelay)
	}
	if c.Budget < 0 {
		return s + ", no budget"
	}
	return s + fmt.Sprintf(", budget of %d at %d a retry, %d after a timeout", c.Budget, quickPrice, timeoutPrice)
}
