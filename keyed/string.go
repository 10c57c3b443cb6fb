package keyed

import (
	"fmt"
	"maps"
	"slices"

	"github.com/resilience-go/resilience/internal/policykit"
)

// String returns the settings of the group, for people. The text may change.
func (g *Group) String() string {
	s := policykit.Describe("keyed", g.cfg.Name, "") + "up to " + policykit.Count(g.cfg.Max, "key") + ", each with a state of its own"
	if n := len(g.cfg.Keys); n > 0 {
		s += fmt.Sprintf("; a policy of its own for %q", slices.Sorted(maps.Keys(g.cfg.Keys)))
	}
	return s
}

// String returns a text with the key.
func (m *member) String() string { return fmt.Sprintf("key %q", m.key) }
