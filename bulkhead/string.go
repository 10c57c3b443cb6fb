package bulkhead

import (
	"fmt"

	"github.com/resilience-go/resilience/internal/policykit"
)

// String describes the bulkhead by the numbers that it works with, for people: the
// text may change.
func (b *Bulkhead) String() string {
	c := &b.cfg
	s := policykit.Describe(policy, c.Name, b.key)
	if c.Slots == 0 {
		s += fmt.Sprintf("%d or more in flight as it sizes itself", minLimit)
	} else {
		s += fmt.Sprintf("%d in flight", c.Slots)
	}
	switch {
	case c.MaxQueue < 0:
		return s + ", nobody waits"
	case c.MaxQueue == 0 && c.Slots == 0:
		s += ", half as many may wait"
	default:
		s += fmt.Sprintf(", %d may wait", b.maxQueue(int64(c.Slots)))
	}
	if c.MaxWait < 0 {
		return s + " until their contexts end"
	}
	return s + fmt.Sprintf(" for %v", c.MaxWait)
}
