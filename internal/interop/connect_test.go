package interop_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type text = wrapperspb.StringValue

// caller is a client of one method.
type caller = connect.Client[text, text]

const method = "/test.Service/Method"

// protocols are the protocols of Connect.
var protocols = map[string][]connect.ClientOption{
	"Connect":  nil,
	"gRPC":     {connect.WithGRPC()},
	"gRPC-Web": {connect.WithGRPCWeb()},
}

// rpc runs f for each protocol of Connect over both versions of HTTP/2, with a client
// and a server that have policies. in wraps h in each case.
func rpc(t *testing.T, h *connect.Handler, f func(t *testing.T, c *caller, out guard, in doors)) {
	for _, kind := range []string{"h2c", "HTTP/2"} {
		for name, options := range protocols {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				in := newDoors()
				url, base := serve(t, kind, in.Wrap(h))
				out := newGuard(base)
				f(t, connect.NewClient[text, text](out.client(), url+method, options...), out, in)
				free(t, out.slots, in.slots)
				if s := out.breaker.Stats(); s.Failures != 0 {
					t.Errorf("failures of a healthy server: %+v", s)
				}
			})
		}
	}
}

// holding checks that client and server hold one slot each.
func holding(t testing.TB, out guard, in doors) {
	t.Helper()
	if a, b := out.slots.Stats().InFlight, in.slots.Stats().InFlight; a != 1 || b != 1 {
		t.Errorf("the client holds %d slots and the server %d, want 1 and 1", a, b)
	}
}

// Unary calls of Connect pass through the client and the server.
func TestConnect_unary(t *testing.T) {
	rpc(t, connect.NewUnaryHandlerSimple(method, func(_ context.Context, in *text) (*text, error) {
		if in.GetValue() == "none" {
			return nil, connect.NewError(connect.CodeNotFound, errors.New("no such thing"))
		}
		return wrapperspb.String(in.GetValue() + "!"), nil
	}), func(t *testing.T, c *caller, _ guard, _ doors) {
		got, err := c.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String("hello")))
		if err != nil || got.Msg.GetValue() != "hello!" {
			t.Errorf("got %v and %v", got, err)
		}
		_, err = c.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String("none")))
		if e, ok := errors.AsType[*connect.Error](err); !ok || e.Code() != connect.CodeNotFound || e.Message() != "no such thing" {
			t.Errorf("error %v", err)
		}
	})
}

// Unary calls are retried if they are safe to retry: a POST that is marked so, and a GET
// of a method without side effects. Only the Connect protocol shows a failed unary call
// in the HTTP status.
func TestConnect_retriesIdempotent(t *testing.T) {
	for name, test := range map[string]struct {
		options []connect.ClientOption
		key     string
		runs    int32
	}{
		"POST":                         {nil, "", 1},
		"POST with an idempotency key": {nil, "7", 2},
		"GET":                          {[]connect.ClientOption{connect.WithHTTPGet()}, "", 2},
		"gRPC":                         {[]connect.ClientOption{connect.WithGRPC()}, "7", 1},
	} {
		t.Run(name, func(t *testing.T) {
			var runs atomic.Int32
			h := connect.NewUnaryHandlerSimple(method, func(_ context.Context, in *text) (*text, error) {
				if runs.Add(1) == 1 {
					return nil, connect.NewError(connect.CodeUnavailable, errors.New("busy"))
				}
				return in, nil
			}, connect.WithIdempotency(connect.IdempotencyNoSideEffects))
			url, base := serve(t, "HTTP/2", newDoors().Wrap(h))
			out := newGuard(base)
			options := append(test.options, connect.WithIdempotency(connect.IdempotencyNoSideEffects))
			c := connect.NewClient[text, text](out.client(), url+method, options...)
			req := connect.NewRequest(wrapperspb.String("hello"))
			if test.key != "" {
				req.Header().Set("Idempotency-Key", test.key)
			}
			got, err := c.CallUnary(t.Context(), req)
			if runs.Load() != test.runs {
				t.Errorf("%d runs, want %d", runs.Load(), test.runs)
			}
			if test.runs == 2 && (err != nil || got.Msg.GetValue() != "hello") {
				t.Errorf("got %v and %v", got, err)
			}
			if e, ok := errors.AsType[*connect.Error](err); test.runs == 1 && (!ok || e.Code() != connect.CodeUnavailable || e.Message() != "busy") {
				t.Errorf("error %v", err)
			}
			free(t, out.slots)
		})
	}
}

// The caller gets the whole error of the last attempt, with its details.
func TestConnect_lastError(t *testing.T) {
	var runs atomic.Int32
	url, base := serve(t, "HTTP/2", connect.NewUnaryHandlerSimple(method, func(context.Context, *text) (*text, error) {
		runs.Add(1)
		err := connect.NewError(connect.CodeUnavailable, errors.New("busy"))
		if detail, e := connect.NewErrorDetail(wrapperspb.String("until noon")); e == nil {
			err.AddDetail(detail)
		}
		return nil, err
	}))
	out := newGuardOf(base, func(c *stack.ClientConfig) { c.Retry.Budget = -1 })
	c := connect.NewClient[text, text](out.client(), url+method)
	req := connect.NewRequest(wrapperspb.String("hello"))
	req.Header().Set("Idempotency-Key", "7")
	_, err := c.CallUnary(t.Context(), req)
	e, ok := errors.AsType[*connect.Error](err)
	if !ok || e.Code() != connect.CodeUnavailable || len(e.Details()) != 1 || runs.Load() != 3 {
		t.Errorf("error %v after %d runs", err, runs.Load())
	}
	free(t, out.slots)
}

// The errors of the policies reach the caller through Connect's error.
func TestConnect_policyErrors(t *testing.T) {
	h := connect.NewUnaryHandlerSimple(method, func(ctx context.Context, in *text) (*text, error) {
		wait(ctx)
		return in, nil
	})
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			url, base := serve(t, "HTTP/2", h)
			out := newGuardOf(base, func(c *stack.ClientConfig) { c.Attempt.Timeout = 50 * time.Millisecond })
			c := connect.NewClient[text, text](out.client(), url+method, options...)
			_, err := c.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String("hello")))
			if connect.CodeOf(err) != connect.CodeDeadlineExceeded || !errors.Is(err, timeout.ErrExceeded) {
				t.Errorf("a timeout is %v: %v", connect.CodeOf(err), err)
			}
			out.breaker.SetMode(breaker.ForcedOpen)
			_, err = c.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String("hello")))
			if connect.CodeOf(err) != connect.CodeUnavailable || !errors.Is(err, breaker.ErrOpen) || !errors.Is(err, resilience.ErrRejected) {
				t.Errorf("a rejection is %v: %v", connect.CodeOf(err), err)
			}
			free(t, out.slots)
		})
	}
}

// A rejection by the server is CodeUnavailable for the Connect client.
func TestConnect_rejectionIsUnavailable(t *testing.T) {
	refusing := testkit.Policy(func(context.Context, resilience.Next) error {
		return &resilience.Rejection{Policy: "test", Reason: bulkhead.Full}
	})
	h := connect.NewUnaryHandlerSimple(method, func(_ context.Context, in *text) (*text, error) { return in, nil })
	for name, options := range protocols {
		url, base := serve(t, "HTTP/2", httpmw.Server{Policy: refusing}.Wrap(h))
		c := connect.NewClient[text, text](&http.Client{Transport: base}, url+method, options...)
		_, err := c.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String("hello")))
		if connect.CodeOf(err) != connect.CodeUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A server stream holds its slots on both sides until it ends.
func TestConnect_serverStreamHoldsSlots(t *testing.T) {
	const messages = 10
	rpc(t, connect.NewServerStreamHandler(method, func(_ context.Context, in *connect.Request[text], s *connect.ServerStream[text]) error {
		for range messages {
			if err := s.Send(in.Msg); err != nil {
				return err
			}
			time.Sleep(2 * attemptLimit / messages)
		}
		return nil
	}), func(t *testing.T, c *caller, out guard, in doors) {
		s, err := c.CallServerStream(t.Context(), connect.NewRequest(wrapperspb.String("hello")))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for s.Receive() {
			if n++; n < messages {
				holding(t, out, in)
			}
			if s.Msg().GetValue() != "hello" {
				t.Errorf("message %v", s.Msg())
			}
		}
		if err := errors.Join(s.Err(), s.Close()); err != nil || n != messages {
			t.Errorf("%d messages and %v", n, err)
		}
	})
}

// A client stream passes through both sides. Its answer comes at its end, so the timeout
// of the attempt covers the whole stream.
func TestConnect_clientStream(t *testing.T) {
	rpc(t, connect.NewClientStreamHandler(method, func(_ context.Context, s *connect.ClientStream[text]) (*connect.Response[text], error) {
		all := ""
		for s.Receive() {
			all += s.Msg().GetValue()
		}
		return connect.NewResponse(wrapperspb.String(all)), s.Err()
	}), func(t *testing.T, c *caller, out guard, in doors) {
		s := c.CallClientStream(t.Context())
		for _, part := range []string{"a", "b", "c"} {
			if err := s.Send(wrapperspb.String(part)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the call has begun on both sides", func() bool {
			return out.slots.Stats().InFlight == 1 && in.slots.Stats().InFlight == 1
		})
		if got, err := s.CloseAndReceive(); err != nil || got.Msg.GetValue() != "abc" {
			t.Errorf("got %v and %v", got, err)
		}
	})
}

// talk is a bidirectional stream that answers each message.
func talk(_ context.Context, s *connect.BidiStream[text, text]) error {
	for {
		m, err := s.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(m); err != nil {
			return err
		}
	}
}

// A bidirectional stream outlives the timeout of the attempt and holds its slots.
func TestConnect_bidiOutlivesTimeout(t *testing.T) {
	rpc(t, connect.NewBidiStreamHandler(method, talk), func(t *testing.T, c *caller, out guard, in doors) {
		s := c.CallBidiStream(t.Context())
		for start := time.Now(); time.Since(start) < 2*attemptLimit; time.Sleep(attemptLimit / 10) {
			exchange(t, s)
			holding(t, out, in)
		}
		if err := s.CloseRequest(); err != nil {
			t.Error(err)
		}
		if _, err := s.Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
		if err := s.CloseResponse(); err != nil {
			t.Error(err)
		}
	})
}

func exchange(t testing.TB, s *connect.BidiStreamForClient[text, text]) {
	t.Helper()
	if err := s.Send(wrapperspb.String("hello")); err != nil {
		t.Fatal(err)
	}
	if m, err := s.Receive(); err != nil || m.GetValue() != "hello" {
		t.Fatalf("got %v and %v", m, err)
	}
}

// Canceling a stream frees the slot of the server, and closing it frees the slot of the
// client. After the context is done, Connect does not read the body of the answer, so
// only CloseResponse ends the client's call. net/http does not look at the context while
// it waits for more of the request; Receive ends that.
func TestConnect_cancelAndClose(t *testing.T) {
	rpc(t, connect.NewBidiStreamHandler(method, talk), func(t *testing.T, c *caller, out guard, in doors) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := c.CallBidiStream(ctx)
		exchange(t, s)
		holding(t, out, in)
		cancel()
		if _, err := s.Receive(); connect.CodeOf(err) != connect.CodeCanceled {
			t.Errorf("after cancelling: %v", err)
		}
		free(t, in.slots)
		_ = s.CloseRequest()
		_ = s.CloseResponse()
	})
}

// Canceling a stream during Receive frees the slots of both sides.
func TestConnect_cancelDuringReceive(t *testing.T) {
	rpc(t, connect.NewServerStreamHandler(method, func(ctx context.Context, in *connect.Request[text], s *connect.ServerStream[text]) error {
		err := s.Send(in.Msg)
		wait(ctx)
		return err
	}), func(t *testing.T, c *caller, out guard, in doors) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, err := c.CallServerStream(ctx, connect.NewRequest(wrapperspb.String("hello")))
		if err != nil {
			t.Fatal(err)
		}
		if !s.Receive() {
			t.Fatal(s.Err())
		}
		holding(t, out, in)
		time.AfterFunc(50*time.Millisecond, cancel)
		if s.Receive() || connect.CodeOf(s.Err()) != connect.CodeCanceled {
			t.Errorf("after cancelling: %v", s.Err())
		}
		free(t, out.slots, in.slots)
		_ = s.Close()
	})
}
