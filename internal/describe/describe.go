// Package describe has what texts about policies have in common.
package describe

import (
	"fmt"
	"time"
)

// Policy returns what a description of a policy starts with: its kind, its name and
// the key it is for in a keyed.Group, either of which may be empty.
func Policy(kind, name, key string) string {
	if name != "" {
		kind += fmt.Sprintf(" %q", name)
	}
	if key != "" {
		kind += fmt.Sprintf(" for %q", key)
	}
	return kind + ": "
}

// Count returns n and the noun, with an s unless n is 1.
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Time returns t as it is written for people.
func Time(t time.Time) string { return t.Format("2006-01-02 15:04:05.000 MST") }
