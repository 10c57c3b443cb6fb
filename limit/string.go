package limit

import (
	"fmt"

	"github.com/resilience-go/resilience/internal/describe"
)

// String describes the limit by the numbers that it works with, for people: the text
// may change.
func (l *Limit) String() string {
	c := &l.cfg
	s := describe.Policy(policy, c.Name, l.key) + fmt.Sprintf("%d in flight at first, then as experiments show", min(initial, c.Max))
	if c.Max < most {
		s += fmt.Sprintf(", %d at most", c.Max)
	}
	switch {
	case c.MaxQueue < 0:
		s += ", nobody waits"
	case c.MaxQueue > 0:
		s += fmt.Sprintf(", %d may wait", c.MaxQueue)
	}
	if c.Shadow {
		s += ", only counts whom it would refuse"
	}
	return s
}
