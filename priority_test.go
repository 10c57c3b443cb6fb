package resilience_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/fallback"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

// prioritized and fromCaller have one optional method each, and ranked has both.
type (
	prioritized struct {
		perCall
		priority resilience.Priority
	}
	fromCaller struct {
		perCall
		caller string
	}
	ranked struct {
		prioritized
		caller string
	}
)

func (p *prioritized) Priority() resilience.Priority { return p.priority }
func (f *fromCaller) Caller() string                 { return f.caller }
func (r *ranked) Caller() string                     { return r.caller }

// rank is a policy that stores what Next.Rank returns, and runs nothing.
type rank struct {
	priority resilience.Priority
	caller   string
	calls    int
}

var errRanked = errors.New("ranked")

func (r *rank) Apply(_ context.Context, next resilience.Next) error {
	r.priority, r.caller = next.Rank()
	r.calls++
	return errRanked
}

// Larger priorities matter more, the zero value is Normal, and each value has a text.
func TestPriority_order(t *testing.T) {
	texts := []string{"lowest", "low", "normal", "critical"}
	for i, p := range []resilience.Priority{resilience.Lowest, resilience.Low, resilience.Normal, resilience.Critical} {
		if want := resilience.Lowest + resilience.Priority(i); p != want || p.String() != texts[i] {
			t.Errorf("%d is %q, want %d and %q", p, p, want, texts[i])
		}
	}
	if resilience.Priority(0) != resilience.Normal {
		t.Error("the zero value is not Normal")
	}
	if least, most := resilience.Priority(math.MinInt8), resilience.Priority(math.MaxInt8); least.String() != "lowest" || most.String() != "critical" {
		t.Errorf("out of range: %q and %q", least, most)
	}
}

// Next.Rank returns what the operation's optional methods return, with the priority in range.
func TestNext_rank(t *testing.T) {
	for name, tt := range map[string]struct {
		op       resilience.Operation
		priority resilience.Priority
		caller   string
	}{
		"function":          {resilience.Func(nothing), resilience.Normal, ""},
		"no method":         {&perCall{}, resilience.Normal, ""},
		"only Priority":     {&prioritized{priority: resilience.Low}, resilience.Low, ""},
		"only Caller":       {&fromCaller{caller: "a"}, resilience.Normal, "a"},
		"both":              {&ranked{prioritized{priority: resilience.Critical}, "b"}, resilience.Critical, "b"},
		"priority too low":  {&prioritized{priority: math.MinInt8}, resilience.Lowest, ""},
		"priority too high": {&prioritized{priority: math.MaxInt8}, resilience.Critical, ""},
	} {
		r := &rank{}
		if err := resilience.RunOperation(t.Context(), r, tt.op); !errors.Is(err, errRanked) {
			t.Fatal(err)
		}
		if r.priority != tt.priority || r.caller != tt.caller {
			t.Errorf("%s: %v and %q, want %v and %q", name, r.priority, r.caller, tt.priority, tt.caller)
		}
	}
}

// A policy inside any other policy gets the rank of the operation, at each attempt.
func TestNext_rankInsideEachPolicy(t *testing.T) {
	group := func(p resilience.Policy) resilience.Policy {
		return resilience.Must(keyed.New(resilience.Must(breaker.New(breaker.Config{})), keyed.Config{Keys: map[string]resilience.Policy{"": p}}))
	}
	attempts := resilience.Must(retry.New(retry.Config{BaseDelay: time.Millisecond}))
	for name, tt := range map[string]struct {
		outside func(resilience.Policy) resilience.Policy
		calls   int
	}{
		"breaker":  {within(resilience.Must(breaker.New(breaker.Config{}))), 1},
		"bulkhead": {within(resilience.Must(bulkhead.New(bulkhead.Config{}))), 1},
		"fallback": {within(resilience.Must(fallback.New(fallback.Config{Handle: func(_ context.Context, err error) error { return err }}))), 1},
		"keyed":    {group, 1},
		"limit":    {within(resilience.Must(limit.New(limit.Config{}))), 1},
		"retry":    {within(attempts), 3},
		"stack":    {within(stack.Client("a")), 3},
		"server":   {within(stack.Server("a")), 1},
		"timeout":  {within(resilience.Must(timeout.New(timeout.Config{Timeout: time.Hour}))), 1},
		"function": {within(resilience.PolicyFunc(func(ctx context.Context, next resilience.Next) error { return next.Run(ctx) })), 1},
	} {
		r := &rank{}
		synctest.Test(t, func(t *testing.T) { // a retry waits
			_ = resilience.RunOperation(t.Context(), tt.outside(r), &ranked{prioritized{priority: resilience.Low}, "c"})
		})
		if r.priority != resilience.Low || r.caller != "c" || r.calls != tt.calls {
			t.Errorf("%s: %v and %q, %d times; want %v and %q, %d times", name, r.priority, r.caller, r.calls, resilience.Low, "c", tt.calls)
		}
	}
}

// within returns a function that puts a policy inside outer.
func within(outer resilience.Policy) func(resilience.Policy) resilience.Policy {
	return func(p resilience.Policy) resilience.Policy { return resilience.Compose(outer, p) }
}
