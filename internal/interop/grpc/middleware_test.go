package grpc_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/internal/testkit"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// journal is a logging.Logger that records the code of each call.
type journal struct {
	mu    sync.Mutex
	codes []string
}

func (j *journal) Log(_ context.Context, _ logging.Level, _ string, fields ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for it := logging.Fields(fields).Iterator(); it.Next(); {
		if k, v := it.At(); k == "grpc.code" {
			j.codes = append(j.codes, v.(string))
		}
	}
}

// says waits for the wanted codes.
func (j *journal) says(t *testing.T, where string, want ...string) {
	t.Helper()
	all := func() []string {
		j.mu.Lock()
		defer j.mu.Unlock()
		return slices.Clone(j.codes)
	}
	eventually(t, where+" has logged all", func() bool { return len(all()) >= len(want) })
	if got := all(); !slices.Equal(got, want) {
		t.Errorf("%s logged %v, want %v", where, got, want)
	}
}

var finished = logging.WithLogOnEvents(logging.FinishCall)

// clientAround returns options with logs around and inside of o.
func clientAround(o out) (outside, inside *journal, options []grpc.DialOption) {
	outside, inside = new(journal), new(journal)
	return outside, inside, []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(logging.UnaryClientInterceptor(outside, finished), o.Unary, logging.UnaryClientInterceptor(inside, finished)),
		grpc.WithChainStreamInterceptor(logging.StreamClientInterceptor(outside, finished), o.Stream, logging.StreamClientInterceptor(inside, finished)),
	}
}

// serverAround returns options with logs around and inside of i.
func serverAround(i in) (outside, inside *journal, options []grpc.ServerOption) {
	outside, inside = new(journal), new(journal)
	return outside, inside, []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(logging.UnaryServerInterceptor(outside, finished), i.Unary, logging.UnaryServerInterceptor(inside, finished)),
		grpc.ChainStreamInterceptor(logging.StreamServerInterceptor(outside, finished), i.Stream, logging.StreamServerInterceptor(inside, finished)),
	}
}

// A log outside a client records calls, a log inside it records attempts.
func TestLog_callsAndAttempts(t *testing.T) {
	for kind, test := range map[string]struct {
		call     string
		attempts []string
	}{
		"unary":  {"OK", []string{"Unavailable", "Unavailable", "OK"}},
		"stream": {"Unavailable", []string{"Unavailable"}},
	} {
		t.Run(kind, func(t *testing.T) {
			var runs atomic.Int32
			n, o, i := inMemory(t), newOut(), newIn(10)
			called, attempted, client := clientAround(o)
			asked, handled, server := serverAround(i)
			n.serve(t, answering(func(context.Context) error {
				if runs.Add(1) < 3 {
					return status.Error(codes.Unavailable, "busy")
				}
				return nil
			}).register, server...)
			conn := n.dial(t, client...)
			if got := status.Code(calls[kind](limit(t), conn)).String(); got != test.call {
				t.Errorf("the call is %v", got)
			}
			called.says(t, "the client outside", test.call)
			attempted.says(t, "the client inside", test.attempts...)
			asked.says(t, "the server outside", test.attempts...)
			handled.says(t, "the server inside", test.attempts...)
			free(t, o.slots, i.slots)
		})
	}
}

// A log outside a client or a server records rejections, a log inside it does not.
func TestLog_rejections(t *testing.T) {
	for kind, call := range calls {
		t.Run(kind, func(t *testing.T) {
			n, o, i := inMemory(t), newOut(), newIn(1)
			called, attempted, client := clientAround(o)
			asked, handled, server := serverAround(i)
			n.serve(t, answering(func(context.Context) error { t.Error("handled"); return nil }).register, server...)
			conn := n.dial(t, client...)
			o.breaker.SetMode(breaker.ForcedOpen)
			wantCode(t, call(limit(t), conn), codes.Unavailable)
			called.says(t, "the client outside", "Unavailable")
			attempted.says(t, "the client inside")

			o.breaker.SetMode(breaker.Auto)
			permit, err := i.slots.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer permit.Release(nil)
			wantCode(t, call(limit(t), conn), codes.ResourceExhausted)
			called.says(t, "the client outside", "Unavailable", "ResourceExhausted")
			attempted.says(t, "the client inside", "ResourceExhausted")
			asked.says(t, "the server outside", "ResourceExhausted")
			handled.says(t, "the server inside")
		})
	}
}

func internal(any) error { return status.Error(codes.Internal, "panic") }

// A recovered panic is one failure, and its slot is free. The client gets the status of
// the recovery interceptor, by default UNKNOWN, whether the interceptor is outside or
// inside.
func TestServer_recoveredPanic(t *testing.T) {
	for name, options := range map[string][]recovery.Option{
		"Internal": {recovery.WithRecoveryHandler(internal)},
		"Unknown":  nil,
	} {
		unary, stream := recovery.UnaryServerInterceptor(options...), recovery.StreamServerInterceptor(options...)
		for where, chain := range map[string]func(in) []grpc.ServerOption{
			"outside": func(i in) []grpc.ServerOption {
				return []grpc.ServerOption{grpc.ChainUnaryInterceptor(unary, i.Unary), grpc.ChainStreamInterceptor(stream, i.Stream)}
			},
			"inside": func(i in) []grpc.ServerOption {
				return []grpc.ServerOption{grpc.ChainUnaryInterceptor(i.Unary, unary), grpc.ChainStreamInterceptor(i.Stream, stream)}
			},
		} {
			for kind, call := range calls {
				t.Run(name+" "+where+" "+kind, func(t *testing.T) {
					n, i := inMemory(t), newIn(1)
					o := newOut()
					n.serve(t, answering(func(context.Context) error { panic("boom") }).register, chain(i)...)
					conn := n.dial(t, o.options()...)
					for calls := uint64(1); calls <= 3; calls++ { // the only slot is free each time
						if code := status.Code(call(limit(t), conn)); code.String() != name {
							t.Errorf("code %v", code)
						}
						free(t, i.slots, o.slots)
						wantJudged(t, i.breaker, outcomes{failures: calls})
						wantJudged(t, o.breaker, outcomes{failures: calls})
					}
				})
			}
		}
	}
}

// A panic inside the client, for instance in a balancer or another interceptor, is one
// failure and frees its slot.
func TestClient_panicInside(t *testing.T) {
	n, o := inMemory(t), newOut()
	n.serve(t, answering(func(context.Context) error { return nil }).register)
	conn := n.dial(t,
		grpc.WithChainUnaryInterceptor(o.Unary, func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
			panic("boom")
		}),
		grpc.WithChainStreamInterceptor(o.Stream, func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption) (grpc.ClientStream, error) {
			panic("boom")
		}))
	failures := uint64(0)
	for kind, call := range calls {
		func() {
			defer func() {
				if r := recover(); r != "boom" {
					t.Errorf("%s: recovered %v", kind, r)
				}
			}()
			_ = call(limit(t), conn)
		}()
		failures++
		wantJudged(t, o.breaker, outcomes{failures: failures})
		if held := o.slots.Stats().InFlight; held != 0 {
			t.Errorf("%s: %d slots are held", kind, held)
		}
	}
}

// A stream that its caller does not get is canceled. An outer policy panics after the
// stream was made, and the server sees a cancellation, not a complete stream.
func TestClient_undeliveredStream(t *testing.T) {
	n, o := inMemory(t), newOut()
	heard := make(chan error, 1)
	n.serve(t, (&service{input: func(s grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
		_, err := s.Recv()
		heard <- err
		return err
	}}).register)
	boom := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		_ = next.Run(ctx)
		panic("boom")
	})
	o.Policy = resilience.Compose(boom, o.Policy)
	_, _, options := clientAround(o) // with a wrapper inside
	client := pb.NewTestServiceClient(n.dial(t, options...))
	for range 50 {
		func() {
			defer func() { _ = recover() }()
			_, _ = client.StreamingInputCall(limit(t))
			t.Error("no panic")
		}()
		wantCode(t, <-heard, codes.Canceled)
		free(t, o.slots)
	}
}
