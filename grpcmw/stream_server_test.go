package grpcmw_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
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
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A rejected stream gets a pushback.
func TestServer_rejectsStream(t *testing.T) {
	for name, c := range map[string]struct {
		reason   string
		in       time.Duration // when to come back, 0 for unknown
		code     codes.Code
		pushback string
		info     time.Duration
	}{
		"open":                {resilience.Open, 3 * second, codes.Unavailable, "3000", 3 * second},
		"full":                {bulkhead.Full, 0, codes.ResourceExhausted, "1000", second},
		"full, long since":    {bulkhead.Full, -second, codes.ResourceExhausted, "1", time.Millisecond},
		"limited":             {resilience.Limited, 0, codes.ResourceExhausted, "-1", second},
		"limited, long since": {resilience.Limited, -second, codes.ResourceExhausted, "-1", time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var at time.Time
				if c.in != 0 {
					at = time.Now().Add(c.in)
				}
				b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: second / 2}))
				r := memory.serve(t, &service{duplex: func(duplex) error { t.Error("handled"); return nil }},
					guardedServer(reject(c.reason, at)), guarded(b))
				st := r.open(t, patience(t))
				_, err := st.Recv()
				wantCode(t, err, c.code)
				if got := st.Trailer().Get("grpc-retry-pushback-ms"); len(got) != 1 || got[0] != c.pushback {
					t.Errorf("pushback %q, want %s", got, c.pushback)
				}
				info, ok := status.Convert(err).Details()[0].(*errdetails.RetryInfo)
				if !ok || info.RetryDelay.AsDuration() != c.info {
					t.Errorf("details %v, want %v", info, c.info)
				}
				// The client's breaker stays open for as long as the server asks.
				if s := b.Stats(); c.reason == resilience.Open && (s.State != breaker.Open || time.Until(s.RetryAt) != c.in) {
					t.Errorf("the breaker of the client: %+v", s)
				}
			})
		})
	}
}

// A stream on a server holds its bulkhead slot to its end.
func TestServer_streamHoldsSlot(t *testing.T) {
	for name, n := range networks {
		t.Run(name, func(t *testing.T) {
			ended, judge := newWitness(resilience.Ended), newBreaker()
			b := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue}))
			r := n.serve(t, &service{duplex: hang(1)}, guardedServer(resilience.Compose(ended, b, judge)))
			ctx, cancel := context.WithCancel(patience(t))
			st := r.open(t, ctx)
			recv(t, st, 1)
			_, err := r.open(t, patience(t)).Recv()
			wantCode(t, err, codes.ResourceExhausted)
			<-ended.heard // of the rejection
			if n := b.Stats().InFlight; n != 1 {
				t.Errorf("%d slots taken", n)
			}
			cancel()
			wantCounted(t, <-ended.heard, judge, resilience.Success) // it had answered before
			if n := b.Stats().InFlight; n != 0 {
				t.Errorf("%d slots taken at the end", n)
			}
		})
	}
}

// The context of a stream's handler is the policies'.
func TestServer_streamContext(t *testing.T) {
	for name, at := range map[string]resilience.Moment{"until answered": resilience.Answered, "until ended": resilience.Ended} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuards()
				l := resilience.Must(timeout.New(timeout.Config{Timeout: second, Until: at}))
				type key struct{}
				value := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
					return next.Run(context.WithValue(ctx, key{}, "of a policy"))
				})
				r := memory.serve(t, &service{duplex: func(st duplex) error {
					deadline, ok := st.Context().Deadline()
					if want := time.Now().Add(second); !ok || !deadline.Equal(want) {
						t.Errorf("deadline %v, want %v", deadline, want)
					}
					if v := st.Context().Value(key{}); v != "of a policy" {
						t.Errorf("value %v", v)
					}
					if err := grpc.SetTrailer(st.Context(), metadata.Pairs("still", "gRPC's")); err != nil {
						t.Error(err)
					}
					<-st.Context().Done()
					return st.Context().Err()
				}}, guardedServer(g.around(l, value)))
				st := r.open(t, t.Context()) // which has no deadline
				_, err := st.Recv()
				wantCode(t, err, codes.DeadlineExceeded)
				if got := st.Trailer().Get("still"); len(got) != 1 {
					t.Errorf("trailer %v", got)
				}
				err = <-g.ended.heard
				if !errors.Is(err, timeout.ErrExceeded) {
					t.Errorf("settled with %v", err)
				}
				if s := g.breaker.Stats(); s.Failures != 1 {
					t.Errorf("judged %+v", s)
				}
			})
		})
	}
}

// A stream's handler is judged by its result.
func TestServer_streamOutcome(t *testing.T) {
	for name, c := range map[string]struct {
		handler func(duplex) error
		code    codes.Code
		judged  resilience.Outcome
	}{
		"success":               {answer(3, nil), codes.OK, resilience.Success},
		"not found":             {answer(1, status.Error(codes.NotFound, "nothing")), codes.NotFound, resilience.Success},
		"internal":              {answer(3, status.Error(codes.Internal, "broken")), codes.Internal, resilience.Failure},
		"an error of no status": {answer(0, errPolicy), codes.Unknown, resilience.Failure},
		"a call it made was rejected": {
			answer(0, &resilience.Rejection{Reason: resilience.Open}), codes.Unavailable, resilience.Failure,
		},
	} {
		t.Run(name, func(t *testing.T) {
			ended := newWitness(resilience.Ended)
			r := memory.serve(t, &service{duplex: c.handler}, guardedServer(ended))
			st := r.open(t, patience(t))
			var err error
			for err == nil {
				_, err = st.Recv()
			}
			if err == io.EOF {
				err = nil
			}
			wantCode(t, err, c.code)
			err = <-ended.heard
			if got := resilience.OutcomeOf(context.Background(), err, nil); got != c.judged {
				t.Errorf("judged %v by %v, want %v", got, err, c.judged)
			}
			if got := st.Trailer().Get("grpc-retry-pushback-ms"); len(got) != 0 {
				t.Errorf("a pushback for a stream that was handled: %v", got)
			}
		})
	}
}

// serverStream is a stream on a server without a network.
type serverStream struct{ grpc.ServerStream }

func (serverStream) Context() context.Context { return context.Background() }

func handle(p resilience.Policy, handler func() error) error {
	return grpcmw.Server{Policy: p}.Stream(nil, serverStream{}, &grpc.StreamServerInfo{FullMethod: "/s/m"},
		func(any, grpc.ServerStream) error { return handler() })
}

// A stream's handler that panics or calls runtime.Goexit is a failure.
func TestServer_streamUnwindIsFailure(t *testing.T) {
	for name, how := range testkit.Aborts(errPolicy) {
		t.Run(name, func(t *testing.T) {
			g := newGuards()
			end := testkit.Unwind(func() error { return handle(g.around(), func() error { how.Abort(); return nil }) })
			if end != how {
				t.Errorf("ended with %+v", end)
			}
			g.end(t, codes.Unknown, codes.Unknown, resilience.Failure)
		})
	}
}

// A stream's handler runs once.
func TestServer_streamHandlerRunsOnce(t *testing.T) {
	for name, c := range map[string]struct {
		p    resilience.Policy
		err  error // of the handler
		want codes.Code
	}{
		"retry":                   {retries(t, retry.Config{}), errDown, codes.Unavailable},
		"persistent":              {persistent(t), errDown, codes.Unavailable},
		"stubborn":                {stubborn(5), errDown, codes.Unavailable},
		"twice, though it worked": {misuse["twice"], nil, codes.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			err := handle(c.p, func() error { runs++; return c.err })
			if wantCode(t, err, c.want); runs != 1 {
				t.Errorf("ran %d times", runs)
			}
		})
	}
}

// The client gets the handler's error if a policy drops it.
func TestServer_streamDroppedError(t *testing.T) {
	wantCode(t, handle(misuse["drops"], func() error { return errDown }), codes.Unavailable)
	wantCode(t, handle(misuse["drops"], func() error { return nil }), codes.OK)
	wantCode(t, handle(misuse["nothing"], func() error { t.Error("ran"); return nil }), codes.Internal)
	err := handle(failsAfterSuccess, func() error { return nil })
	if wantCode(t, err, codes.Unknown); !errors.Is(err, errPolicy) {
		t.Errorf("got %v", err)
	}
}

// A stream whose client has left is not handled.
func TestServer_streamOfLeftClient(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	g := newGuards()
	gone := &goneStream{ctx: ctx}
	err := grpcmw.Server{Policy: g.around()}.Stream(nil, gone, &grpc.StreamServerInfo{FullMethod: "/s/m"},
		func(any, grpc.ServerStream) error { t.Error("handled"); return nil })
	wantCode(t, err, codes.Canceled)
	if len(g.ended.heard) != 0 {
		t.Error("counted")
	}
}

type goneStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *goneStream) Context() context.Context { return s.ctx }

// A stream's handler has the number of the client's attempt in its context.
func TestServer_streamReadsRetryAttempt(t *testing.T) {
	got := make(chan int, 1)
	r := memory.serve(t, &service{duplex: func(st duplex) error {
		got <- resilience.Attempt(st.Context())
		return nil
	}}, guardedServer(resilience.Compose()), guarded(resilience.Compose()))
	for _, n := range []int{1, 2, 5} {
		r.open(t, resilience.WithAttempt(patience(t), n)).Recv()
		if a := <-got; a != n {
			t.Errorf("attempt %d, want %d", a, n)
		}
	}
	err := grpcmw.Server{Exempt: func(string) bool { return true }}.Stream(nil, markedStream{}, &grpc.StreamServerInfo{},
		func(_ any, ss grpc.ServerStream) error {
			if n := resilience.Attempt(ss.Context()); n != 2 {
				t.Errorf("exempt: attempt %d", n)
			}
			return nil
		})
	if err != nil {
		t.Error(err)
	}
}

// markedStream is one that says that it is a second attempt.
type markedStream struct{ grpc.ServerStream }

func (markedStream) Context() context.Context {
	return metadata.NewIncomingContext(context.Background(), metadata.Pairs("retry-attempt", "2"))
}

// Exempt streams skip the policy.
func TestServer_exemptStream(t *testing.T) {
	refused := reject(resilience.Open, time.Time{})
	own := func(method string) bool { return method == "/own/m" }
	for method, exempt := range map[string]func(string) bool{
		"/grpc.health.v1.Health/Watch": nil, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": nil, "/own/m": own,
	} {
		bare := &fakeStream{}
		cs, err := grpcmw.Client{Policy: refused, Exempt: exempt}.Stream(context.Background(), duplexDesc, nil, method,
			func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
				return bare, nil
			})
		if cs != bare || err != nil {
			t.Errorf("client, %s: %v", method, err)
		}
		err = grpcmw.Server{Policy: refused, Exempt: exempt}.Stream(nil, serverStream{}, &grpc.StreamServerInfo{FullMethod: method},
			func(any, grpc.ServerStream) error { return nil })
		if err != nil {
			t.Errorf("server, %s: %v", method, err)
		}
	}
}
