package metrics_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/metrics"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
)

// operation is an operation with a key that returns err.
type operation struct {
	key  string
	err  error
	runs *atomic.Uint64
}

func (o *operation) Key() string { return o.key }
func (o *operation) Run(context.Context) error {
	o.runs.Add(1)
	return o.err
}

// scrapeOften scrapes at each receive from now and checks that no counter falls and that
// the series stay the same. It returns the number of scrapes.
func scrapeOften(t *testing.T, g prometheus.Gatherer, now <-chan struct{}) (scrapes int) {
	t.Helper()
	last := scrape(t, g)
	for range now {
		scrapes++
		now := scrape(t, g)
		if len(now) != len(last) {
			t.Errorf("%d series, and then %d", len(last), len(now))
		}
		for s, v := range now {
			if before, there := last[s]; !there || counter(s) && v < before {
				t.Errorf("%s was %v (there: %t), and then %v", s, before, there, v)
			}
		}
		last = now
	}
	return scrapes
}

// The sums are exact after a million calls, while keys come and go and two goroutines scrape.
func TestCollector_exactSums(t *testing.T) {
	const workers, each, keys = 8, 125_000, 40
	c := stack.DefaultClient("p")
	c.Keyed.Max = keys / 2
	c.Retry.BaseDelay = -1
	c.Bulkhead.Slots, c.Bulkhead.MaxQueue = workers/4, -1
	c.Breaker.Trip = []breaker.Rule{breaker.Consecutive{Failures: 20}}
	c.Breaker.OpenFor, c.Breaker.CloseAfter = time.Millisecond, 2
	p := resilience.Compose(resilience.Must(metrics.NewHistogram(metrics.HistogramConfig{Name: "p"})), resilience.Must(c.New()))
	reg, _ := register(t, p)

	now := make(chan struct{})
	var scrapers sync.WaitGroup
	for range 2 {
		scrapers.Go(func() {
			if n := scrapeOften(t, reg, now); n < 10 {
				t.Errorf("only %d scrapes", n)
			}
		})
	}
	var runs atomic.Uint64
	errs := []error{nil, nil, errDown, nil, retry.Permanent(errDown), nil, &resilience.Rejection{}, nil}
	testkit.AtOnce(workers, func(w int) {
		op := &operation{runs: &runs}
		for i := range each {
			op.key, op.err = fmt.Sprint((i+w)/16%keys), errs[(i*workers+w)%len(errs)]
			if op.key == "7" {
				op.err = errDown
			}
			_ = resilience.RunOperation(context.Background(), p, op)
			if i%2000 == 0 {
				select {
				case now <- struct{}{}:
				default: // both scrape
				}
			}
		}
	})
	close(now)
	scrapers.Wait()

	got := scrape(t, reg)
	total := func(metric string) float64 { return got.sum(metric, "p") }
	value := func(metric string, labels ...string) float64 { return got[series(metric, "p", labels...)] }
	for what, equal := range map[string][2]float64{
		"calls of the retry":     {total("retry_calls_total"), workers * each},
		"calls of the histogram": {total("call_duration_seconds"), workers * each},
		"first attempts":         {value("retry_attempts_total", "kind", "first"), workers * each},
		"reasons":                {total("retry_suppressed_total"), value("retry_calls_total", "outcome", "gave_up")},
		"calls of the breaker":   {total("breaker_calls_total"), total("retry_attempts_total")},
		"calls of the bulkhead":  {total("bulkhead_calls_total"), total("breaker_calls_total") - value("breaker_calls_total", "outcome", "rejected")},
		"rejected":               {total("bulkhead_rejected_total"), value("bulkhead_calls_total", "outcome", "rejected")},
		"calls of the timeout":   {total("timeout_calls_total"), value("bulkhead_calls_total", "outcome", "completed")},
		"runs":                   {total("timeout_calls_total"), float64(runs.Load())},
		"in flight":              {total("bulkhead_in_flight"), 0},
		"waiting":                {total("bulkhead_waiting"), 0},
		"breakers":               {total("breaker_state"), total("keyed_keys")},
		"modes":                  {value("breaker_mode", "mode", "auto"), total("keyed_keys")},
	} {
		if equal[0] != equal[1] {
			t.Errorf("%s: %v, want %v", what, equal[0], equal[1])
		}
	}
	for _, metric := range []string{"keyed_evicted_total", "breaker_transitions_total", "breaker_open_seconds_total", "retry_attempts_total", "bulkhead_rejected_total"} {
		if total(metric) == 0 {
			t.Errorf("%s is 0: nothing was tested", metric)
		}
	}
}

// The number of series does not grow with the keys.
func TestCollector_boundedSeries(t *testing.T) {
	c := stack.DefaultClient("p")
	c.Keyed.Max, c.Retry.BaseDelay = 100, -1
	p := resilience.Must(c.New())
	reg, _ := register(t, p)
	before := scrape(t, reg)
	runs := &atomic.Uint64{}
	for i := range 10_000 {
		op := &operation{fmt.Sprintf("https://host-%d.example.com:443", i), nil, runs}
		if i%8 == 0 {
			op.err = errDown
		}
		_ = resilience.RunOperation(t.Context(), p, op)
	}
	after := scrape(t, reg)
	for s := range after {
		if _, there := before[s]; !there {
			t.Errorf("%s is new", s)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d series, and then %d", len(before), len(after))
	}
	if n := after[series("keyed_evicted_total", "p")]; n < 5000 {
		t.Errorf("%v keys evicted", n)
	}
	if n := after.sum("breaker_calls_total", "p"); n != float64(runs.Load()) {
		t.Errorf("%v calls, and %d runs", n, runs.Load())
	}
}

// No counter falls, whatever an operator does and however time passes.
func TestCollector_countersNeverFall(t *testing.T) {
	w := watch(t)
	last := scrape(t, w.reg)
	for i, do := range []func(){
		w.open, w.Reset, func() { w.SetMode(breaker.ForcedOpen) }, func() { w.mock.Add(time.Second) },
		func() { w.SetMode(breaker.Auto) }, w.open, func() { w.mock.Add(3 * time.Second) },
		func() { w.SetMode(breaker.Disabled) }, w.Reset, func() { w.SetMode(breaker.MetricsOnly) }, w.open, func() { _ = run(w, nil) },
		func() { w.mock.Set(w.mock.Now().Add(-time.Hour)) }, func() { _ = run(w, nil) }, w.Reset,
	} {
		do()
		now := scrape(t, w.reg)
		for s, v := range now {
			if counter(s) && v < last[s] {
				t.Errorf("after step %d %s is %v, and was %v", i, s, v, last[s])
			}
		}
		last = now
	}
	if last.sum("breaker_open_seconds_total", "b") == 0 || last.sum("breaker_transitions_total", "b") < 5 {
		t.Errorf("nothing was tested: %v", last)
	}
}
