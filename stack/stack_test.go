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

// named are the policies of p with their names, the outer before the inner.
func named(p resilience.Policy) (all []string) {
	for n := range resilience.Walk(p) {
		q := n.Policy
		if n, ok := q.(interface{ Name() string }); ok {
			all = append(all, strings.TrimPrefix(fmt.Sprintf("%T %s", q, n.Name()), "*"))
		}
	}
	return all
}

func TestTheLayersAreThereInOrder(t *testing.T) {
	whole := stack.DefaultClient("users")
	whole.Total = &timeout.Config{Name: "total", Timeout: time.Minute}
	flat := stack.DefaultClient("users")
	flat.Keyed = nil
	bare := stack.DefaultClient("users")
	bare.Keyed, bare.Breaker, bare.Attempt = nil, nil, nil
	streams := stack.DefaultServer("users")
	streams.Bulkhead = &bulkhead.Config{}
	const layers = "retry.Retry users, breaker.Breaker users, bulkhead.Bulkhead users, timeout.Timeout users"
	for name, test := range map[string]struct {
		make func() (resilience.Policy, error)
		want string
	}{
		"Client":           {stack.DefaultClient("users").New, "keyed.Group users, " + layers},
		"with a total":     {whole.New, "timeout.Timeout total, keyed.Group users, " + layers},
		"without keys":     {flat.New, layers},
		"some left out":    {bare.New, "retry.Retry users, bulkhead.Bulkhead users"},
		"all left out":     {stack.ClientConfig{}.New, ""},
		"Server":           {stack.DefaultServer("users").New, "limit.Limit users"},
		"with a bulkhead":  {streams.New, "limit.Limit users, bulkhead.Bulkhead users"},
		"a bulkhead alone": {stack.ServerConfig{Bulkhead: &bulkhead.Config{Name: "b"}}.New, "bulkhead.Bulkhead b"},
		"an empty one":     {stack.ServerConfig{}.New, ""},
		"keys and no more": {stack.ClientConfig{Keyed: &keyed.Config{Name: "k"}}.New, "keyed.Group k"},
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

func TestEverySubsetOfTheLayersWorks(t *testing.T) {
	layers := []struct {
		name   string
		remove func(*stack.ClientConfig)
	}{
		{"timeout.Timeout total", func(c *stack.ClientConfig) { c.Total = nil }},
		{"keyed.Group users", func(c *stack.ClientConfig) { c.Keyed = nil }},
		{"retry.Retry users", func(c *stack.ClientConfig) { c.Retry = nil }},
		{"breaker.Breaker users", func(c *stack.ClientConfig) { c.Breaker = nil }},
		{"bulkhead.Bulkhead users", func(c *stack.ClientConfig) { c.Bulkhead = nil }},
		{"timeout.Timeout users", func(c *stack.ClientConfig) { c.Attempt = nil }},
	}
	for subset := range 1 << len(layers) {
		c := stack.DefaultClient("users")
		c.Total = &timeout.Config{Name: "total"}
		var want []string
		for i, l := range layers {
			if subset>>i&1 == 0 {
				l.remove(&c)
			} else {
				want = append(want, l.name)
			}
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
			time.Sleep(10 * time.Second) // so long a failure is remembered
			if f, ok := p.(interface{ Idle() bool }); ok && !f.Idle() {
				t.Error("something is still held")
			}
		}))
	}
}

// inBubble is test without waits in real time.
func inBubble(test func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

func TestTheConfigMayBeChangedAfterNew(t *testing.T) {
	c := stack.DefaultClient("users")
	p := resilience.Must(c.New())
	c.Retry.Name, c.Breaker.Name, c.Keyed.Max = "other", "other", -1
	if got := strings.Join(named(p), ", "); strings.Contains(got, "other") {
		t.Errorf("layers %s", got)
	}
}

// misfits are changes of the default that New refuses, with what it says.
var misfits = map[string]struct {
	change func(*stack.ClientConfig)
	says   []string
}{
	"attempt longer than the total": {
		func(c *stack.ClientConfig) {
			c.Total, c.Attempt.Timeout = &timeout.Config{Timeout: 2 * time.Second}, 3*time.Second
		},
		[]string{"Attempt.Timeout is 3s", "Total.Timeout, which is 2s", "shorten it or lengthen"},
	},
	"default attempt longer than the total": {
		func(c *stack.ClientConfig) { c.Total = &timeout.Config{Timeout: 2 * time.Second} },
		[]string{"Attempt.Timeout is 10s", "Total.Timeout, which is 2s"},
	},
	"attempt longer than the default total": {
		func(c *stack.ClientConfig) { c.Total, c.Attempt.Timeout = &timeout.Config{}, 11*time.Second },
		[]string{"Attempt.Timeout is 11s", "Total.Timeout, which is 10s"},
	},
	"lease not longer than wait and attempt": {
		func(c *stack.ClientConfig) {
			c.Breaker.ProbeTimeout, c.Attempt.Timeout, c.Bulkhead.MaxWait = 3*time.Second, 2*time.Second, time.Second
		},
		[]string{"Breaker.ProbeTimeout is 3s", "may take 3s", "shorten Bulkhead.MaxWait or Attempt.Timeout", "lengthen ProbeTimeout"},
	},
	"attempt as long as the lease, nobody waits": {
		func(c *stack.ClientConfig) { c.Attempt.Timeout, c.Bulkhead.MaxQueue = 15*time.Second, -1 },
		[]string{"may take 15s", "shorten Attempt.Timeout"},
	},
	"a wait without end": {
		func(c *stack.ClientConfig) { c.Bulkhead.MaxWait = -1 },
		[]string{"Breaker.ProbeTimeout is 15s", "for ever", "set Bulkhead.MaxWait", "or set a Total"},
	},
	"a wait without end, a long total": {
		func(c *stack.ClientConfig) {
			c.Bulkhead.MaxWait, c.Total = -1, &timeout.Config{Timeout: 15 * time.Second}
		},
		[]string{"may take 15s", "set Bulkhead.MaxWait", "lengthen ProbeTimeout"},
	},
	"judged at the end, limited to the answer": {
		func(c *stack.ClientConfig) { c.Breaker.Until = resilience.Ended },
		[]string{"for ever", "change Breaker.Until to resilience.Answered or Attempt.Until to resilience.Ended"},
	},
	"judged at the end, all limits to the answer": {
		func(c *stack.ClientConfig) {
			c.Breaker.Until, c.Total = resilience.Ended, &timeout.Config{Until: resilience.Answered}
		},
		[]string{"for ever", "Breaker.Until"},
	},
	"no limit of an attempt, a long total": {
		func(c *stack.ClientConfig) { c.Attempt.Timeout, c.Total = -1, &timeout.Config{Timeout: time.Minute} },
		[]string{"may take 1m0s", "set Attempt.Timeout"},
	},
	"no attempt, a long total": {
		func(c *stack.ClientConfig) { c.Attempt, c.Total = nil, &timeout.Config{Timeout: time.Minute} },
		[]string{"may take 1m0s", "set Attempt.Timeout"},
	},
	"waits as long as the total": {
		func(c *stack.ClientConfig) {
			c.Total, c.Attempt.Timeout, c.Retry.BaseDelay = &timeout.Config{Timeout: time.Second}, 100*time.Millisecond, time.Second
		},
		[]string{"Retry.BaseDelay is 1s", "Total.Timeout is 1s", "shorten BaseDelay or lengthen the total"},
	},
	"attempt longer than the default lease": {
		func(c *stack.ClientConfig) { c.Attempt.Timeout = time.Minute },
		[]string{"Breaker.ProbeTimeout is 15s", "may take 1m0.1s"},
	},
	"the longest attempt": {
		func(c *stack.ClientConfig) { c.Attempt.Timeout = math.MaxInt64 },
		[]string{"Breaker.ProbeTimeout is 15s"},
	},
	"several layers at once": {
		func(c *stack.ClientConfig) {
			c.Keyed.Max, c.Retry.Budget, c.Breaker.OpenFor, c.Bulkhead.Slots, c.Attempt.Until = -1, 1, -1, -1, 9
			c.Total = &timeout.Config{Name: "total", Until: 9}
		},
		[]string{"keyed", "Config.Max", "retry", "Config.Budget", "breaker", "Config.OpenFor", "bulkhead", "Config.Slots", `timeout "users"`, `timeout "total"`, "Config.Until"},
	},
}

func TestWhatDoesNotFitIsRefusedWithWhatToChange(t *testing.T) {
	for name, test := range misfits {
		t.Run(name, func(t *testing.T) {
			c := stack.DefaultClient("users")
			test.change(&c)
			p, err := c.New()
			if p != nil || err == nil {
				t.Fatalf("New returned %v, %v", p, err)
			}
			for _, s := range test.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

func TestWhatFitsIsAccepted(t *testing.T) {
	for name, change := range map[string]func(*stack.ClientConfig){
		"attempt as long as the total": func(c *stack.ClientConfig) { c.Total = &timeout.Config{} },
		"no limit of an attempt":       func(c *stack.ClientConfig) { c.Attempt.Timeout = -1 },
		"no limit at all":              func(c *stack.ClientConfig) { c.Attempt.Timeout, c.Total = -1, &timeout.Config{Timeout: -1} },
		"a total that is off":          func(c *stack.ClientConfig) { c.Total = &timeout.Config{Timeout: -1} },
		"a long attempt, no breaker":   func(c *stack.ClientConfig) { c.Attempt.Timeout, c.Breaker = time.Hour, nil },
		"a long attempt, no lease":     func(c *stack.ClientConfig) { c.Attempt.Timeout, c.Breaker.ProbeTimeout = time.Hour, -1 },
		"a wait without end, a short total": func(c *stack.ClientConfig) {
			c.Bulkhead.MaxWait, c.Total = -1, &timeout.Config{Timeout: 15*time.Second - 1}
		},
		"a wait without end, no attempt":        func(c *stack.ClientConfig) { c.Bulkhead.MaxWait, c.Attempt.Timeout = -1, -1 },
		"a wait without end, nobody waits":      func(c *stack.ClientConfig) { c.Bulkhead.MaxWait, c.Bulkhead.MaxQueue = -1, -1 },
		"a wait without end, no lease":          func(c *stack.ClientConfig) { c.Bulkhead.MaxWait, c.Breaker.ProbeTimeout = -1, -1 },
		"judged at the end, limited to the end": func(c *stack.ClientConfig) { c.Breaker.Until, c.Attempt.Until = resilience.Ended, 0 },
		"judged at the end, a total to the end": func(c *stack.ClientConfig) { c.Breaker.Until, c.Total = resilience.Ended, &timeout.Config{} },
		"judged at the end, no attempt":         func(c *stack.ClientConfig) { c.Breaker.Until, c.Attempt = resilience.Ended, nil },
		"no attempt, a long total, no lease": func(c *stack.ClientConfig) {
			c.Attempt, c.Breaker.ProbeTimeout, c.Total = nil, -1, &timeout.Config{Timeout: time.Minute}
		},
		"a long total": func(c *stack.ClientConfig) { c.Total = &timeout.Config{Timeout: time.Hour} },
		"a long total, no breaker": func(c *stack.ClientConfig) {
			c.Total, c.Attempt, c.Breaker = &timeout.Config{Timeout: time.Hour}, nil, nil
		},
		"waits bounded above a total": func(c *stack.ClientConfig) { c.Total, c.Retry.MaxDelay = &timeout.Config{}, time.Minute },
		"long waits of its own": func(c *stack.ClientConfig) {
			c.Total, c.Retry.BaseDelay, c.Retry.MaxDelay = &timeout.Config{}, time.Minute, time.Minute
			c.Retry.Backoff = func(int) time.Duration { return 0 }
		},
		"long waits, one attempt": func(c *stack.ClientConfig) {
			c.Total, c.Retry.BaseDelay, c.Retry.MaxAttempts = &timeout.Config{}, time.Minute, 1
		},
		"long waits, tried once": func(c *stack.ClientConfig) {
			c.Total, c.Retry.BaseDelay, c.Retry.MaxAttempts = &timeout.Config{}, time.Minute, -1
		},
		"long waits, no total":      func(c *stack.ClientConfig) { c.Retry.BaseDelay = time.Hour },
		"a long wait, no attempt":   func(c *stack.ClientConfig) { c.Bulkhead.MaxWait, c.Attempt = time.Hour, nil },
		"a long wait, nobody waits": func(c *stack.ClientConfig) { c.Bulkhead.MaxWait, c.Bulkhead.MaxQueue = time.Hour, -1 },
		"no bulkhead":               func(c *stack.ClientConfig) { c.Attempt.Timeout, c.Bulkhead = 15*time.Second-1, nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := stack.DefaultClient("users")
			change(&c)
			if _, err := c.New(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAServerIsRefusedWithWhatToChange(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*stack.ServerConfig)
		says   []string
	}{
		"the limit":    {func(c *stack.ServerConfig) { c.Limit.Max = -1 }, []string{`limit "orders"`, "Config.Max is -1"}},
		"the bulkhead": {func(c *stack.ServerConfig) { c.Bulkhead = &bulkhead.Config{Slots: -1} }, []string{`bulkhead "orders"`, "Config.Slots is -1"}},
		"both": {func(c *stack.ServerConfig) { c.Limit.Max, c.Bulkhead = -1, &bulkhead.Config{Slots: -2} },
			[]string{"Config.Max is -1", "Config.Slots is -2"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := stack.DefaultServer("orders")
			test.change(&c)
			p, err := c.New()
			if p != nil || err == nil {
				t.Fatalf("New returned %v, %v", p, err)
			}
			for _, says := range test.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%v does not say %q", err, says)
				}
			}
		})
	}
}

// Where no test has shown an overload, nobody is refused: what comes over the limit waits.
func TestAServerRefusesNobodyInAnHerdThatItHasNotSeenBefore(t *testing.T) {
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
			t.Error("something is still held")
		}
	})
}

func TestTheBulkheadOfAServerIsInsideOfItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stack.DefaultServer("orders")
		c.Limit.Max = 2
		c.Bulkhead = &bulkhead.Config{Slots: 1, MaxQueue: -1}
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
			t.Errorf("error %v, want that of the bulkhead", err)
		}
		close(leave)
		all.Wait()
	})
}
