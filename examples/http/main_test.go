package main

import (
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Requests that are safe to retry succeed, and a POST is sent once.
func TestRun_output(t *testing.T) {
	var out strings.Builder
	if err := run(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`GET /orders/ready +attempts: 1, 200 OK\n`,
		`GET /orders/busy +attempts: 2, 200 OK\n`,
		`GET /orders/slow +attempts: 2, 200 OK\n`,
		`POST /orders/busy +attempts: 1, 503 Service Unavailable\n`,
		`POST /orders/slow +attempts: 1, error: .*timeout`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("the output does not match %q:\n%s", want, &out)
		}
	}
}
