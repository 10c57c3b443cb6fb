package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/metrics"
	"github.com/resilience-go/resilience/retry"
)

// newBreaker returns a breaker that opens at the first failure, for an hour.
func newBreaker(name string) *breaker.Breaker {
	return resilience.Must(breaker.New(breaker.Config{
		Name: name, Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Hour, Clock: clock.NewMock(),
	}))
}

func newBulkhead(name string, slots int) *bulkhead.Bulkhead {
	return resilience.Must(bulkhead.New(bulkhead.Config{Name: name, Slots: slots}))
}

func newGroup(t testing.TB, template resilience.Policy, c keyed.Config) *keyed.Group {
	t.Helper()
	g, err := keyed.New(template, c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// touch makes a successful call for each of n keys.
func touch(t testing.TB, g *keyed.Group, n int) {
	t.Helper()
	for i := range n {
		if err := run(g.For(fmt.Sprint("key ", i)), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func states(name string, closed, open, halfOpen float64) scraped {
	return scraped{
		series("breaker_state", name, "state", "closed"):    closed,
		series("breaker_state", name, "state", "open"):      open,
		series("breaker_state", name, "state", "half_open"): halfOpen,
	}
}

// custom is a user policy made of others. It is no Forker, so all keys of a group share it.
type custom struct{ inside []resilience.Policy }

func (c *custom) Apply(ctx context.Context, next resilience.Next) error {
	return resilience.Compose(c.inside...).Apply(ctx, next)
}
func (c *custom) Unwrap() []resilience.Policy { return c.inside }

// maker is a user policy that forks by calling fork.
type maker struct {
	custom
	fork func(key string) resilience.Policy
}

func (m *maker) Fork(key string) resilience.Policy { return m.fork(key) }
func (m *maker) Idle() bool                        { return true }

// A group in the template of another counts once, with the groups of all keys.
func TestCollector_groupInTemplate(t *testing.T) {
	exception := newBreaker("inner")
	inner := newGroup(t, newBreaker("inner"), keyed.Config{Name: "inner", Keys: map[string]resilience.Policy{"x": exception}})
	outer := newGroup(t, resilience.Compose(newBreaker("outer"), inner), keyed.Config{Name: "outer"})
	touch(t, inner, 2)
	_ = run(inner.For("down"), errDown)
	touch(t, outer, 5) // operations without a key, which use one key of inner
	reg, _ := register(t, outer)
	got := scrape(t, reg)
	got.check(t, "outer", states("outer", 5, 0, 0))
	got.check(t, "inner", states("inner", 4, 1, 0)) // including the policy of Config.Keys
	got.check(t, "inner", scraped{series("keyed_keys", "inner"): 4})
}

// A policy that all keys share counts once.
func TestCollector_policySharedByKeys(t *testing.T) {
	shared := &custom{[]resilience.Policy{newBreaker("shared"), newBulkhead("shared", 7)}}
	g := newGroup(t, resilience.Compose(newBreaker("own"), shared), keyed.Config{})
	reg, _ := register(t, g)
	touch(t, g, 5)
	got := scrape(t, reg)
	got.check(t, "own", states("own", 5, 0, 0))
	got.check(t, "shared", states("shared", 1, 0, 0))
	got.check(t, "shared", scraped{
		series("bulkhead_slots", "shared"):                            7,
		series("breaker_calls_total", "shared", "outcome", "success"): 5,
	})
}

// A policy that keys share and that is also added alone counts once.
func TestCollector_policySharedWithOthers(t *testing.T) {
	shared := newBreaker("shared")
	g := newGroup(t, resilience.Compose(newBreaker("own"), &custom{[]resilience.Policy{shared}}), keyed.Config{})
	reg, _ := register(t, g, shared)
	touch(t, g, 3)
	scrape(t, reg).check(t, "shared", states("shared", 1, 0, 0))
}

// A template that also serves calls counts as one more policy.
func TestCollector_templateWithCalls(t *testing.T) {
	for name, order := range map[string]func(g, b resilience.Policy) []resilience.Policy{
		"found before": func(g, b resilience.Policy) []resilience.Policy { return []resilience.Policy{b, g} },
		"found after":  func(g, b resilience.Policy) []resilience.Policy { return []resilience.Policy{g, b} },
		"in a pipeline": func(g, b resilience.Policy) []resilience.Policy {
			return []resilience.Policy{resilience.Compose(g, b)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBreaker("b")
			g := newGroup(t, b, keyed.Config{})
			reg, _ := register(t, order(g, b)...)
			touch(t, g, 3)
			_ = run(b, errDown)
			got := scrape(t, reg)
			got.check(t, "b", states("b", 3, 1, 0))
			got.check(t, "b", scraped{
				series("breaker_calls_total", "b", "outcome", "success"): 3,
				series("breaker_calls_total", "b", "outcome", "failure"): 1,
			})
		})
	}
}

// A template that is also in Config.Keys counts as one more policy.
func TestCollector_templateInConfigKeys(t *testing.T) {
	b := newBreaker("b")
	g := newGroup(t, b, keyed.Config{Keys: map[string]resilience.Policy{"special": b}})
	reg, _ := register(t, g)
	touch(t, g, 2)
	_ = run(g.For("special"), errDown)
	scrape(t, reg).check(t, "b", states("b", 2, 1, 0))
}

// The policies of Config.Keys add up under their names.
func TestCollector_configKeysAddUp(t *testing.T) {
	same, other := newBreaker("hosts"), newBreaker("batch")
	g := newGroup(t, newBreaker("hosts"), keyed.Config{Name: "hosts", Keys: map[string]resilience.Policy{
		"same": same, "other": resilience.Compose(other, newBulkhead("batch", 3)), "again": other,
	}})
	reg, _ := register(t, g.For("any"), g)
	touch(t, g, 2)
	_, _ = run(g.For("same"), errDown), run(g.For("other"), nil)
	got := scrape(t, reg)
	got.check(t, "hosts", states("hosts", 2, 1, 0))
	got.check(t, "batch", states("batch", 1, 0, 0))
	got.check(t, "hosts", scraped{
		series("breaker_calls_total", "hosts", "outcome", "success"): 2,
		series("breaker_calls_total", "hosts", "outcome", "failure"): 1,
		series("keyed_keys", "hosts"):                                2,
	})
	got.check(t, "batch", scraped{
		series("breaker_calls_total", "batch", "outcome", "success"): 1,
		series("bulkhead_slots", "batch"):                            3,
	})
}

// A policy of Config.Keys may be a group.
func TestCollector_groupInConfigKeys(t *testing.T) {
	inner := newGroup(t, newBreaker("inner"), keyed.Config{Name: "inner"})
	outer := newGroup(t, newBreaker("outer"), keyed.Config{Name: "outer", Keys: map[string]resilience.Policy{"many": inner}})
	reg, _ := register(t, outer)
	touch(t, outer, 2)
	touch(t, inner, 3)
	got := scrape(t, reg)
	got.check(t, "outer", states("outer", 2, 0, 0))
	got.check(t, "inner", states("inner", 3, 0, 0))
}

// Two groups of one template add up, and its counters count once.
func TestCollector_twoGroupsOfOneTemplate(t *testing.T) {
	template := newBreaker("b")
	a, b := newGroup(t, template, keyed.Config{Name: "a"}), newGroup(t, template, keyed.Config{Name: "b"})
	reg, _ := register(t, a, b)
	touch(t, a, 2)
	touch(t, b, 3)
	got := scrape(t, reg)
	got.check(t, "b", states("b", 5, 0, 0))
	got.check(t, "b", scraped{series("breaker_calls_total", "b", "outcome", "success"): 5})
}

// A fork has metrics only under a name that was found by Add, since another may contain its
// key.
func TestCollector_namesMadeOfKeys(t *testing.T) {
	for name, key := range map[string]string{"valid": "https://tenant.example:443", "not UTF-8": "a\xffb"} {
		t.Run(name, func(t *testing.T) {
			template := newBreaker("hosts")
			g := newGroup(t, &maker{custom{[]resilience.Policy{template}}, func(key string) resilience.Policy {
				return resilience.Compose(template.Fork(""), newBreaker(key))
			}}, keyed.Config{Name: "hosts"})
			reg, _ := register(t, g)
			_ = run(g.For(key), nil)
			got := scrape(t, reg)
			got.check(t, "hosts", states("hosts", 1, 0, 0))
			if n := got.sum("breaker_state", key); n != 0 {
				t.Errorf("%v breakers have the name of a key", n)
			}
		})
	}
}

// A policy in two pipelines counts once, until both are removed.
func TestCollector_policyInTwoPipelines(t *testing.T) {
	shared := newBreaker("shared")
	a := resilience.Compose(newBulkhead("a", 1), shared)
	b := resilience.Compose(newBulkhead("b", 1), resilience.Compose(shared))
	reg, c := register(t, a, b)
	_, _ = run(a, nil), run(b, nil)
	got := scrape(t, reg)
	got.check(t, "shared", scraped{series("breaker_calls_total", "shared", "outcome", "success"): 2})
	got.check(t, "shared", states("shared", 1, 0, 0))
	c.Remove(a)
	scrape(t, reg).check(t, "shared", scraped{series("breaker_calls_total", "shared", "outcome", "success"): 2})
	c.Remove(b)
	if got := scrape(t, reg); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// Policies that were added beside their group stay when it is removed.
func TestCollectorRemove_groupKeepsConfigKeys(t *testing.T) {
	x, y := newBreaker("hosts"), newBreaker("hosts")
	g := newGroup(t, newBreaker("hosts"), keyed.Config{Name: "hosts", Keys: map[string]resilience.Policy{"x": x, "y": y}})
	reg, c := register(t, g, x, y)
	_ = run(g.For("y"), errDown)
	c.Remove(g)
	got := scrape(t, reg)
	got.check(t, "hosts", states("hosts", 1, 1, 0))
	if n := got.sum("keyed_keys", "hosts"); len(got) == 0 || n != 0 {
		t.Errorf("%v keys", n)
	}
	if _, there := got[series("keyed_keys", "hosts")]; there {
		t.Error("the group is still there")
	}
	if err := c.Add(newBreaker("other")); err != nil {
		t.Errorf("adding another: %v", err)
	}
	if err := c.Add(newBreaker("hosts")); err == nil {
		t.Error("a third policy of the name is no error")
	}
	if err := c.Add(g); err != nil {
		t.Errorf("adding the group again: %v", err)
	}
}

// After the group is removed, a policy that stays counts on from its own calls.
func TestCollectorRemove_countersOfTheRest(t *testing.T) {
	x := newBreaker("hosts")
	g := newGroup(t, newBreaker("hosts"), keyed.Config{Keys: map[string]resilience.Policy{"x": x}})
	reg, c := register(t, g, x)
	touch(t, g, 10)
	for i, want := range []float64{11, 2, 3} {
		_ = run(x, nil)
		if got := scrape(t, reg).sum("breaker_calls_total", "hosts"); got != want {
			t.Errorf("scrape %d: %v calls, want %v", i, got, want)
		}
		c.Remove(g)
	}
}

// A policy of Config.Keys may be added before its group and adds up with it.
func TestCollectorAdd_configKeysBeforeGroup(t *testing.T) {
	for name, add := range map[string]func(c *metrics.Collector, x, g resilience.Policy) error{
		"in one call":   func(c *metrics.Collector, x, g resilience.Policy) error { return c.Add(x, g) },
		"in a pipeline": func(c *metrics.Collector, x, g resilience.Policy) error { return c.Add(resilience.Compose(x, g)) },
		"before it":     func(c *metrics.Collector, x, g resilience.Policy) error { return errors.Join(c.Add(x), c.Add(g)) },
		"and it again": func(c *metrics.Collector, x, g resilience.Policy) error {
			err := c.Add(x, g)
			c.Remove(g)
			return errors.Join(err, c.Add(g))
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newBreaker("hosts")
			g := newGroup(t, newBreaker("hosts"), keyed.Config{Keys: map[string]resilience.Policy{"x": x}})
			reg, c := register(t)
			if err := add(c, x, g); err != nil {
				t.Fatal(err)
			}
			_, _ = run(g.For("x"), errDown), run(g.For("y"), nil)
			scrape(t, reg).check(t, "hosts", states("hosts", 1, 1, 0))
			if err := c.Add(newBreaker("hosts")); err == nil {
				t.Error("another policy of the name is no error")
			}
		})
	}
}

// Two Histograms of one name in a group are an error; one shared Histogram is none.
func TestCollectorAdd_twoHistogramsInGroup(t *testing.T) {
	h := func() *metrics.Histogram {
		return resilience.Must(metrics.NewHistogram(metrics.HistogramConfig{Name: "hosts"}))
	}
	shared := h()
	ok := newGroup(t, shared, keyed.Config{Keys: map[string]resilience.Policy{"x": resilience.Compose(shared)}})
	reg, _ := register(t, ok)
	touch(t, ok, 3)
	_ = run(ok.For("x"), nil)
	scrape(t, reg).check(t, "hosts", scraped{series("call_duration_seconds", "hosts", "outcome", "success"): 4})

	two := newGroup(t, h(), keyed.Config{Keys: map[string]resilience.Policy{"x": h()}})
	if _, err := metrics.NewCollector(two); err == nil {
		t.Error("two histograms of one name are no error")
	}
}

// Budgets and slots of a group are sums over its keys, 0 without keys.
func TestCollector_groupGaugeSums(t *testing.T) {
	g := newGroup(t, resilience.Compose(
		resilience.Must(retry.New(retry.Config{Name: "hosts", Budget: 30})), newBulkhead("hosts", 4),
	), keyed.Config{Name: "hosts"})
	reg, _ := register(t, g)
	for _, keys := range []int{0, 3} {
		touch(t, g, keys)
		scrape(t, reg).check(t, "hosts", scraped{
			series("retry_budget_units", "hosts"):          30 * float64(keys),
			series("retry_budget_capacity_units", "hosts"): 30 * float64(keys),
			series("bulkhead_slots", "hosts"):              4 * float64(keys),
			series("keyed_keys", "hosts"):                  float64(keys),
		})
	}
}
