package timeout

import (
	"fmt"

	"github.com/resilience-go/resilience/internal/policykit"
)

// String describes the timeout by the numbers that it works with, for people: the
// text may change.
func (t *Timeout) String() string {
	s := policykit.Describe(policy, t.cfg.Name, "")
	if t.cfg.Timeout < 0 {
		return s + "no limit"
	}
	return s + fmt.Sprintf("%v until %v", t.cfg.Timeout, t.cfg.Until)
}
