package grpcmw_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
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

// delayOf returns what the RetryInfo of err says, -1 if there is none.
func delayOf(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return -1
}

// A rejection has a status, a pushback and a RetryInfo.
func TestServer_rejectionStatus(t *testing.T) {
	in := func(d time.Duration) time.Time { return time.Now().Add(d) }
	everywhere(t, func(t *testing.T, serve serving) {
		for name, test := range map[string]struct {
			reason   string
			at       time.Time
			code     codes.Code
			min, max time.Duration
			final    bool // whatever RetryInfo says, there is no other attempt
		}{
			"open":               {resilience.Open, in(time.Minute), codes.Unavailable, 30 * time.Second, time.Minute, false},
			"open, long over":    {resilience.Open, in(-time.Hour), codes.Unavailable, time.Millisecond, time.Millisecond, false},
			"open forever":       {resilience.Open, in(math.MaxInt64), codes.Unavailable, 364 * 24 * time.Hour, 365 * 24 * time.Hour, false},
			"open, unknown":      {resilience.Open, time.Time{}, codes.Unavailable, time.Second, time.Second, false},
			"full":               {bulkhead.Full, time.Time{}, codes.ResourceExhausted, time.Second, time.Second, false},
			"limited":            {resilience.Limited, time.Time{}, codes.ResourceExhausted, time.Second, time.Second, true},
			"limited, and knows": {resilience.Limited, in(time.Hour), codes.ResourceExhausted, 30 * time.Minute, time.Hour, true},
		} {
			var calls atomic.Int32
			c := serve(t, answers(&calls, nil), unaryServer(grpcmw.Server{Policy: reject(test.reason, test.at)}))
			var trailer metadata.MD
			_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{}, grpc.Trailer(&trailer))
			wantStatus(t, err, test.code)
			ms := trailer.Get("grpc-retry-pushback-ms")
			if len(ms) != 1 {
				t.Fatalf("%s: pushback %q", name, ms)
			}
			after := delayOf(err)
			want := strconv.FormatInt(after.Milliseconds(), 10)
			if test.final {
				want = "-1"
			}
			if after < test.min || after > test.max || ms[0] != want {
				t.Errorf("%s: pushback %q, RetryInfo %v", name, ms, delayOf(err))
			}
			if calls.Load() != 0 {
				t.Errorf("%s: the handler ran", name)
			}
		}
	})
}

// A rejection that is joined with a failure is a failure: its status has no pushback and no
// RetryInfo.
func TestServer_joinedRejectionIsFailure(t *testing.T) {
	joined := errors.Join(errBroken, &resilience.Rejection{Reason: resilience.Open, RetryAt: time.Now().Add(time.Hour)})
	policy := testkit.Policy(func(context.Context, resilience.Next) error { return joined })
	c := memory.serve(t, &service{}, unaryServer(grpcmw.Server{Policy: policy}))
	var trailer metadata.MD
	_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{}, grpc.Trailer(&trailer))
	if err == nil || delayOf(err) != -1 || trailer.Get("grpc-retry-pushback-ms") != nil {
		t.Errorf("got %v with %v", err, trailer)
	}
}

// Pushback is rounded up: a client that comes back in time is not rejected for that again.
func TestServer_pushbackRoundsUp(t *testing.T) {
	at := time.Now().Add(time.Second)
	server := grpcmw.Server{Policy: reject(resilience.Open, at)}
	_, err := server.Unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/s/m"}, nil)
	if back := time.Now().Add(delayOf(err)); back.Before(at) {
		t.Errorf("asked to come back %v too early", at.Sub(back))
	}
	if d := delayOf(err); d%time.Millisecond != 0 {
		t.Errorf("RetryInfo says %v, and the pushback cannot", d)
	}
}

// A rejection leaves out the error of another client's call that opened the breaker.
func TestServer_rejectionHidesCause(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		var logged error
		log := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
			resp, err = handler(ctx, req)
			logged = err
			return resp, err
		}
		var calls atomic.Int32
		server := grpcmw.Server{Policy: sensitive()}
		c := serve(t, answers(&calls, status.Error(codes.Internal, "a secret")), []grpc.ServerOption{grpc.ChainUnaryInterceptor(log, server.Unary)})
		_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantStatus(t, err, codes.Internal)
		_, err = c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantStatus(t, err, codes.Unavailable)
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("the client got %v", err)
		}
		wantStatus(t, logged, codes.Unavailable, breaker.ErrOpen)
		if r, ok := errors.AsType[*resilience.Rejection](logged); !ok || r.Cause == nil || !strings.Contains(logged.Error(), "secret") {
			t.Errorf("the server's own log has %v", logged)
		}
	})
}

// A Client obeys a Server's rejection.
func TestClient_obeysRejection(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		var calls atomic.Int32
		once := make(chan struct{}, 1)
		once <- struct{}{}
		busy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			select {
			case <-once:
				return &resilience.Rejection{Policy: "test", Reason: resilience.Open, RetryAt: time.Now().Add(30 * time.Millisecond)}
			default:
				return next.Run(ctx)
			}
		})
		var waited time.Duration
		p := retries(t, retry.Config{Observer: testkit.Observer(func(e resilience.Event) { waited += e.Delay })})
		c := serve(t, answers(&calls, nil), unaryServer(grpcmw.Server{Policy: busy}), unary(grpcmw.Client{Policy: p}))
		if _, err := c.UnaryCall(patience(t), &pb.SimpleRequest{}); err != nil {
			t.Error(err)
		}
		if waited < 10*time.Millisecond || calls.Load() != 1 {
			t.Errorf("%d calls after %v", calls.Load(), waited)
		}
	})
}

// A full server answers RESOURCE_EXHAUSTED.
func TestServer_fullIsResourceExhausted(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		began := make(chan struct{}, 1)
		full := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue}))
		calls := newWitness(resilience.Ended)
		c := serve(t, hanging(began), unaryServer(grpcmw.Server{Policy: resilience.Compose(calls, full)}))
		ctx, cancel := context.WithCancel(patience(t))
		first := make(chan error, 1)
		go func() {
			_, err := c.UnaryCall(ctx, &pb.SimpleRequest{})
			first <- err
		}()
		<-began
		_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantStatus(t, err, codes.ResourceExhausted)
		if delayOf(err) != time.Second {
			t.Errorf("RetryInfo says %v", delayOf(err))
		}
		cancel()
		wantStatus(t, <-first, codes.Canceled)
		<-calls.heard
		<-calls.heard // the server notices the end
		if s := full.Stats(); s.InFlight != 0 {
			t.Errorf("the slot is not free: %+v", s)
		}
	})
}

// A handler's timeout is DEADLINE_EXCEEDED.
func TestServer_timeoutIsDeadlineExceeded(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		b := sensitive()
		p := resilience.Compose(b, resilience.Must(timeout.New(timeout.Config{Name: "handler", Timeout: 10 * time.Millisecond})))
		c := serve(t, hanging(nil), unaryServer(grpcmw.Server{Policy: p}))
		_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantStatus(t, err, codes.DeadlineExceeded)
		if got := status.Convert(err).Message(); got != `timeout "handler": not done within 10ms` || delayOf(err) != -1 {
			t.Errorf("got %v", err)
		}
		wantCounted(t, err, b, resilience.Failure)
	})
}

// A call whose deadline has passed is not handled.
func TestServer_expiredCallIsNotRun(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		b := newBreaker()
		server := grpcmw.Server{Policy: b}
		slow := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			late, cancel := context.WithDeadline(ctx, time.Now()) // what the call waited for took too long
			defer cancel()
			return handler(late, req)
		}
		var calls atomic.Int32
		c := serve(t, answers(&calls, nil), []grpc.ServerOption{grpc.ChainUnaryInterceptor(slow, server.Unary)})
		_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantStatus(t, err, codes.DeadlineExceeded)
		if s := b.Stats(); calls.Load() != 0 || s.Successes+s.Failures+s.Ignored+s.Rejected != 0 {
			t.Errorf("it ran: %+v", s)
		}
	})
}

// A rejection of a call that the handler made is the handler's failure: the handler did
// run.
func TestServer_nestedRejectionIsFailure(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		b := newBreaker()
		var calls atomic.Int32
		rejected := &resilience.Rejection{Policy: "breaker", Name: "database", Reason: resilience.Open, RetryAt: time.Now().Add(time.Hour)}
		var outside error
		log := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			resp, err := handler(ctx, req)
			outside = err
			return resp, err
		}
		server := grpcmw.Server{Policy: b}
		c := serve(t, answers(&calls, rejected), []grpc.ServerOption{grpc.ChainUnaryInterceptor(log, server.Unary)})
		var trailer metadata.MD
		_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{}, grpc.Trailer(&trailer))
		wantStatus(t, err, codes.Unavailable)
		wantCounted(t, err, b, resilience.Failure)
		if calls.Load() != 1 || delayOf(err) != -1 || trailer.Get("grpc-retry-pushback-ms") != nil {
			t.Errorf("taken for a rejection of the server: %v, %v", err, trailer)
		}
		wantStatus(t, outside, codes.Unavailable, breaker.ErrOpen)
	})
}

// misuse has policies that do what a policy may not, or hardly ever should.
var misuse = map[string]testkit.Policy{
	"twice": func(ctx context.Context, next resilience.Next) error {
		_ = next.Run(ctx)
		return next.Run(ctx)
	},
	"twice, first": func(ctx context.Context, next resilience.Next) error {
		err := next.Run(ctx)
		_ = next.Run(ctx)
		return err
	},
	"drops":   func(ctx context.Context, next resilience.Next) error { _ = next.Run(ctx); return nil },
	"nothing": func(context.Context, resilience.Next) error { return nil },
	"invents": func(ctx context.Context, next resilience.Next) error { _ = next.Run(ctx); return errBroken },
	"rejects too late": func(ctx context.Context, next resilience.Next) error {
		_ = next.Run(ctx)
		return bulkhead.ErrFull
	},
	"wraps": func(ctx context.Context, next resilience.Next) error {
		return errors.Join(next.Run(ctx))
	},
}

// A handler runs once, whatever the policy does.
func TestServer_handlerRunsOnce(t *testing.T) {
	notFound := detailed(t, codes.NotFound, "none")
	for name, test := range map[string]struct {
		err        error
		code       codes.Code
		calls      int32
		untouched  bool
		misbehaves string
	}{
		"twice":                   {notFound.Err(), codes.NotFound, 1, true, "twice"},
		"twice, first":            {notFound.Err(), codes.NotFound, 1, true, "twice, first"},
		"drops":                   {notFound.Err(), codes.NotFound, 1, true, "drops"},
		"nothing":                 {notFound.Err(), codes.Internal, 0, false, "nothing"},
		"invents":                 {notFound.Err(), codes.Unknown, 1, false, "invents"},
		"wraps":                   {notFound.Err(), codes.NotFound, 1, false, "wraps"},
		"rejects too late":        {nil, codes.ResourceExhausted, 1, false, "rejects too late"},
		"twice, though it worked": {nil, codes.Internal, 1, false, "twice"},
		"drops nothing":           {nil, codes.OK, 1, false, "drops"},
		"wraps nothing":           {nil, codes.OK, 1, false, "wraps"},
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, serve serving) {
				var calls atomic.Int32
				c := serve(t, answers(&calls, test.err), unaryServer(grpcmw.Server{Policy: misuse[test.misbehaves]}))
				resp, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
				if calls.Load() != test.calls || status.Code(err) != test.code {
					t.Errorf("%d calls, %v", calls.Load(), err)
				}
				if test.code == codes.OK && resp.GetUsername() != "server" {
					t.Errorf("reply %v", resp)
				}
				if delayOf(err) != -1 {
					t.Errorf("it ran, and yet it is asked for again: %v", err)
				}
				if test.untouched && !proto.Equal(status.Convert(err).Proto(), notFound.Proto()) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// A retry on a server does not run a handler twice.
func TestServer_retryRunsHandlerOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		for name, c := range map[string]retry.Config{"default": {}, "of all errors": {Retryable: func(error) bool { return true }}} {
			var calls atomic.Int32
			client := serve(t, answers(&calls, status.Error(codes.Unavailable, "down"), nil), unaryServer(grpcmw.Server{Policy: retries(t, c)}))
			_, err := client.UnaryCall(patience(t), &pb.SimpleRequest{})
			wantStatus(t, err, codes.Unavailable)
			if calls.Load() != 1 || !strings.Contains(err.Error(), "down") {
				t.Errorf("%s: %d calls, %v", name, calls.Load(), err)
			}
		}
	})
}

// The client gets the server's reply, or an error.
func TestServer_policyWithoutRun(t *testing.T) {
	notFound := detailed(t, codes.NotFound, "none")
	everywhere(t, func(t *testing.T, serve serving) {
		for name, test := range map[string]struct {
			err   error
			code  codes.Code
			calls int32
		}{
			"drops": {notFound.Err(), codes.NotFound, 1}, "nothing": {nil, codes.Internal, 0}, "invents": {nil, codes.Unknown, 1},
			"wraps": {notFound.Err(), codes.NotFound, 1}, "twice": {notFound.Err(), codes.NotFound, 2},
		} {
			var calls atomic.Int32
			c := serve(t, answers(&calls, test.err), nil, unary(grpcmw.Client{Policy: misuse[name]}))
			_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
			wantStatus(t, err, test.code)
			if calls.Load() != test.calls {
				t.Errorf("%s: %d calls", name, calls.Load())
			}
		}
		var calls atomic.Int32
		c := serve(t, answers(&calls, notFound.Err(), nil), nil, unary(grpcmw.Client{Policy: misuse["twice"]}))
		if resp, err := c.UnaryCall(patience(t), &pb.SimpleRequest{}); err != nil || resp.GetUsername() != "server" {
			t.Errorf("the second attempt: %v, %v", resp, err)
		}
	})
}

// The handler's context has the number of retry-attempt, if it is valid.
func TestServer_readsRetryAttempt(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		var got []int
		s := &service{unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
			got = append(got, resilience.Attempt(ctx))
			return &pb.SimpleResponse{}, nil
		}}
		c := serve(t, s, unaryServer(grpcmw.Server{Policy: resilience.Compose()}))
		for _, values := range [][]string{nil, {"1"}, {"2"}, {"999"}, {"1000"}, {"-1"}, {"02"}, {"many"}, {"2", "2"}} {
			ctx := metadata.NewOutgoingContext(patience(t), metadata.MD{"retry-attempt": values})
			if _, err := c.UnaryCall(ctx, &pb.SimpleRequest{}); err != nil {
				t.Fatal(err)
			}
		}
		if want := []int{1, 1, 2, 999, 1, 1, 1, 1, 1}; !slices.Equal(got, want) {
			t.Errorf("attempts %v, want %v", got, want)
		}
	})
}
