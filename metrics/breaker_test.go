package metrics_test

import (
	"context"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/keyed"
)

// watched is a registered breaker. It opens at the second failure in a row, for 10 s, and
// closes at the second success.
type watched struct {
	*breaker.Breaker
	mock *clock.Mock
	reg  *prometheus.Registry
}

func watch(t *testing.T) *watched {
	t.Helper()
	mock := clock.NewMock()
	b := resilience.Must(breaker.New(breaker.Config{
		Name: "b", Trip: []breaker.Rule{breaker.Consecutive{Failures: 2}}, OpenFor: 10 * time.Second,
		CloseAfter: 2, ProbeTimeout: 5 * time.Second, Clock: mock,
	}))
	reg, _ := register(t, b)
	return &watched{b, mock, reg}
}

func (w *watched) open() { _, _ = run(w, errDown), run(w, errDown) }

func (w *watched) halfOpen() {
	w.open()
	w.mock.Add(10 * time.Second)
}

func (w *watched) wants(t *testing.T, want scraped) {
	t.Helper()
	scrape(t, w.reg).check(t, "b", want)
}

func calls(success, failure, ignored, rejected float64) scraped {
	return scraped{
		series("breaker_calls_total", "b", "outcome", "success"):  success,
		series("breaker_calls_total", "b", "outcome", "failure"):  failure,
		series("breaker_calls_total", "b", "outcome", "ignored"):  ignored,
		series("breaker_calls_total", "b", "outcome", "rejected"): rejected,
	}
}

func probes(success, failure, ignored, late float64) scraped {
	return scraped{
		series("breaker_probes_total", "b", "result", "success"): success,
		series("breaker_probes_total", "b", "result", "failure"): failure,
		series("breaker_probes_total", "b", "result", "ignored"): ignored,
		series("breaker_probes_total", "b", "result", "late"):    late,
	}
}

// giveUp makes a call and cancels its context.
func giveUp(p resilience.Policy) {
	ctx, cancel := context.WithCancel(context.Background())
	_ = resilience.Run(ctx, p, func(context.Context) error { cancel(); return ctx.Err() })
}

// Calls of a breaker are counted by outcome.
func TestCollector_breakerOutcomes(t *testing.T) {
	w := watch(t)
	_, _ = run(w, nil), run(w, nil)
	giveUp(w)
	_ = run(w, &resilience.Rejection{}) // from an inner policy
	w.wants(t, calls(2, 0, 2, 0))
	w.open()
	_, _, _ = run(w, nil), run(w, nil), run(w, errDown)
	w.wants(t, calls(2, 2, 2, 3))
}

// A breaker reports its state at the scrape and its transitions by cause.
func TestCollector_breakerTransitions(t *testing.T) {
	w := watch(t)
	w.wants(t, states("b", 1, 0, 0))
	w.open()
	w.wants(t, states("b", 0, 1, 0))
	w.mock.Add(10 * time.Second)
	w.wants(t, states("b", 0, 0, 1)) // before the next call
	w.wants(t, scraped{transition("b", "closed open Consecutive{Failures: 2}"): 1})
	_ = run(w, errDown)
	w.wants(t, states("b", 0, 1, 0))
	w.mock.Add(10 * time.Second)
	_ = run(w, nil)
	w.wants(t, states("b", 0, 0, 1))
	_ = run(w, nil)
	w.wants(t, states("b", 1, 0, 0))
	w.wants(t, scraped{
		transition("b", "closed open Consecutive{Failures: 2}"): 1,
		transition("b", "open half_open open time is over"):     2,
		transition("b", "half_open open probe failed"):          1,
		transition("b", "half_open closed enough successes"):    1,
	})
}

// SetMode and Reset are causes of transitions.
func TestCollector_breakerManualTransitions(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(w *watched)
		want []string // besides the transitions of open and halfOpen
	}{
		"forced open":          {func(w *watched) { w.SetMode(breaker.ForcedOpen) }, []string{"closed open SetMode"}},
		"and back":             {func(w *watched) { w.SetMode(breaker.ForcedOpen); w.SetMode(breaker.Auto) }, []string{"closed open SetMode", "open closed SetMode"}},
		"disabled while open":  {func(w *watched) { w.open(); w.SetMode(breaker.Disabled) }, []string{"open closed SetMode"}},
		"reset while open":     {func(w *watched) { w.open(); w.Reset() }, []string{"open closed Reset"}},
		"reset while closed":   {func(w *watched) { w.Reset() }, nil},
		"reset while probing":  {func(w *watched) { w.halfOpen(); _ = run(w, nil); w.Reset() }, []string{"half_open closed Reset"}},
		"forced while probing": {func(w *watched) { w.halfOpen(); _ = run(w, nil); w.SetMode(breaker.ForcedOpen) }, []string{"half_open open SetMode"}},
		"and probing again": {func(w *watched) {
			w.halfOpen()
			_ = run(w, nil)
			w.SetMode(breaker.ForcedOpen)
			w.SetMode(breaker.Auto)
		}, []string{"half_open open SetMode", "open half_open SetMode"}},
		"metrics only": {func(w *watched) { w.SetMode(breaker.MetricsOnly) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t)
			test.do(w)
			s := w.Stats()
			want := scraped{}
			for _, transitionOf := range test.want {
				want[transition("b", transitionOf)] = 1
			}
			if s.Failures > 0 {
				want[transition("b", "closed open Consecutive{Failures: 2}")] = 1
			}
			if s.ProbesSucceeded > 0 {
				want[transition("b", "open half_open open time is over")] = 1
			}
			if len(want) == 0 {
				want[transition("b", "closed open SetMode")] = 0
			}
			w.wants(t, want)
		})
	}
}

// Every mode has a series, and in a group it counts keys.
func TestCollector_breakerModes(t *testing.T) {
	w := watch(t)
	for m, label := range map[breaker.Mode]string{
		breaker.Auto: "auto", breaker.ForcedOpen: "forced_open", breaker.Disabled: "disabled", breaker.MetricsOnly: "metrics_only",
	} {
		w.SetMode(m)
		w.wants(t, scraped{series("breaker_mode", "b", "mode", label): 1})
	}

	template := newBreaker("keys")
	g := newGroup(t, template, keyed.Config{})
	reg, _ := register(t, g)
	touch(t, g, 3)
	_ = run(g.For("key 1"), errDown)
	for key, p := range g.All() {
		if key == "key 2" {
			p.(*breaker.Breaker).SetMode(breaker.Disabled)
		}
	}
	got := scrape(t, reg)
	got.check(t, "keys", states("keys", 2, 1, 0))
	got.check(t, "keys", scraped{series("breaker_mode", "keys", "mode", "auto"): 2, series("breaker_mode", "keys", "mode", "disabled"): 1})
}

// The time in OPEN is exact, without the time after OPEN is over.
func TestCollector_breakerOpenTime(t *testing.T) {
	w := watch(t)
	seconds := func(want float64) {
		t.Helper()
		w.wants(t, scraped{series("breaker_open_seconds_total", "b"): want})
	}
	w.mock.Add(time.Minute)
	seconds(0)
	w.open()
	seconds(0)
	w.mock.Add(2500 * time.Millisecond)
	seconds(2.5)
	w.mock.Add(7500 * time.Millisecond)
	seconds(10)
	w.mock.Add(time.Hour) // without a call, but the state is HALF_OPEN
	seconds(10)
	_ = run(w, errDown) // the probe
	w.mock.Add(3 * time.Second)
	seconds(13)
	w.SetMode(breaker.ForcedOpen)
	w.mock.Add(4 * time.Second)
	seconds(17)
	w.SetMode(breaker.Auto) // resumes OPEN, which has three more seconds
	w.mock.Add(10 * time.Second)
	seconds(20)
	w.Reset()
	w.mock.Add(time.Hour)
	seconds(20)
}

// The time in OPEN adds up over keys and stays when they are evicted.
func TestCollector_groupOpenTime(t *testing.T) {
	mock := clock.NewMock()
	b := resilience.Must(breaker.New(breaker.Config{
		Name: "b", Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: 10 * time.Second, CloseAfter: 1, Clock: mock,
	}))
	g := newGroup(t, b, keyed.Config{Max: 3})
	reg, _ := register(t, g)
	seconds := func(want float64) {
		t.Helper()
		scrape(t, reg).check(t, "b", scraped{series("breaker_open_seconds_total", "b"): want})
	}
	_ = run(g.For("a"), errDown)
	mock.Add(4 * time.Second)
	seconds(4)
	_ = run(g.For("b"), errDown)
	mock.Add(6 * time.Second)
	seconds(16)
	_ = run(g.For("a"), nil) // closes
	seconds(16)
	mock.Add(time.Hour)
	seconds(20)
	touch(t, g, 100) // evicts both
	if n := g.Stats().Keys; n > 3 {
		t.Fatalf("%d keys", n)
	}
	seconds(20)
}

// Probes are counted by result.
func TestCollector_breakerProbes(t *testing.T) {
	w := watch(t)
	w.halfOpen()
	giveUp(w)
	w.wants(t, probes(0, 0, 1, 0))
	_ = run(w, nil)
	w.wants(t, probes(1, 0, 1, 0))
	late, err := w.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.mock.Add(6 * time.Second)
	late.Done(nil)
	w.wants(t, probes(1, 0, 1, 1))
	_, _ = run(w, errDown), run(w, errDown)
	w.wants(t, probes(1, 2, 1, 1))
	_ = run(w, nil) // rejected, so not a probe
	w.wants(t, probes(1, 2, 1, 1))
}

// In MetricsOnly calls run and are also counted as would_reject.
func TestCollector_breakerMetricsOnly(t *testing.T) {
	w := watch(t)
	w.SetMode(breaker.MetricsOnly)
	w.open()
	_, _, _ = run(w, nil), run(w, errDown), run(w, errDown)
	w.wants(t, scraped{series("breaker_would_reject_total", "b"): 3})
	w.wants(t, calls(1, 4, 0, 0)) // all calls ran
	w.wants(t, states("b", 0, 1, 0))
}
