package adapter_test

import (
	"context"
	"errors"
	"testing"

	"github.com/resilience-go/resilience/internal/adapter"
)

type errorList []error

func (errorList) Error() string { return "errors" }

// A context has ended first if its cause is not its parent's.
func TestEndedFirst_cause(t *testing.T) {
	one, list := errors.New("one"), errorList{}
	for name, test := range map[string]struct {
		end  func(ctx, parent context.CancelCauseFunc)
		want bool
	}{
		"neither":                  {func(ctx, parent context.CancelCauseFunc) {}, false},
		"the context":              {func(ctx, parent context.CancelCauseFunc) { ctx(one) }, true},
		"the parent":               {func(ctx, parent context.CancelCauseFunc) { parent(one) }, false},
		"the context first":        {func(ctx, parent context.CancelCauseFunc) { ctx(one); parent(nil) }, true},
		"the parent first":         {func(ctx, parent context.CancelCauseFunc) { parent(one); ctx(nil) }, false},
		"both for the same reason": {func(ctx, parent context.CancelCauseFunc) { ctx(nil); parent(nil) }, false},
		"the parent, uncomparable": {func(ctx, parent context.CancelCauseFunc) { parent(list); ctx(nil) }, false},
		"both, uncomparable":       {func(ctx, parent context.CancelCauseFunc) { ctx(list); parent(list) }, false},
	} {
		parent, endParent := context.WithCancelCause(t.Context())
		ctx, end := context.WithCancelCause(parent)
		test.end(end, endParent)
		if got := adapter.EndedFirst(ctx, parent); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
		end(nil)
		endParent(nil)
	}
}
