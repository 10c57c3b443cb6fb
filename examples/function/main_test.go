package main

import (
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
)

// The program shows a retry, an open breaker, a fallback and the recovery.
func TestRun_output(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		run(t.Context(), &out)
		for _, want := range []string{
			`two attempts fail: +\{Ada\}, <nil> after 3 attempts\n`,
			`the database is down: +rejected after 1(\.1)?s and \d+ failed calls\n`,
			`with a fallback: +\{Ada\}, <nil>\n`,
			`the database is back: +\{Ada\} after \d+0ms\n`,
		} {
			if !regexp.MustCompile(want).MatchString(out.String()) {
				t.Errorf("the output does not match %q:\n%s", want, &out)
			}
		}
	})
}
