package interop_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/retry"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// telemetry counts events and adds each one to the span of its call.
type telemetry struct{ events metric.Int64Counter }

func (t telemetry) Observe(ctx context.Context, e resilience.Event) {
	attrs := []attribute.KeyValue{
		attribute.String("resilience.policy", e.Policy),
		attribute.String("resilience.name", e.Name),
		attribute.String("resilience.event", e.Kind),
		attribute.String("resilience.reason", e.Reason),
		attribute.String("resilience.state", e.To),
	}
	t.events.Add(ctx, 1, metric.WithAttributes(attrs...))
	trace.SpanFromContext(ctx).AddEvent(e.Policy+" "+e.Kind,
		trace.WithAttributes(append(attrs, attribute.String("resilience.key", e.Key))...))
}

// An observer turns the events of policies into an OpenTelemetry counter and span events.
func Example_openTelemetry() {
	reader, spans := sdkmetric.NewManualReader(), tracetest.NewSpanRecorder()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("resilience")
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("example")

	events, err := meter.Int64Counter("resilience.events")
	if err != nil {
		panic(err)
	}
	p, err := retry.New(retry.Config{Name: "users", MaxAttempts: 2, BaseDelay: time.Millisecond, Observer: telemetry{events}})
	if err != nil {
		panic(err)
	}
	ctx, span := tracer.Start(context.Background(), "call")
	_ = resilience.Run(ctx, p, func(context.Context) error { return errors.New("down") })
	span.End()

	for _, e := range spans.Ended()[0].Events() {
		fmt.Println("span event:", e.Name)
	}
	var all metricdata.ResourceMetrics
	_ = reader.Collect(ctx, &all)
	counted := all.ScopeMetrics[0].Metrics[0]
	for _, point := range counted.Data.(metricdata.Sum[int64]).DataPoints {
		event, _ := point.Attributes.Value("resilience.event")
		fmt.Println(counted.Name, event.AsString(), point.Value)
	}
	// Unordered output:
	// span event: retry retrying
	// span event: retry gave up retrying
	// resilience.events retrying 1
	// resilience.events gave up retrying 1
}
