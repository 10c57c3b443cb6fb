package stack_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

var errBoom = errors.New("boom")

// call is an operation with a key.
type call struct {
	key string
	fn  resilience.Func
}

func (c call) Key() string                   { return c.key }
func (c call) Run(ctx context.Context) error { return c.fn(ctx) }

func succeed(context.Context) error { return nil }
func fail(context.Context) error    { return errBoom }

// named returns the types and names of the policies of p, the outer before the inner.
func named(p resilience.Policy) (all []string) {
	for n := range resilience.Walk(p) {
		q := n.Policy
		if n, ok := q.(interface{ Name() string }); ok {
			all = append(all, strings.TrimPrefix(fmt.Sprintf("%T %s", q, n.Name()), "*"))
		}
	}
	return all
}

// The layers of a stack stand in the documented order.
func TestNew_layerOrder(t *testing.T) {
	whole := stack.DefaultClient("users")
	whole.Total = timeout.Config{Name: "total", Timeout: time.Minute}
	flat := stack.DefaultClient("users")
	flat.Without = stack.Keyed
	bare := stack.DefaultClient("users")
	bare.Without = stack.Keyed | stack.Breaker | stack.Attempt
	streams := stack.DefaultServer("users")
	streams.Bulkhead.Slots = 100
	const layers = "retry.Retry users, breaker.Breaker users, bulkhead.Bulkhead users, timeout.Timeout users"
	for name, test := range map[string]struct {
		make func() (resilience.Policy, error)
		want string
	}{
		"Client":           {stack.DefaultClient("users").New, "keyed.Group users, " + layers},
		"with a total":     {whole.New, "timeout.Timeout total, keyed.Group users, " + layers},
		"without keys":     {flat.New, layers},
		"some left out":    {bare.New, "retry.Retry users, bulkhead.Bulkhead users"},
		"a zero client":    {stack.ClientConfig{Name: "users"}.New, "keyed.Group users, " + layers},
		"a zero server":    {stack.ServerConfig{Name: "users"}.New, "limit.Limit users"},
		"Server":           {stack.DefaultServer("users").New, "limit.Limit users"},
		"with a bulkhead":  {streams.New, "limit.Limit users, bulkhead.Bulkhead users"},
		"a bulkhead alone": {stack.ServerConfig{Name: "users", Without: stack.Limit, Bulkhead: bulkhead.Config{Slots: 1}}.New, "bulkhead.Bulkhead users"},
		"keys and no more": {stack.ClientConfig{
			Name: "users", Keyed: keyed.Config{Keys: map[string]resilience.Policy{"a": stack.Server("a")}},
			Without: stack.Retry | stack.Breaker | stack.Bulkhead | stack.Attempt,
		}.New, "keyed.Group users, limit.Limit a"},
	} {
		t.Run(name, inBubble(func(t *testing.T) {
			p := resilience.Must(test.make())
			if got := strings.Join(named(p), ", "); got != test.want {
				t.Errorf("layers %s, want %s", got, test.want)
			}
			if err := resilience.Run(t.Context(), p, succeed); err != nil {
				t.Errorf("a call: %v", err)
			}
			if err := resilience.Run(t.Context(), p, fail); !errors.Is(err, errBoom) {
				t.Errorf("a call that fails: %v", err)
			}
		}))
	}
}

// Every subset of the layers works, except those that New rejects.
func TestClient_everySubset(t *testing.T) {
	layers := []struct {
		name  string
		layer stack.Layer
	}{
		{"keyed.Group users", stack.Keyed},
		{"retry.Retry users", stack.Retry},
		{"breaker.Breaker users", stack.Breaker},
		{"bulkhead.Bulkhead users", stack.Bulkhead},
		{"timeout.Timeout users", stack.Attempt},
	}
	for subset := range 2 << len(layers) {
		c := stack.DefaultClient("users")
		var want []string
		if subset&1 == 0 {
			c.Total.Timeout = time.Minute
			want = append(want, "timeout.Timeout users total")
		}
		for i, l := range layers {
			if subset>>(i+1)&1 == 0 {
				c.Without |= l.layer
			} else {
				want = append(want, l.name)
			}
		}
		if c.Total.Timeout == 0 && c.Without|stack.Keyed == stack.Keyed|stack.Retry|stack.Breaker|stack.Bulkhead|stack.Attempt {
			continue // it guards nothing
		}
		t.Run(strings.Join(want, ", "), inBubble(func(t *testing.T) {
			p, err := c.New()
			if err != nil {
				t.Fatal(err)
			}
			if got := named(p); !slices.Equal(got, want) {
				t.Errorf("layers %q", got)
			}
			for _, key := range []string{"", "a"} {
				if err := resilience.RunOperation(t.Context(), p, call{key, succeed}); err != nil {
					t.Errorf("a call: %v", err)
				}
				if err := resilience.RunOperation(t.Context(), p, call{key, fail}); !errors.Is(err, errBoom) {
					t.Errorf("a call that fails: %v", err)
				}
			}
			time.Sleep(10 * time.Second) // until the breaker forgets the failure
			if f, ok := p.(interface{ Idle() bool }); ok && !f.Idle() {
				t.Error("the stack is not idle")
			}
		}))
	}
}

// inBubble runs test without waits in real time.
func inBubble(test func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

// A change of the configuration after New does not change the stack.
func TestClient_configChangedAfterNew(t *testing.T) {
	c := stack.DefaultClient("users")
	other := resilience.Must(timeout.New(timeout.Config{Name: "other"}))
	c.Keyed.Keys = map[string]resilience.Policy{"a": resilience.Compose()}
	c.Breaker.Trip = []breaker.Rule{breaker.Consecutive{Failures: 1}}
	p := resilience.Must(c.New())
	c.Retry.Name, c.Breaker.Name, c.Keyed.Max = "other", "other", -1
	c.Keyed.Keys["a"], c.Keyed.Keys["b"], c.Breaker.Trip[0] = other, other, breaker.Consecutive{Failures: 2}
	if got := strings.Join(named(p), ", "); strings.Contains(got, "other") {
		t.Errorf("layers %s", got)
	}
	if _, err := c.New(); err == nil {
		t.Error("a second New ignores the change")
	}
	_ = resilience.Run(t.Context(), p, fail)
	if err := resilience.Run(t.Context(), p, succeed); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("the rule of the breaker has changed: %v", err)
	}
}

// A copy of a ClientConfig shares no layer with the original.
func TestClientConfig_copy(t *testing.T) {
	c := stack.DefaultClient("users")
	text := c.String()
	other := c
	other.Total.Timeout, other.Keyed.Max, other.Retry.MaxAttempts, other.Without = time.Minute, 1, 2, stack.Bulkhead
	other.Breaker.CloseAfter, other.Bulkhead.Slots, other.Attempt.Timeout = 1, 1, time.Second
	if got := c.String(); got != text {
		t.Errorf("the original has changed:\n%s", got)
	}
}

// Attempt.Until is Answered unless the user sets it, also if Attempt is replaced.
func TestClientConfig_attemptUntil(t *testing.T) {
	for until, want := range map[resilience.Moment]string{
		0: "1s until answered", resilience.Answered: "1s until answered", resilience.Ended: "1s until ended",
	} {
		c := stack.DefaultClient("users")
		c.Attempt = timeout.Config{Timeout: time.Second, Until: until}
		if got := c.String(); !strings.Contains(got, want) {
			t.Errorf("Until %d: no %q in\n%s", until, want, got)
		}
	}
}

// A ProbeTimeout of 0 follows the other layers and is at least 15 s. A configured
// ProbeTimeout is used unchanged.
func TestClientConfig_probeTimeout(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*stack.ClientConfig)
		want   string
	}{
		"the default":     {func(*stack.ClientConfig) {}, "15s"},
		"a short attempt": {func(c *stack.ClientConfig) { c.Attempt.Timeout = time.Second }, "15s"},
		"a long attempt":  {func(c *stack.ClientConfig) { c.Attempt.Timeout = 40*time.Second - 100*time.Millisecond }, "50s"},
		"a long wait":     {func(c *stack.ClientConfig) { c.Bulkhead.MaxWait = 30 * time.Second }, "50s"},
		"no queue":        {func(c *stack.ClientConfig) { c.Attempt.Timeout, c.Bulkhead.MaxQueue = 40*time.Second, -1 }, "50s"},
		"no bulkhead":     {func(c *stack.ClientConfig) { c.Attempt.Timeout, c.Without = 40*time.Second, stack.Bulkhead }, "50s"},
		"an unbounded wait": {func(c *stack.ClientConfig) {
			c.Attempt.Timeout, c.Bulkhead.MaxWait, c.Total.Timeout = 30*time.Second, -1, 40*time.Second
		}, "50s"},
		"no attempt":             {func(c *stack.ClientConfig) { c.Without = stack.Attempt }, "15s"},
		"no attempt, a total":    {func(c *stack.ClientConfig) { c.Without, c.Total.Timeout = stack.Attempt, time.Minute }, "1m15s"},
		"a total that is longer": {func(c *stack.ClientConfig) { c.Total.Timeout = time.Minute }, "15s"},
		"a total below the wait": {func(c *stack.ClientConfig) { c.Bulkhead.MaxWait, c.Total.Timeout = time.Hour, 40*time.Second }, "50s"},
		"judged at the end": {func(c *stack.ClientConfig) {
			c.Breaker.Until, c.Attempt.Timeout, c.Bulkhead.MaxQueue = resilience.Ended, 40*time.Second, -1
			c.Attempt.Until = resilience.Ended
		}, "50s"},
		"the longest attempt": {func(c *stack.ClientConfig) { c.Attempt.Timeout = math.MaxInt64 }, time.Duration(math.MaxInt64).String()},
		"set":                 {func(c *stack.ClientConfig) { c.Breaker.ProbeTimeout = 11 * time.Second }, "11s"},
		"set to unbounded":    {func(c *stack.ClientConfig) { c.Breaker.ProbeTimeout = -1 }, "no timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			c := stack.DefaultClient("users")
			test.change(&c)
			if got := c.String(); !strings.Contains(got, "; probes have "+test.want+";") {
				t.Errorf("want %s in\n%s", test.want, got)
			}
		})
	}
}

// New of a server says what to change.
func TestServer_invalid(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*stack.ServerConfig)
		want   []string
	}{
		"the limit":    {func(c *stack.ServerConfig) { c.Limit.Max = -1 }, []string{`limit "orders"`, "Config.Max is -1"}},
		"the bulkhead": {func(c *stack.ServerConfig) { c.Bulkhead.Slots = -1 }, []string{`bulkhead "orders"`, "Config.Slots is -1"}},
		"both": {func(c *stack.ServerConfig) { c.Limit.Max, c.Bulkhead.Slots = -1, -2 },
			[]string{"Config.Max is -1", "Config.Slots is -2"}},
		"no name":           {func(c *stack.ServerConfig) { c.Name = "" }, []string{"Name is empty: set it", `as in "orders"`}},
		"nothing is left":   {func(c *stack.ServerConfig) { c.Without = stack.Limit }, []string{"nothing is guarded: keep the limit, or use resilience.Compose()"}},
		"a client's layer":  {func(c *stack.ServerConfig) { c.Without = stack.Limit | stack.Bulkhead }, []string{"Without has stack.Bulkhead, and only stack.Limit"}},
		"a queue, no slots": {func(c *stack.ServerConfig) { c.Bulkhead.MaxQueue = -1 }, []string{"no Slots, and so is off: set Bulkhead.Slots"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := stack.DefaultServer("orders")
			test.change(&c)
			p, err := c.New()
			wantRejected(t, p, err, test.want)
		})
	}
}

// Before an overload has been shown, requests over the limit are queued and none is rejected.
func TestServer_firstHerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := stack.Server("orders")
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				err := resilience.Run(t.Context(), p, func(context.Context) error { time.Sleep(20 * time.Millisecond); return nil })
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if f, ok := p.(interface{ Idle() bool }); ok && !f.Idle() {
			t.Error("the stack is not idle")
		}
	})
}

// The bulkhead of a server is inside its limit.
func TestServer_bulkheadInsideLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stack.DefaultServer("orders")
		c.Limit.Max = 2
		c.Bulkhead = bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue}
		p := resilience.Must(c.New())
		leave := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			if err := resilience.Run(t.Context(), p, func(context.Context) error { <-leave; return nil }); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if err := resilience.Run(t.Context(), p, succeed); !errors.Is(err, bulkhead.ErrFull) {
			t.Errorf("error %v, want one of the bulkhead", err)
		}
		close(leave)
		all.Wait()
	})
}
