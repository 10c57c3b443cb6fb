package keyed_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/resiliencetest"
	"github.com/resilience-go/resilience/retry"
)

// Errors and events of the forks carry the key.
func TestGroup_keyInErrorsAndEvents(t *testing.T) {
	const key = "https://a.example.com:443"
	var heard resiliencetest.Recorder
	template := resilience.Compose(
		resilience.Must(retry.New(retry.Config{Observer: &heard})),
		resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Hour, Observer: &heard})),
		resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: -1, Observer: &heard})),
	)
	p := must(t, template, keyed.Config{}).For(key)
	var rejection *resilience.Rejection
	err := run(t, p, func(context.Context) error {
		full := run(t, p, succeed)
		if !errors.Is(full, bulkhead.ErrFull) || !errors.As(full, &rejection) || rejection.Key != key {
			t.Errorf("the bulkhead rejects with %v", full)
		}
		return errBoom
	})
	var stopped *retry.Error
	if !errors.As(err, &stopped) || stopped.Rejection == nil {
		t.Fatalf("error %v, want one of a retry that the breaker stopped", err)
	}
	if !errors.As(stopped.Rejection, &rejection) || rejection.Key != key {
		t.Errorf("the breaker rejects with %v", stopped.Rejection)
	}
	if len(heard.Events(retry.EventRetrying, retry.EventGaveUp, breaker.EventOpened, bulkhead.EventRejected)) < 4 {
		t.Errorf("heard only %v", heard.Events())
	}
	for _, e := range heard.Events() {
		if e.Key != key {
			t.Errorf("%+v does not say the key", e)
		}
	}
}
