package interop_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/httpmw"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// traces are the spans of one part of the program.
type traces struct {
	*tracetest.SpanRecorder
	options []otelhttp.Option
}

func newTraces() traces {
	r := tracetest.NewSpanRecorder()
	return traces{r, []otelhttp.Option{
		otelhttp.WithTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(r))),
		otelhttp.WithPropagators(propagation.TraceContext{}),
	}}
}

func (tr traces) around(base http.RoundTripper) http.RoundTripper {
	return otelhttp.NewTransport(base, tr.options...)
}

// failing answers the first n requests with 503. It checks the content of each request.
func failing(t *testing.T, n int32) http.HandlerFunc {
	var count atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		if b, err := io.ReadAll(r.Body); string(b) != "content" || err != nil {
			t.Errorf("the handler read %q and %v", b, err)
		}
		if r.Header.Get("Traceparent") == "" {
			t.Error("no trace in the request")
		}
		if count.Add(1) <= n {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		io.WriteString(w, "answer")
	}
}

// Spans outside the transport are calls, spans inside it are attempts.
func TestSpans_callsAndAttempts(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			url, base := serve(t, kind, failing(t, 2))
			calls, attempts := newTraces(), newTraces()
			g := newGuard(attempts.around(base))
			client := &http.Client{Transport: calls.around(g)}
			if status, got := fetch(t, client, request(t, "PUT", url, strings.NewReader("content"))); status != 200 || got != "answer" {
				t.Errorf("got %d %q", status, got)
			}
			free(t, g.slots)
			outer, inner := calls.Ended(), attempts.Ended()
			if len(outer) != 1 || len(inner) != 3 {
				t.Fatalf("%d spans outside and %d inside, want 1 and 3", len(outer), len(inner))
			}
			if outer[0].Status().Code == codes.Error {
				t.Errorf("the call is %v", outer[0].Status())
			}
			for i, span := range inner {
				if span.Parent().SpanID() != outer[0].SpanContext().SpanID() {
					t.Errorf("attempt %d is not part of the call", i+1)
				}
				if failed := span.Status().Code == codes.Error; failed != (i < 2) {
					t.Errorf("attempt %d is %v", i+1, span.Status())
				}
			}
			if started := len(calls.Started()) + len(attempts.Started()); started != 4 {
				t.Errorf("%d spans were begun", started)
			}
		})
	}
}

// A rejection has a span outside the transport and none inside.
func TestSpans_rejection(t *testing.T) {
	url, base := serve(t, "HTTP/1", http.NotFoundHandler())
	calls, attempts := newTraces(), newTraces()
	g := newGuard(attempts.around(base))
	g.breaker.SetMode(breaker.ForcedOpen)
	resp, err := (&http.Client{Transport: calls.around(g)}).Do(request(t, "GET", url, nil))
	if err == nil {
		resp.Body.Close()
		t.Fatal("a response")
	}
	if len(calls.Ended()) != 1 || calls.Ended()[0].Status().Code != codes.Error || len(attempts.Started()) != 0 {
		t.Errorf("%d spans outside, %d inside", len(calls.Ended()), len(attempts.Started()))
	}
}

// The span of an attempt ends with its body, as its slot does.
func TestSpans_endWithBody(t *testing.T) {
	url, base := serve(t, "HTTP/1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begin")
		w.(http.Flusher).Flush()
		hang(w, r)
	}))
	attempts := newTraces()
	g := newGuard(attempts.around(base))
	resp, err := g.client().Do(request(t, "GET", url, nil))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(attempts.Ended()); n != 0 || g.slots.Stats().InFlight != 1 {
		t.Errorf("%d spans ended in the middle of the body, %d slots held", n, g.slots.Stats().InFlight)
	}
	resp.Body.Close()
	if n := len(attempts.Ended()); n != 1 {
		t.Errorf("%d spans ended", n)
	}
	free(t, g.slots)
}

// Outside Server.Wrap each request has a span, inside it each admitted request. Their
// wrappers of the writer work in either order.
func TestSpans_server(t *testing.T) {
	for _, kind := range []string{"HTTP/1", "HTTP/2"} {
		t.Run(kind, func(t *testing.T) {
			outside, inside := newTraces(), newTraces()
			slots := resilience.Must(bulkhead.New(bulkhead.Config{Name: "test", Slots: 1, MaxQueue: -1}))
			begun, done := make(chan bool), make(chan bool)
			var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, flushes := w.(http.Flusher)
				_, hijacks := w.(http.Hijacker)
				if one := kind == "HTTP/1"; !flushes || hijacks != one {
					t.Errorf("the writer flushes: %v, hijacks: %v", flushes, hijacks)
				}
				io.Copy(w, r.Body)
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
				begun <- true
				<-done
			})
			h = otelhttp.NewHandler(h, "inside", inside.options...)
			h = httpmw.Server{Policy: slots}.Wrap(h)
			h = otelhttp.NewHandler(h, "outside", outside.options...)
			url, base := serve(t, kind, h)

			client := &http.Client{Transport: base}
			first := make(chan string)
			go func() {
				_, got := fetch(t, client, request(t, "POST", url, strings.NewReader("content")))
				first <- got
			}()
			<-begun
			if status, _ := fetch(t, client, request(t, "POST", url, strings.NewReader("content"))); status != http.StatusServiceUnavailable {
				t.Errorf("status %d from a full server", status)
			}
			close(done)
			if got := <-first; got != "content" {
				t.Errorf("got %q", got)
			}
			eventually(t, "two spans outside and one inside", func() bool {
				return len(outside.Ended()) == 2 && len(inside.Ended()) == 1
			})
			refused, served := outside.Ended()[0], outside.Ended()[1]
			if refused.Status().Code != codes.Error || served.Status().Code == codes.Error {
				t.Errorf("refused is %v, served %v", refused.Status(), served.Status())
			}
			if in := inside.Ended()[0]; in.Parent().SpanID() != served.SpanContext().SpanID() {
				t.Error("the span inside is not part of the one outside")
			}
		})
	}
}

// A trace passes from the client through both sides into the handler.
func TestSpans_traceReachesHandler(t *testing.T) {
	client, server := newTraces(), newTraces()
	var attempt atomic.Int32
	h := otelhttp.NewHandler(httpmw.Server{Policy: resilience.Compose()}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		attempt.Store(int32(resilience.Attempt(r.Context())))
		if attempt.Load() < 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})), "server", server.options...)
	url, base := serve(t, "HTTP/1", h)
	g := newGuard(client.around(base))
	if status, _ := fetch(t, g.client(), request(t, "GET", url, nil)); status != 200 || attempt.Load() != 2 {
		t.Errorf("status %d at attempt %d", status, attempt.Load())
	}
	eventually(t, "the spans of both attempts", func() bool { return len(server.Ended()) == 2 })
	for i, span := range server.Ended() {
		if span.Parent().SpanID() != client.Ended()[i].SpanContext().SpanID() {
			t.Errorf("attempt %d of the server does not belong to that of the client", i+1)
		}
	}
}
