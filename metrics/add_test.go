package metrics_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/metrics"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

// A second policy of the same kind and name is an error, wherever it is.
func TestCollectorAdd_nameTaken(t *testing.T) {
	words := map[string]string{
		"breaker_": "breaker", "retry_": "retry", "bulkhead_": "bulkhead", "limit_": "limit", "endpoint_": "endpoint", "timeout_": "timeout", "fallback_": "fallback", "stale_": "stale", "call_": "histogram",
	}
	for prefix, p := range kinds("p") {
		other := kinds("p")[prefix]
		for name, q := range map[string]resilience.Policy{
			"alone": other, "in a pipeline": resilience.Compose(newBulkhead("x", 1), other),
			"in a group":      newGroup(t, other, keyed.Config{Name: "x"}),
			"as an exception": newGroup(t, resilience.Compose(), keyed.Config{Name: "x", Keys: map[string]resilience.Policy{"k": other}}),
			"a fork":          resilience.Compose(p).(resilience.Forker).Fork(""), // a policy without state returns itself
		} {
			t.Run(words[prefix]+"/"+name, func(t *testing.T) {
				reg, c := register(t, p)
				before := scrape(t, reg)
				err := c.Add(newBulkhead("new", 1), q)
				if name == "a fork" && (prefix == "timeout_" || prefix == "fallback_" || prefix == "stale_" || prefix == "call_") {
					if err != nil {
						t.Errorf("the same policy again is an error: %v", err)
					}
					return
				}
				want := fmt.Sprintf("metrics: there is more than one %s with the name %q: give each a Name of its own", words[prefix], "p")
				if err == nil || err.Error() != want {
					t.Errorf("got %v, want %s", err, want)
				}
				if after := scrape(t, reg); len(after) != len(before) {
					t.Errorf("%d series, and %d after an Add that failed", len(before), len(after))
				}
				if _, err := metrics.NewCollector(p, q); err == nil {
					t.Error("NewCollector returns no error")
				}
			})
		}
	}
}

// Two groups of the same name are an error.
func TestCollectorAdd_twoGroupsOfOneName(t *testing.T) {
	a, b := newGroup(t, newBreaker("a"), keyed.Config{Name: "g"}), newGroup(t, newBreaker("b"), keyed.Config{Name: "g"})
	if _, err := metrics.NewCollector(a, b); err == nil || !strings.Contains(err.Error(), `more than one keyed with the name "g"`) {
		t.Errorf("error %v", err)
	}
}

// One policy of each kind may have no name.
func TestCollectorAdd_noName(t *testing.T) {
	reg, c := register(t, resilience.Compose(newBreaker(""), resilience.Must(timeout.New(timeout.Config{}))))
	if _, there := scrape(t, reg)[series("timeout_calls_total", "")]; !there {
		t.Error("a policy without a name has no series")
	}
	if err := c.Add(newBreaker("")); err == nil || !strings.Contains(err.Error(), "more than one breaker without a name: give each a Name") {
		t.Errorf("error %v", err)
	}
}

// Add returns an error that says what to do, and then adds nothing.
func TestCollectorAdd_errors(t *testing.T) {
	var gone *breaker.Breaker
	known := newBreaker("known")
	pass := testkit.Policy(func(ctx context.Context, next resilience.Next) error { return next.Run(ctx) })
	for name, test := range map[string]struct {
		add  []resilience.Policy
		says string // in the error; "" if there is none
	}{
		"nil":                     {[]resilience.Policy{newBreaker("x"), nil}, "a policy is nil: leave it out"},
		"a pointer that is nil":   {[]resilience.Policy{gone}, "a policy is nil: leave it out"},
		"one that is there":       {[]resilience.Policy{known}, "has been added before: add it once"},
		"twice in one call":       {[]resilience.Policy{pipeline, pipeline}, "has been added before: add it once"},
		"not comparable":          {[]resilience.Policy{pass}, "give a pointer to it, or resilience.Compose of it"},
		"with a slice":            {[]resilience.Policy{byValue{{}}}, "give a pointer to it, or resilience.Compose of it"},
		"not UTF-8":               {[]resilience.Policy{newBreaker("a\xff")}, `the name of the breaker "a\xff" is not valid UTF-8: give it another Name`},
		"not UTF-8, in a group":   {[]resilience.Policy{newGroup(t, newBulkhead("a\xff", 1), keyed.Config{})}, `the name of the bulkhead "a\xff"`},
		"a group not in UTF-8":    {[]resilience.Policy{newGroup(t, newBreaker("x"), keyed.Config{Name: "\xc0"})}, `the name of the keyed "\xc0"`},
		"composed":                {[]resilience.Policy{resilience.Compose(pass, byValue{{}})}, ""},
		"what is in it, again":    {[]resilience.Policy{resilience.Compose(known)}, ""},
		"holding nil":             {[]resilience.Policy{&custom{[]resilience.Policy{nil, gone, newBreaker("y")}}}, ""},
		"saying it holds another": {[]resilience.Policy{&custom{[]resilience.Policy{known, known}}}, ""},
		"nothing":                 {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			reg, c := register(t, known)
			before := len(scrape(t, reg))
			err := c.Add(test.add...)
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), "metrics: ") || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %s", err, test.says)
			}
			if after := len(scrape(t, reg)); after != before {
				t.Errorf("%d series, and %d after an Add that failed", before, after)
			}
		})
	}
}

var pipeline = resilience.Compose()

// byValue is a policy of a type that is not comparable.
type byValue [][]int

func (byValue) Apply(ctx context.Context, next resilience.Next) error { return next.Run(ctx) }

// Every valid UTF-8 text can be a name and is parsed from the text format.
func TestCollector_namesOfAnyText(t *testing.T) {
	for _, name := range []string{"", " ", `a "quoted" \ name`, "two\nlines", "{}=,", "\x00", "é世界", strings.Repeat("long", 1000), "name", "__name__"} {
		p := resilience.Compose(resilience.Must(metrics.NewHistogram(metrics.HistogramConfig{Name: name})), newGroup(t, newBreaker(name), keyed.Config{Name: name}))
		reg, _ := register(t, p)
		_ = run(p, nil)
		families, err := reg.Gather()
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		var text bytes.Buffer
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
				t.Fatalf("%q: %v", name, err)
			}
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		parsed, err := parser.TextToMetricFamilies(&text)
		if err != nil || len(parsed) != len(families) {
			t.Fatalf("%q: parsed %d of %d, %v", name, len(parsed), len(families), err)
		}
		for _, m := range parsed["resilience_timeout_calls_total"].GetMetric() {
			if got := m.GetLabel()[0].GetValue(); got != name || m.GetCounter().GetValue() != 1 {
				t.Errorf("%q was parsed as %q with %v calls", name, got, m.GetCounter().GetValue())
			}
		}
	}
}

// A registry rejects a second Collector, and its error returns the first.
func TestCollector_onePerRegistry(t *testing.T) {
	reg, first := register(t, stack.Client("a"))
	second := resilience.Must(metrics.NewCollector(stack.Client("b")))
	var already prometheus.AlreadyRegisteredError
	if err := reg.Register(second); !errors.As(err, &already) {
		t.Fatalf("error %v", err)
	}
	existing, ok := already.ExistingCollector.(*metrics.Collector)
	if !ok || existing != first {
		t.Fatalf("the existing collector is %v", already.ExistingCollector)
	}
	b := stack.Client("b")
	if err := existing.Add(b); err != nil {
		t.Fatal(err)
	}
	_ = run(b, nil)
	got := scrape(t, reg)
	if a, b := got[series("timeout_calls_total", "a")], got[series("timeout_calls_total", "b")]; a != 0 || b != 1 {
		t.Errorf("%v calls of a, %v of b", a, b)
	}
	if !reg.Unregister(second) {
		t.Error("another Collector does not unregister it")
	}
	if got := scrape(t, reg); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// Added labels keep two Collectors apart in one registry.
func TestCollector_wrappedWithLabels(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	for _, team := range []string{"blue", "green"} {
		p := stack.Client("payments")
		_ = run(p, nil)
		c := resilience.Must(metrics.NewCollector(p, resilience.Must(metrics.NewHistogram(metrics.HistogramConfig{}))))
		if err := prometheus.WrapRegistererWith(prometheus.Labels{"team": team}, reg).Register(c); err != nil {
			t.Fatal(err)
		}
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	got := scrape(t, reg)
	for _, team := range []string{"blue", "green"} {
		if v := got[series("timeout_calls_total", "payments", "team", team)]; v != 1 {
			t.Errorf("%v calls of %s", v, team)
		}
	}
}

// The pedantic registry and promlint find no fault.
func TestCollector_pedanticAndLint(t *testing.T) {
	policies := []resilience.Policy{newGroup(t, resilience.Compose(newBreaker("g")), keyed.Config{})}
	for _, p := range kinds("p") {
		policies = append(policies, p)
	}
	reg, _ := register(t, policies...)
	for _, p := range policies {
		_, _ = run(p, nil), run(p, errDown)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// Remove ignores policies that were not added.
func TestCollectorRemove_notAdded(t *testing.T) {
	inner := newBreaker("inner")
	p := resilience.Compose(inner)
	reg, c := register(t, p)
	before := len(scrape(t, reg))
	c.Remove(inner, nil, newBreaker("inner"), byValue{{}}, resilience.Compose(inner))
	if after := len(scrape(t, reg)); after != before {
		t.Errorf("%d series of %d", after, before)
	}
	c.Remove(p)
	c.Remove(p)
	if after := scrape(t, reg); len(after) != 0 {
		t.Errorf("left: %v", after)
	}
}

// An Add or Remove that another overtakes starts again and loses nothing.
func TestCollectorAdd_concurrentAddIsKept(t *testing.T) {
	nosy := &meddler{}
	reg, c := register(t, nosy, newBreaker("first"))
	overtake := func(name string) {
		nosy.meddle = func() {
			nosy.meddle = nil
			if err := c.Add(newBreaker(name)); err != nil {
				t.Error(err)
			}
		}
	}
	removed := newBreaker("removed")
	overtake("during Add")
	if err := c.Add(removed); err != nil {
		t.Error(err)
	}
	overtake("during Remove")
	meddle := nosy.meddle
	nosy.meddle = func() {
		meddle()
		if err := c.Add(removed); err == nil {
			t.Error("Add succeeds although Remove has not removed the policy yet")
		}
	}
	c.Remove(removed)
	got := scrape(t, reg)
	for name, want := range map[string]bool{"first": true, "during Add": true, "during Remove": true, "removed": false} {
		if _, there := got[series("breaker_would_reject_total", name)]; there != want {
			t.Errorf("%s is there: %t, want %t", name, there, want)
		}
	}
}

// meddler is a policy whose Unwrap runs meddle.
type meddler struct {
	custom
	meddle func()
}

func (m *meddler) Unwrap() []resilience.Policy {
	if m.meddle != nil {
		m.meddle()
	}
	return nil
}

// A policy with the name of a removed policy has its own counts.
func TestCollectorRemove_nameStartsAtZero(t *testing.T) {
	mock := clock.NewMock()
	down := func() *breaker.Breaker {
		b := resilience.Must(breaker.New(breaker.Config{
			Name: "b", Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Minute, Clock: mock,
		}))
		_ = run(b, errDown)
		return b
	}
	first := down()
	reg, c := register(t, first)
	mock.Add(30 * time.Second)
	scrape(t, reg).check(t, "b", scraped{series("breaker_open_seconds_total", "b"): 30})
	c.Remove(first)
	if err := c.Add(down()); err != nil {
		t.Fatal(err)
	}
	mock.Add(time.Second)
	scrape(t, reg).check(t, "b", scraped{series("breaker_open_seconds_total", "b"): 1})
	if err := c.Add(newBreaker("other")); err != nil {
		t.Fatal(err)
	}
	mock.Set(mock.Now().Add(-time.Second)) // the clock is set back
	scrape(t, reg).check(t, "b", scraped{series("breaker_open_seconds_total", "b"): 1})
}

// tricky is a clock that runs ask at each call of Since.
type tricky struct {
	*clock.Mock
	ask func()
}

func (c *tricky) Since(t time.Time) time.Duration {
	if c.ask != nil {
		c.ask()
	}
	return c.Mock.Since(t)
}

// At whatever moment of a scrape a breaker closes, the time in OPEN does not fall.
func TestCollector_openTimeNeverFalls(t *testing.T) {
	fell := 0
	for at := 1; ; at++ {
		c := &tricky{Mock: clock.NewMock()}
		b := resilience.Must(breaker.New(breaker.Config{
			Name: "b", Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Minute, Clock: c,
		}))
		reg, _ := register(t, newGroup(t, b, keyed.Config{Keys: map[string]resilience.Policy{"x": b}}))
		_ = run(b, errDown)
		c.Mock.Add(5 * time.Second)
		want := scraped{series("breaker_open_seconds_total", "b"): 5}
		scrape(t, reg).check(t, "b", want)
		asked := 0
		c.ask = func() {
			if asked++; asked == at {
				b.Reset()
			}
		}
		scrape(t, reg).check(t, "b", want)
		if asked < at {
			break // the scrape calls the clock less often
		}
		fell++
		scrape(t, reg).check(t, "b", want)
	}
	if fell < 2 {
		t.Errorf("a scrape calls the clock only %d times", fell)
	}
}

// Add and Remove can be called during a scrape and in an observer.
func TestCollectorAdd_insideScrapeAndObserver(t *testing.T) {
	c := &tricky{Mock: clock.NewMock()}
	var coll *metrics.Collector
	var reg *prometheus.Registry
	heard := 0
	b := resilience.Must(breaker.New(breaker.Config{
		Name: "b", Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Minute, Clock: c,
		Observer: testkit.Observer(func(resilience.Event) {
			heard++
			scrape(t, reg)
			if err := coll.Add(newBreaker(fmt.Sprint("heard ", heard))); err != nil {
				t.Error(err)
			}
		}),
	}))
	reg, coll = register(t, b)
	added := 0
	_ = run(b, errDown)
	c.ask = func() {
		if added++; added < 4 {
			other := newBreaker(fmt.Sprint("added ", added))
			if err := coll.Add(other); err != nil {
				t.Error(err)
			}
			if added == 2 {
				coll.Remove(other)
			}
		}
	}
	scrape(t, reg)
	scrape(t, reg)
	got := scrape(t, reg)
	for name, want := range map[string]bool{"b": true, "added 1": true, "added 2": false, "added 3": true, "heard 1": true} {
		if _, there := got[series("breaker_would_reject_total", name)]; there != want {
			t.Errorf("%s is there: %t, want %t", name, there, want)
		}
	}
}

// Add, Remove and scrapes can run at the same time.
func TestCollector_concurrentUse(t *testing.T) {
	shared := newBreaker("shared")
	reg, c := register(t, shared)
	var lost sync.Map
	testkit.AtOnce(6, func(i int) {
		for n := range 200 {
			switch {
			case i < 3:
				p := resilience.Compose(newBreaker(fmt.Sprint(i)), shared)
				if err := c.Add(p); err != nil {
					t.Error(err)
				}
				_ = run(p, nil)
				if n < 199 {
					c.Remove(p)
				}
			case i < 4:
				if err := c.Add(newBreaker("shared")); err == nil {
					t.Error("a duplicate was added")
				}
			default:
				s, err := testutil.GatherAndCount(reg, "resilience_breaker_would_reject_total")
				if err != nil || s < 1 || s > 4 {
					lost.Store(s, err)
				}
			}
		}
	})
	lost.Range(func(n, err any) bool { t.Errorf("%v breakers, %v", n, err); return true })
	got := scrape(t, reg)
	got.check(t, "shared", scraped{series("breaker_calls_total", "shared", "outcome", "success"): 600})
	for i := range 3 {
		if _, there := got[series("breaker_would_reject_total", fmt.Sprint(i))]; !there {
			t.Errorf("policy %d is lost", i)
		}
	}
}
