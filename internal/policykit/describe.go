package policykit

import (
	"fmt"
	"time"
)

// Describe returns the start of the description of a policy: its kind, its name and its
// key in a keyed.Group. Name and key may be empty.
func Describe(kind, name, key string) string {
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

// FormatTime returns t for people.
func FormatTime(t time.Time) string { return t.Format("2006-01-02 15:04:05.000 MST") }

// Round rounds d for people: to two digits below ten seconds, to seconds above.
func Round(d time.Duration) time.Duration {
	unit := time.Second
	for unit > time.Microsecond && d < 10*unit {
		unit /= 10
	}
	return d.Round(unit)
}
