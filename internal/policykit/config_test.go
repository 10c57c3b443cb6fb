package policykit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stale"
	"github.com/resilience-go/resilience/timeout"
)

// Every Config reports a duration without a unit as an error that names the field.
func TestCheckDuration_everyConfig(t *testing.T) {
	trip := func(r breaker.Rule) breaker.Config { return breaker.Config{Name: "users", Trip: []breaker.Rule{r}} }
	for field, try := range map[string]func() error{
		"Config.OpenFor":      func() error { _, err := breaker.New(breaker.Config{Name: "users", OpenFor: 60}); return err },
		"Config.ProbeTimeout": func() error { _, err := breaker.New(breaker.Config{Name: "users", ProbeTimeout: 60}); return err },
		"Config.Trip[0].Span": func() error { _, err := breaker.New(trip(breaker.Silence{Failures: 7, Span: 60})); return err },
		"Config.Trip[0].LongerThan": func() error {
			_, err := breaker.New(trip(breaker.Slow{LongerThan: 60, Calls: 5, Of: 10, Over: time.Minute}))
			return err
		},
		"Config.MaxWait": func() error { _, err := bulkhead.New(bulkhead.Config{Name: "users", MaxWait: 60}); return err },
		"Config.MaxAge": func() error {
			_, err := stale.New[int](stale.Config{Name: "users", MaxAge: 60})
			return err
		},
		"Config.Timeout":   func() error { _, err := timeout.New(timeout.Config{Name: "users", Timeout: 60}); return err },
		"Config.BaseDelay": func() error { _, err := retry.New(retry.Config{Name: "users", BaseDelay: 60}); return err },
	} {
		err := try()
		if err == nil {
			t.Errorf("%s is accepted", field)
			continue
		}
		for _, want := range []string{` "users": ` + field + " is 60ns", "60*time.Millisecond"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got %q, want %q in it", err, want)
			}
		}
	}
}

// Durations of a microsecond or more, 0, -1, and all durations with a Clock are valid.
func TestCheckDuration_valid(t *testing.T) {
	for name, err := range map[string]error{
		"a microsecond": policykit.CheckDuration("breaker", "", "Config.OpenFor", time.Microsecond, nil),
		"the default":   policykit.CheckDuration("breaker", "", "Config.OpenFor", 0, nil),
		"off":           policykit.CheckDuration("breaker", "", "Config.OpenFor", -1, nil),
		"with a Clock":  policykit.CheckDuration("breaker", "", "Config.OpenFor", 1, clock.NewMock()),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
