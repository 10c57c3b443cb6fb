// Package describe has what the String methods of policies have in common.
package describe

import "fmt"

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
