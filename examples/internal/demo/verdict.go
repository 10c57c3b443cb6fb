package demo

import (
	"slices"
	"strings"
)

// Check is one condition of a verdict.
type Check struct {
	What string `json:"what"`
	Want string `json:"want"`
	Got  string `json:"got"`
	OK   bool   `json:"ok"`
}

// Mark returns how a table shows whether the condition is met.
func (c Check) Mark() string {
	if c.OK {
		return "ok"
	}
	return "FAIL"
}

// Passed reports whether there are checks and all are met.
func Passed(checks []Check) bool {
	return len(checks) > 0 && !slices.ContainsFunc(checks, func(c Check) bool { return !c.OK })
}

// NotShown names the checks that are not met in a sentence.
func NotShown(checks []Check) string {
	var missed []string
	for _, c := range checks {
		if !c.OK {
			missed = append(missed, c.What)
		}
	}
	return "Not shown: " + strings.Join(missed, "; ") + "."
}
