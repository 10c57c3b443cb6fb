package policykit_test

import (
	"context"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/policykit"
)

type observer func(resilience.Event)

func (o observer) Observe(_ context.Context, e resilience.Event) { o(e) }

func TestAnEventArrivesAsItIs(t *testing.T) {
	want := resilience.Event{Kind: "retrying", Name: "users", Attempt: 2}
	var got resilience.Event
	policykit.Observe(t.Context(), observer(func(e resilience.Event) { got = e }), want)
	if got != want {
		t.Errorf("observed %+v", got)
	}
}

func TestAPanicIsDropped(t *testing.T) {
	for name, value := range map[string]any{"a value": "boom", "nil": nil} {
		t.Run(name, func(t *testing.T) {
			policykit.Observe(t.Context(), observer(func(resilience.Event) { panic(value) }), resilience.Event{})
		})
	}
}
