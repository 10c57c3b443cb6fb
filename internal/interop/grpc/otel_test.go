package grpc_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/stack"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	otel "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// traces are the spans of one part of the program.
type traces struct {
	*tracetest.SpanRecorder
	provider *trace.TracerProvider
}

func newTraces() traces {
	r := tracetest.NewSpanRecorder()
	return traces{r, trace.NewTracerProvider(trace.WithSpanProcessor(r))}
}

func (tr traces) options() []otelgrpc.Option {
	return []otelgrpc.Option{otelgrpc.WithTracerProvider(tr.provider), otelgrpc.WithPropagators(propagation.TraceContext{})}
}

func (tr traces) client() grpc.DialOption {
	return grpc.WithStatsHandler(otelgrpc.NewClientHandler(tr.options()...))
}

func (tr traces) server() grpc.ServerOption {
	return grpc.StatsHandler(otelgrpc.NewServerHandler(tr.options()...))
}

// codes returns the gRPC status of each span, in the order in which they began.
func (tr traces) codes(t *testing.T, n int) (all []string) {
	t.Helper()
	eventually(t, "the spans have ended", func() bool { return len(tr.Ended()) >= n })
	if started, ended := len(tr.Started()), len(tr.Ended()); started != n || ended != n {
		t.Fatalf("%d spans begun and %d ended, want %d", started, ended, n)
	}
	for _, span := range tr.Started() {
		code := "none"
		for _, a := range span.Attributes() {
			if a.Key == "rpc.response.status_code" {
				code = a.Value.AsString()
			}
		}
		if (code != "OK") != (span.Status().Code == otel.Error) {
			t.Errorf("a span with %s is %v", code, span.Status())
		}
		all = append(all, code)
	}
	return all
}

// belongs checks that each span is a child of a different parent.
func belongs(t *testing.T, children, parents traces) {
	t.Helper()
	for i, span := range children.Started() {
		if span.Parent().SpanID() != parents.Started()[i].SpanContext().SpanID() {
			t.Errorf("span %d does not belong to the one that it should", i+1)
		}
	}
}

// Each attempt has a span with its status on the client and on the server.
func TestClient_spanPerAttempt(t *testing.T) {
	for kind, test := range map[string]struct {
		code codes.Code
		want []string
	}{
		"unary":  {codes.OK, []string{"UNAVAILABLE", "UNAVAILABLE", "OK"}},
		"stream": {codes.Unavailable, []string{"UNAVAILABLE"}},
	} {
		t.Run(kind, func(t *testing.T) {
			var runs atomic.Int32
			clients, servers, program := newTraces(), newTraces(), newTraces()
			n, o, i := inMemory(t), newOut(), newIn(10)
			n.serve(t, answering(func(context.Context) error {
				if runs.Add(1) < 3 {
					return status.Error(codes.Unavailable, "busy")
				}
				return nil
			}).register, append(i.options(), servers.server())...)
			conn := n.dial(t, append(o.options(), clients.client())...)
			ctx, span := program.provider.Tracer("test").Start(limit(t), "call")
			wantCode(t, calls[kind](ctx, conn), test.code)
			span.End()
			if got := clients.codes(t, len(test.want)); !slices.Equal(got, test.want) {
				t.Errorf("spans of the client %v, want %v", got, test.want)
			}
			if got := servers.codes(t, len(test.want)); !slices.Equal(got, test.want) {
				t.Errorf("spans of the server %v, want %v", got, test.want)
			}
			belongs(t, servers, clients)
			for _, attempt := range clients.Started() {
				if attempt.Parent().SpanID() != span.SpanContext().SpanID() {
					t.Error("an attempt is not part of the call")
				}
			}
		})
	}
}

// A rejection has a span only on the sides that the call has reached.
func TestServer_spanOfRejection(t *testing.T) {
	for kind, call := range calls {
		t.Run(kind, func(t *testing.T) {
			clients, servers := newTraces(), newTraces()
			n, o, i := inMemory(t), newOut(func(c *stack.ClientConfig) { c.Without |= stack.Retry }), newIn(10)
			n.serve(t, answering(func(context.Context) error { return nil }).register, append(i.options(), servers.server())...)
			conn := n.dial(t, append(o.options(), clients.client())...)
			o.breaker.SetMode(breaker.ForcedOpen)
			wantCode(t, call(limit(t), conn), codes.Unavailable)
			clients.codes(t, 0)
			o.breaker.SetMode(breaker.Auto)
			i.breaker.SetMode(breaker.ForcedOpen)
			wantCode(t, call(limit(t), conn), codes.Unavailable)
			// If a stream ends before its client has sent a message, gRPC reports no
			// error to its stats handlers.
			if got := clients.codes(t, 1); got[0] != "UNAVAILABLE" && kind == "unary" {
				t.Errorf("the span of the client is %v", got)
			}
			if got := servers.codes(t, 1); got[0] != "UNAVAILABLE" {
				t.Errorf("the span of the server is %v", got)
			}
			belongs(t, servers, clients)
		})
	}
}

// The span of an attempt that timed out shows the timeout: the deadline of a unary call,
// the cancellation of a stream.
func TestClient_spanOfTimeout(t *testing.T) {
	for kind, want := range map[string]string{"unary": "DEADLINE_EXCEEDED", "stream": "CANCELLED"} {
		t.Run(kind, func(t *testing.T) {
			tr, n := newTraces(), inMemory(t)
			o := newOut(func(c *stack.ClientConfig) { c.Without |= stack.Retry; c.Attempt.Timeout = 100 * time.Millisecond })
			n.serve(t, answering(func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			}).register)
			conn := n.dial(t, append(o.options(), tr.client())...)
			conn.Connect()
			await(t, conn, connectivity.Ready) // without a connection there is no span
			wantCode(t, calls[kind](limit(t), conn), codes.DeadlineExceeded)
			if got := tr.codes(t, 1); got[0] != want {
				t.Errorf("the span is %v, want %v", got, want)
			}
		})
	}
}
