package policykit_test

import (
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/internal/testkit"
)

// The observer gets the event unchanged.
func TestObserve_event(t *testing.T) {
	want := resilience.Event{Kind: "retrying", Name: "users", Attempt: 2}
	var got resilience.Event
	policykit.Observe(t.Context(), testkit.Observer(func(e resilience.Event) { got = e }), want)
	if got != want {
		t.Errorf("observed %+v", got)
	}
}

// A panic of the observer is dropped.
func TestObserve_panic(t *testing.T) {
	for name, value := range map[string]any{"a value": "boom", "nil": nil} {
		t.Run(name, func(t *testing.T) {
			policykit.Observe(t.Context(), testkit.Observer(func(resilience.Event) { panic(value) }), resilience.Event{})
		})
	}
}
