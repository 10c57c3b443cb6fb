package main

import (
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The program shows a retry, the timeout of an attempt, an open breaker and the
// recovery.
func TestRun_output(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`one attempt fails: +OK after 2 attempts\n`,
		`the server hangs: +DeadlineExceeded after \d+ms\n`,
		`the breaker opens: +Unavailable at once, after \d+ failed calls\n`,
		`the server is back: +OK after .*s\n`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("the output does not match %q:\n%s", want, &out)
		}
	}
}
