package grpcmw_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/policykit"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// sensitive returns a breaker that one failure opens for an hour.
func sensitive() *breaker.Breaker {
	return resilience.Must(breaker.New(breaker.Config{Name: "test", Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Hour}))
}

func wantStatus(t *testing.T, err error, code codes.Code, targets ...error) {
	t.Helper()
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); !ok {
		t.Errorf("no status: %v", err)
	}
	if got := status.Convert(err); got.Code() != code || got.Message() == "" {
		t.Errorf("status %v, want %v: %v", got, code, err)
	}
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Errorf("not %v: %v", target, err)
		}
	}
}

// hanging is a service whose calls go on until their client leaves.
func hanging(began chan<- struct{}) *service {
	return &service{unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
		if began != nil {
			began <- struct{}{}
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
}

// A rejection is UNAVAILABLE or RESOURCE_EXHAUSTED.
func TestClient_rejectionCodes(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		var calls atomic.Int32
		for name, test := range map[string]struct {
			reason string
			code   codes.Code
			is     error
		}{
			"open":    {resilience.Open, codes.Unavailable, resilience.ErrRejected},
			"full":    {bulkhead.Full, codes.ResourceExhausted, resilience.ErrRejected},
			"limited": {resilience.Limited, codes.ResourceExhausted, resilience.ErrRejected},
		} {
			c := serve(t, answers(&calls, nil), nil, unary(grpcmw.Client{Policy: reject(test.reason, time.Time{})}))
			_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
			wantStatus(t, err, test.code, test.is)
			if r, ok := errors.AsType[*resilience.Rejection](err); !ok || r.Reason != test.reason {
				t.Errorf("%s: no rejection: %v", name, err)
			}
		}
		if calls.Load() != 0 {
			t.Error("a rejected call was made")
		}
	})
}

// An open breaker's error matches breaker.ErrOpen.
func TestClient_openBreakerIsErrOpen(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		var calls atomic.Int32
		c := serve(t, answers(&calls, status.Error(codes.Internal, "broken")), nil, unary(grpcmw.Client{Policy: sensitive()}))
		_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantStatus(t, err, codes.Internal)
		_, err = c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantStatus(t, err, codes.Unavailable, breaker.ErrOpen)
		if calls.Load() != 1 {
			t.Errorf("%d calls", calls.Load())
		}
	})
}

// A full bulkhead's error matches bulkhead.ErrFull.
func TestClient_fullBulkheadIsErrFull(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		began := make(chan struct{}, 1)
		full := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue}))
		c := serve(t, hanging(began), nil, unary(grpcmw.Client{Policy: full}))
		ctx, cancel := context.WithCancel(patience(t))
		first := make(chan error, 1)
		go func() {
			_, err := c.UnaryCall(ctx, &pb.SimpleRequest{})
			first <- err
		}()
		<-began
		_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantStatus(t, err, codes.ResourceExhausted, bulkhead.ErrFull)
		cancel()
		wantStatus(t, <-first, codes.Canceled, context.Canceled)
		if s := full.Stats(); s.InFlight != 0 {
			t.Errorf("the slot is not free: %+v", s)
		}
	})
}

// An attempt timeout is DEADLINE_EXCEEDED and a failure.
func TestClient_timeoutIsFailure(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		for _, inner := range []bool{false, true} {
			b := sensitive()
			short := resilience.Must(timeout.New(timeout.Config{Name: "attempt", Timeout: 20 * time.Millisecond}))
			p := resilience.Compose(b, short)
			if inner {
				p = resilience.Compose(short, b)
			}
			c := serve(t, hanging(nil), nil, unary(grpcmw.Client{Policy: p}))
			_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
			wantStatus(t, err, codes.DeadlineExceeded, timeout.ErrExceeded, context.DeadlineExceeded)
			if s := b.Stats(); s.Failures != 1 || s.Opened != 1 {
				t.Errorf("breaker inside: %v: %+v", inner, s)
			}
		}
	})
}

// DEADLINE_EXCEEDED of the server is a timeout for the policies, and UNAVAILABLE is not.
func TestClient_deadlineExceededIsTimeout(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		for _, code := range []codes.Code{codes.DeadlineExceeded, codes.Unavailable} {
			var got error
			judge := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
				got = next.Run(ctx)
				return got
			})
			c := serve(t, answers(new(atomic.Int32), status.Error(code, "from the server")), nil, unary(grpcmw.Client{Policy: judge}))
			_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
			wantStatus(t, err, code)
			if timedOut := policykit.TimedOut(got); timedOut != (code == codes.DeadlineExceeded) {
				t.Errorf("%v: a timeout: %v", code, timedOut)
			}
		}
	})
}

// A timeout without a context deadline is a failure, although gRPC reports a cancel.
func TestClient_timeoutWithoutDeadline(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		began := make(chan struct{}, 1)
		var limited context.CancelCauseFunc
		byCause := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			ctx, limited = context.WithCancelCause(ctx)
			defer limited(nil)
			return next.Run(ctx)
		})
		b := sensitive()
		c := serve(t, hanging(began), nil, unary(grpcmw.Client{Policy: resilience.Compose(b, byCause)}))
		go func() {
			<-began
			limited(testkit.TimedOut{Err: context.DeadlineExceeded})
		}()
		_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantStatus(t, err, codes.Canceled)
		if s := b.Stats(); s.Failures != 1 {
			t.Errorf("counted %+v", s)
		}
	})
}

// The end of the caller's context is the error of that context.
func TestClient_callerContextError(t *testing.T) {
	errLeft := errors.New("the user left")
	everywhere(t, func(t *testing.T, serve serving) {
		for name, p := range map[string]func() resilience.Policy{
			"nothing": func() resilience.Policy { return resilience.Compose() },
			"retry":   func() resilience.Policy { return retries(t, retry.Config{}) },
			"wrapped": func() resilience.Policy { return resilience.Compose(retries(t, retry.Config{}), pass) },
		} {
			t.Run(name, func(t *testing.T) {
				b := sensitive()
				var ran atomic.Int32
				count := testkit.Policy(func(ctx context.Context, next resilience.Next) error { ran.Add(1); return next.Run(ctx) })
				began := make(chan struct{}, 3)
				c := serve(t, hanging(began), nil, unary(grpcmw.Client{Policy: resilience.Compose(p(), b, count)}))
				ctx, cancel := context.WithCancelCause(patience(t))
				go func() {
					<-began
					cancel(errLeft)
				}()
				_, err := c.UnaryCall(ctx, &pb.SimpleRequest{})
				wantStatus(t, err, codes.Canceled, context.Canceled, errLeft)
				_, err = c.UnaryCall(ctx, &pb.SimpleRequest{}) // it is over already
				wantStatus(t, err, codes.Canceled, context.Canceled, errLeft)
				if s := b.Stats(); s.Failures != 0 || s.Ignored != 1 {
					t.Errorf("cancellation is counted: %+v", s)
				}

				// A deadline that passes before the call begins counts nothing, so the deadline
				// is longer each time until the call runs.
				for d := 20 * time.Millisecond; ran.Load() == 1; d *= 2 {
					ctx, stop := context.WithTimeout(t.Context(), d)
					_, err = c.UnaryCall(ctx, &pb.SimpleRequest{})
					stop()
					wantStatus(t, err, codes.DeadlineExceeded, context.DeadlineExceeded)
				}
				if s := b.Stats(); s.Failures != 1 {
					t.Errorf("the caller's deadline is no failure: %+v", s)
				}
			})
		}
	})
}

// An error that has the end of the context already is not wrapped again.
func TestClient_contextErrorOnce(t *testing.T) {
	errLeft := errors.New("the user left")
	for name, test := range map[string]struct {
		err  error
		code codes.Code
		text string
	}{
		"the error of the context": {context.Canceled, codes.Canceled, "context canceled"},
		"a reply that came first":  {detailed(t, codes.NotFound, "none").Err(), codes.NotFound, "rpc error: code = NotFound desc = none"},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		err := grpcmw.Client{Policy: resilience.Compose()}.Unary(ctx, "/s/m", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			cancel(errLeft)
			return test.err
		})
		wantStatus(t, err, test.code, test.err)
		if err.Error() != test.text {
			t.Errorf("%s: %q", name, err)
		}
	}
}

// A caller that cancels during the backoff gets CANCELLED, not the last status.
func TestClient_cancelDuringBackoff(t *testing.T) {
	errLeft := errors.New("the user left")
	everywhere(t, func(t *testing.T, serve serving) {
		ctx, cancel := context.WithCancelCause(t.Context()) // no deadline, or the wait would be too long
		defer cancel(nil)
		var calls atomic.Int32
		p := retries(t, retry.Config{
			MaxDelay: time.Hour,
			Backoff:  func(int) time.Duration { return time.Hour },
			Observer: testkit.Observer(func(resilience.Event) { cancel(errLeft) }),
		})
		c := serve(t, answers(&calls, status.Error(codes.Unavailable, "down")), nil, unary(grpcmw.Client{Policy: p}))
		_, err := c.UnaryCall(ctx, &pb.SimpleRequest{})
		wantStatus(t, err, codes.Canceled, context.Canceled, errLeft)
		if e, ok := errors.AsType[*retry.Error](err); !ok || status.Code(e.Err) != codes.Unavailable || calls.Load() != 1 {
			t.Errorf("%d calls: %v", calls.Load(), err)
		}
	})
}

// A deadline that the server reports first is still the caller's deadline.
func TestClient_deadlineFromServer(t *testing.T) {
	ctx := &slowTimer{t.Context(), time.Now().Add(-second)}
	err := grpcmw.Client{Policy: resilience.Compose()}.Unary(ctx, "/s/m", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		return status.Error(codes.DeadlineExceeded, "too late")
	})
	wantStatus(t, err, codes.DeadlineExceeded, context.DeadlineExceeded)
	if !strings.Contains(status.Convert(err).Message(), "too late") {
		t.Errorf("what the server said is lost: %v", err)
	}
}

// A caller that canceled before its deadline gets that error, also if the deadline passes
// before the call returns.
func TestClient_canceledBeforeDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), second)
		err := grpcmw.Client{Policy: resilience.Compose()}.Unary(ctx, "/s/m", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			cancel()
			time.Sleep(2 * second)
			return status.Error(codes.Canceled, "gone")
		})
		wantStatus(t, err, codes.Canceled, context.Canceled)
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// An answer that comes after a policy's timeout is an answer.
func TestClient_lateAnswerIsSuccess(t *testing.T) {
	b := newBreaker()
	short := resilience.Must(timeout.New(timeout.Config{Timeout: time.Millisecond}))
	client := grpcmw.Client{Policy: resilience.Compose(short, b)}
	err := client.Unary(t.Context(), "/s/m", nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		<-ctx.Done()
		return status.Error(codes.NotFound, "none")
	})
	wantStatus(t, err, codes.NotFound)
	wantCounted(t, err, b, resilience.Success)
}

// A call that collects nothing leaves alone what its options point to, as bare.
func TestClient_keepsCollected(t *testing.T) {
	header, trailer := metadata.Pairs("a", "1"), metadata.Pairs("b", "2")
	err := grpcmw.Client{Policy: resilience.Compose()}.Unary(t.Context(), "/s/m", nil, nil, nil,
		func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return errDown },
		grpc.Header(&header), grpc.Trailer(&trailer))
	wantStatus(t, err, codes.Unavailable)
	if len(header) != 1 || len(trailer) != 1 {
		t.Errorf("header %v, trailer %v", header, trailer)
	}
}

var pass = testkit.Policy(func(ctx context.Context, next resilience.Next) error { return next.Run(ctx) })

func detailed(t testing.TB, code codes.Code, text string) *status.Status {
	t.Helper()
	s, err := status.New(code, text).WithDetails(&errdetails.ErrorInfo{Reason: "BROKE", Domain: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The server's status comes back unchanged.
func TestClient_returnsServerStatus(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		for _, code := range []codes.Code{codes.NotFound, codes.Internal, codes.DeadlineExceeded, codes.Canceled, 77} {
			want := detailed(t, code, "broke")
			for name, p := range map[string]resilience.Policy{
				"nothing": resilience.Compose(),
				"default": resilience.Compose(retries(t, retry.Config{}), sensitive(), resilience.Must(bulkhead.New(bulkhead.Config{})), resilience.Must(timeout.New(timeout.Config{}))),
			} {
				var calls atomic.Int32
				c := serve(t, answers(&calls, want.Err()), unaryServer(grpcmw.Server{Policy: p}), unary(grpcmw.Client{Policy: p}))
				_, err := c.UnaryCall(t.Context(), &pb.SimpleRequest{})
				bare := serve(t, answers(&calls, want.Err()), nil)
				_, unguarded := bare.UnaryCall(t.Context(), &pb.SimpleRequest{})
				if got := status.Convert(err); !proto.Equal(got.Proto(), want.Proto()) || err.Error() != unguarded.Error() {
					t.Errorf("%s: %v came back as %v", name, want, err)
				}
			}
		}
	})
}

// The error of a retry has the last attempt's status.
func TestClient_retryErrorHasLastStatus(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		var calls atomic.Int32
		s := answers(&calls, status.Error(codes.Unavailable, "first"), detailed(t, codes.Unavailable, "second").Err())
		c := serve(t, s, nil, unary(grpcmw.Client{Policy: retries(t, retry.Config{Name: "test", MaxAttempts: 2})}))
		_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantStatus(t, err, codes.Unavailable)
		if e, ok := errors.AsType[*retry.Error](err); !ok || e.Attempts != 2 || e.Reason != retry.OutOfAttempts {
			t.Errorf("got %v", err)
		}
		got := status.Convert(err)
		if d := got.Details(); len(d) != 1 || !strings.Contains(got.Message(), "second") || got.Message() != err.Error() {
			t.Errorf("status %v with %v", got, d)
		}
	})
}

// Each failed attempt is counted once.
func TestClient_countsAttemptsOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		var calls atomic.Int32
		b := resilience.Must(breaker.New(breaker.Config{}))
		s := answers(&calls, status.Error(codes.Unavailable, ""), status.Error(codes.Unavailable, ""), nil)
		c := serve(t, s, nil, unary(grpcmw.Client{Policy: resilience.Compose(retries(t, retry.Config{}), b)}))
		resp, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
		if err != nil || resp.GetUsername() != "server" {
			t.Fatalf("%v, %v", resp, err)
		}
		if s := b.Stats(); s.Failures != 2 || s.Successes != 1 || s.Ignored != 0 {
			t.Errorf("counted %+v", s)
		}
	})
}

// A connection that cannot be made is counted once for each attempt.
func TestClient_failedConnectionCountsOnce(t *testing.T) {
	b := resilience.Must(breaker.New(breaker.Config{}))
	c := memory.serve(t, &service{}, nil, unary(grpcmw.Client{Policy: resilience.Compose(retries(t, retry.Config{}), b)}),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, net.ErrClosed }))
	_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
	wantStatus(t, err, codes.Unavailable)
	if s := b.Stats(); s.Failures != 3 {
		t.Errorf("counted %+v", s)
	}
}
