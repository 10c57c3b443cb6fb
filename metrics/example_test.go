package metrics_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/metrics"
	"github.com/resilience-go/resilience/stack"
)

// get prints the lines of the response of handler that begin with prefix.
func get(handler http.Handler, prefix string) {
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, prefix) {
			fmt.Print(line)
		}
	}
}

func ExampleNewCollector() {
	payments := stack.Client("payments")
	reg := prometheus.NewRegistry() // or prometheus.DefaultRegisterer
	reg.MustRegister(resilience.Must(metrics.NewCollector(payments, stack.Server("orders"))))

	_ = resilience.Run(context.Background(), payments, func(context.Context) error { return nil })

	get(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), "resilience_breaker_calls_total")
	// Output:
	// resilience_breaker_calls_total{name="payments",outcome="failure"} 0
	// resilience_breaker_calls_total{name="payments",outcome="ignored"} 0
	// resilience_breaker_calls_total{name="payments",outcome="rejected"} 0
	// resilience_breaker_calls_total{name="payments",outcome="success"} 1
}

// Policies can be added and removed while the program runs.
func ExampleCollector_Add() {
	c := resilience.Must(metrics.NewCollector(stack.Client("payments")))
	tenant := resilience.Must(breaker.New(breaker.Config{Name: "tenant"}))
	fmt.Println(c.Add(tenant))
	fmt.Println(c.Add(resilience.Must(breaker.New(breaker.Config{Name: "tenant"}))))
	c.Remove(tenant)
	// Output:
	// <nil>
	// metrics: there is more than one breaker with the name "tenant": give each a Name of its own
}

// Outside of a retry a Histogram measures whole calls, inside it measures single attempts.
func ExampleNewHistogram() {
	mock := clock.NewMock() // only for the example
	h, err := metrics.NewHistogram(metrics.HistogramConfig{Name: "payments", Buckets: []float64{0.1, 1}, Clock: mock})
	if err != nil {
		fmt.Println(err)
		return
	}
	p := resilience.Compose(h, stack.Client("payments"))
	reg := prometheus.NewRegistry()
	reg.MustRegister(resilience.Must(metrics.NewCollector(p)))

	_ = resilience.Run(context.Background(), p, func(context.Context) error {
		mock.Add(250 * time.Millisecond)
		return nil
	})

	get(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), `resilience_call_duration_seconds_bucket{name="payments",outcome="success"`)
	// Output:
	// resilience_call_duration_seconds_bucket{name="payments",outcome="success",le="0.1"} 0
	// resilience_call_duration_seconds_bucket{name="payments",outcome="success",le="1"} 1
	// resilience_call_duration_seconds_bucket{name="payments",outcome="success",le="+Inf"} 1
}
