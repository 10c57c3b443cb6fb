package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience/breaker"
	"go.uber.org/goleak"
)

func TestReport_measuresAllRows(t *testing.T) {
	defer goleak.VerifyNone(t)
	var out strings.Builder
	if _, err := report(&out, options{pairs: 2, half: 2 * time.Millisecond, every: time.Millisecond, markdown: true}); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{nullRow, callsRow, closedRow, openRow} {
		if !strings.Contains(out.String(), "\n| "+row+" | ") {
			t.Errorf("no row %q in\n%s", row, out.String())
		}
	}
}

func TestReport_errors(t *testing.T) {
	for _, o := range []options{
		{pairs: 0, half: 1, every: 1},
		{pairs: 1, half: 0, every: 1},
		{pairs: 1, half: 1, every: 0},
	} {
		if _, err := report(io.Discard, o); err == nil {
			t.Errorf("%+v is not refused", o)
		}
	}
}

func TestRows_groupStates(t *testing.T) {
	for want, err := range map[breaker.State]error{breaker.Closed: nil, breaker.Open: io.EOF} {
		n := 0
		for _, p := range group(err).All() {
			if got := p.(*breaker.Breaker).State(); got != want {
				t.Errorf("%v, want %v", got, want)
			}
			n++
		}
		if n != keys {
			t.Errorf("%d keys, want %d", n, keys)
		}
	}
}
