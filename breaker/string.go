package breaker

import (
	"fmt"
	"strings"

	"github.com/resilience-go/resilience/internal/describe"
)

// String describes the breaker by the numbers that it works with, for people: the
// text may change. It says nothing of the state.
func (b *Breaker) String() string {
	c := &b.cfg
	var s strings.Builder
	s.WriteString(describe.Policy(policy, c.Name, b.key))
	s.WriteString("opens on ")
	for i, r := range c.Trip {
		if i > 0 {
			s.WriteString(" or ")
		}
		s.WriteString(r.String())
	}
	switch {
	case c.OpenFor == 0:
		fmt.Fprintf(&s, ", for up to about 1/%d of the silence, %v to %v", silenceShare, minOpenFor, c.MaxOpenFor)
	case c.MaxOpenFor > c.OpenFor:
		fmt.Fprintf(&s, ", for %v doubling up to %v", c.OpenFor, c.MaxOpenFor)
	default:
		fmt.Fprintf(&s, ", for %v", c.OpenFor)
	}
	fmt.Fprintf(&s, ", or what a failure asks for up to %v; closes ", maxRetryAfter)
	if c.CloseAfter == 1 {
		s.WriteString("at the first success")
	} else {
		fmt.Fprintf(&s, "at %d more successes than failures", c.CloseAfter)
	}
	if c.ProbeTimeout < 0 {
		s.WriteString("; a probe may take for ever")
	} else {
		fmt.Fprintf(&s, "; a probe may take %v", c.ProbeTimeout)
	}
	fmt.Fprintf(&s, "; a success counts when %v", c.Until)
	return s.String()
}
