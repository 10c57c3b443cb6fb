package grpcmw_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/timeout"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// verdict is what a set shows about an endpoint after some results.
type verdict struct {
	ejected string // in the reason; "" if the endpoint is not ejected
	failing bool   // it gets less work
}

var (
	success  = verdict{"", false}
	busy     = verdict{"", true}
	failure  = verdict{"times in a row", true}
	timedOut = verdict{"gave no answer", true}
)

// long is far more than a call takes: eight times the latency.
const long = time.Second

// warmUp makes calls until enough is known about each replica, and keeps all but the first
// one busy, so that the next calls go to that one.
func (f *fleet) warmUp(t *testing.T) {
	t.Helper()
	f.together(t, 20*len(f.replicas))
	eventually(t, "calls are quick", func() bool { // at once, or soon on a busy machine
		f.calls(t, 10)
		return !slices.ContainsFunc(f.set(t).Stats().Endpoints, func(e endpoint.EndpointStats) bool { return e.Latency > long/8 })
	})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	for _, r := range f.replicas[1:] {
		r.duplex = hang(0)
		f.only(t, r)
		for range 100 {
			if _, err := f.FullDuplexCall(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.only(t, nil)
}

// avoidOthers returns a context for one call that goes to the first replica.
func (f *fleet) avoidOthers(t *testing.T) context.Context {
	t.Helper()
	trail := new(endpoint.Trail)
	for _, r := range f.replicas[1:] {
		f.only(t, r)
		p, _ := f.set(t).Pick(trail)
		p.End()
	}
	f.only(t, nil)
	return endpoint.WithTrail(patience(t), trail)
}

// wantVerdict makes five calls to the first replica.
func (f *fleet) wantVerdict(t *testing.T, want verdict, call func(context.Context) error) {
	t.Helper()
	r := f.replicas[0]
	before := f.state(t, r.addr).Attempts
	for range 5 {
		_ = call(f.avoidOthers(t))
	}
	eventually(t, "nothing is in flight", func() bool { return f.state(t, r.addr).InFlight == 0 })
	st := f.state(t, r.addr)
	if n := st.Attempts - before; n != 5 {
		t.Errorf("%d calls came to the endpoint", n)
	}
	got := verdict{failing: st.Failures > .2}
	if st.State == endpoint.Ejected {
		got = verdict{st.Why, true}
	}
	if got.failing != want.failing || (got.ejected != "") != (want.ejected != "") || !strings.Contains(got.ejected, want.ejected) {
		t.Errorf("the endpoint is %+v, want %+v", st, want)
	}
}

// An attempt counts for its endpoint as it counts for the policies, by its code.
func TestEndpoints_codes(t *testing.T) {
	for code := codes.Canceled; code <= 17; code++ {
		t.Run(code.String(), func(t *testing.T) {
			want := success
			switch {
			case code == codes.ResourceExhausted:
				want = busy
			case grpcmw.CodeOutcome(code) == resilience.Failure:
				want = failure
			}
			f := newFleet(t, 2, clientOptions(retrying(t, 1))...)
			f.warmUp(t)
			f.replicas[0].do.Store(failsWith(code))
			f.wantVerdict(t, want, func(ctx context.Context) error { _, err := f.call(ctx); return err })
		})
	}
}

// Client.Classify also decides what an attempt shows about its endpoint.
func TestEndpoints_classify(t *testing.T) {
	c := retrying(t, 1)
	c.Classify = func(_ string, code codes.Code) resilience.Outcome {
		if code == codes.NotFound {
			return resilience.Failure
		}
		return resilience.Success
	}
	for code, want := range map[codes.Code]verdict{codes.NotFound: failure, codes.Internal: success} {
		f := newFleet(t, 2, clientOptions(c)...)
		f.warmUp(t)
		f.replicas[0].do.Store(failsWith(code))
		f.wantVerdict(t, want, func(ctx context.Context) error { _, err := f.call(ctx); return err })
	}
}

// A pushback that forbids a retry shows an endpoint that is busy, whatever the code.
func TestEndpoints_pushback(t *testing.T) {
	f := newFleet(t, 2, clientOptions(retrying(t, 1))...)
	f.warmUp(t)
	f.replicas[0].do.Store(func(ctx context.Context) error {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "-1"))
		return status.Error(codes.Unavailable, "no")
	})
	f.wantVerdict(t, busy, func(ctx context.Context) error { _, err := f.call(ctx); return err })
}

// A message that is too large is no evidence about the endpoint.
func TestEndpoints_localError(t *testing.T) {
	f := newFleet(t, 2, clientOptions(retrying(t, 1))...)
	f.warmUp(t)
	f.wantVerdict(t, success, func(ctx context.Context) error {
		_, err := f.call(ctx, grpc.MaxCallRecvMsgSize(1))
		wantCode(t, err, codes.ResourceExhausted)
		return err
	})
}

// unaryOnly applies p to unary calls only, so that it does not end the streams of warmUp.
func unaryOnly(p resilience.Policy) testkit.Policy {
	return func(ctx context.Context, next resilience.Next) error {
		if strings.HasSuffix(next.Key(), "/UnaryCall") {
			return p.Apply(ctx, next)
		}
		return next.Run(ctx)
	}
}

// An endpoint that does not answer before a deadline of the caller, or before a timeout of
// a policy, has timed out. If the caller cancels, that is no evidence.
func TestEndpoints_noAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		policy resilience.Policy
		ctx    func(context.Context) (context.Context, context.CancelFunc)
		want   verdict
	}{
		"deadline": {
			ctx:  func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, long) },
			want: timedOut,
		},
		"policy": {
			policy: unaryOnly(resilience.Must(timeout.New(timeout.Config{Timeout: long}))),
			ctx:    context.WithCancel,
			want:   timedOut,
		},
		"cancel": {
			ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(long/20, cancel)
				return ctx, cancel
			},
			want: success,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 3, clientOptions(grpcmw.Client{Policy: resilience.Compose(test.policy)})...)
			f.warmUp(t)
			bad := f.replicas[0]
			bad.do.Store(hangs)
			for before := bad.calls.Load(); bad.calls.Load() == before; {
				ctx, cancel := test.ctx(t.Context())
				_, _ = f.call(ctx)
				cancel()
			}
			eventually(t, "nothing is in flight", func() bool { return f.state(t, bad.addr).InFlight == 0 })
			st := f.state(t, bad.addr)
			if ejected := st.State == endpoint.Ejected; ejected != (test.want.ejected != "") || !strings.Contains(st.Why, test.want.ejected) {
				t.Errorf("the endpoint is %+v, want %+v", st, test.want)
			}
		})
	}
}

// A connection that breaks before an answer ejects its endpoint at once.
func TestEndpoints_connectionEnds(t *testing.T) {
	f := newFleet(t, 3, clientOptions(retrying(t, 1))...)
	f.warmUp(t)
	r := f.replicas[0]
	r.do.Store(func(ctx context.Context) error {
		p, _ := peer.FromContext(ctx)
		r.drop(p.Addr.String())
		return nil
	})
	before := r.calls.Load()
	for r.calls.Load() == before {
		_, _ = f.call(patience(t))
	}
	eventually(t, "the endpoint is ejected", func() bool {
		return strings.Contains(f.state(t, r.addr).Why, "could not be connected")
	})
}

// A server that finishes its calls and closes the connection is not ejected, and no call
// fails.
func TestEndpoints_gracefulStop(t *testing.T) {
	f := newFleet(t, 2, clientOptions(retrying(t, 1))...)
	r := f.replicas[0]
	for range 20 {
		stopped := make(chan struct{})
		go func() {
			r.srv.GracefulStop()
			close(stopped)
		}()
		testkit.AtOnce(8, func(int) {
			for {
				if _, err := f.call(patience(t)); err != nil {
					t.Error(err)
				}
				select {
				case <-stopped:
					return
				default:
				}
			}
		})
		if st := f.state(t, r.addr); st.Why != "" {
			t.Errorf("a server that stopped in good order is %+v", st)
		}
		r.start(t)
		f.await(t, 2)
	}
}

// A stream of a Client is answered with its first message or its headers, and in flight to
// its end.
func TestEndpoints_streamAnswered(t *testing.T) {
	for name, test := range map[string]struct {
		send func(grpc.ServerStreamingServer[response]) error
		wait func(pb.TestService_StreamingOutputCallClient) error
	}{
		"message": {
			func(s grpc.ServerStreamingServer[response]) error { return s.Send(&response{}) },
			func(s pb.TestService_StreamingOutputCallClient) error { _, err := s.Recv(); return err },
		},
		"headers": {
			func(s grpc.ServerStreamingServer[response]) error { return s.SendHeader(nil) },
			func(s pb.TestService_StreamingOutputCallClient) error { _, err := s.Header(); return err },
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 2, clientOptions(retrying(t, 1))...)
			for _, r := range f.replicas {
				r.output = func(_ *request, s grpc.ServerStreamingServer[response]) error {
					err := test.send(s)
					<-s.Context().Done()
					return errors.Join(err, s.Context().Err())
				}
			}
			ctx, cancel := context.WithCancel(patience(t))
			defer cancel()
			s, err := f.StreamingOutputCall(ctx, &request{})
			if err != nil {
				t.Fatal(err)
			}
			if st := f.sum(t); st.Latency != 0 || st.InFlight != 1 {
				t.Errorf("before the answer: %+v", st)
			}
			if err := test.wait(s); err != nil {
				t.Fatal(err)
			}
			if st := f.sum(t); st.Latency == 0 || st.InFlight != 1 {
				t.Errorf("after the answer: %+v", st)
			}
			cancel()
			f.idle(t)
		})
	}
}

// sum adds up what the set has about its endpoints.
func (f *fleet) sum(t testing.TB) (sum endpoint.EndpointStats) {
	for _, e := range f.set(t).Stats().Endpoints {
		sum.Attempts += e.Attempts
		sum.InFlight += e.InFlight
		sum.Latency += e.Latency
		sum.Failures += e.Failures
	}
	return sum
}

// A stream that lasts does not make its endpoint look hung, also without the interceptor,
// and its time is not part of the latency.
func TestEndpoints_lastingStream(t *testing.T) {
	for name, opts := range map[string][]grpc.DialOption{
		"with the interceptor": clientOptions(retrying(t, 1)),
		"without":              {unary(retrying(t, 1))},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 2, opts...)
			for _, r := range f.replicas {
				r.duplex = hang(0)
			}
			f.together(t, 20) // so that the latencies are known
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if _, err := f.FullDuplexCall(ctx); err != nil {
				t.Fatal(err)
			}
			var most time.Duration
			for _, e := range f.set(t).Stats().Endpoints {
				most = max(most, e.Latency)
			}
			time.Sleep(10 * most)
			// On a busy machine the latencies may differ for a moment.
			eventually(t, "both replicas get calls", func() bool {
				before := [2]int64{f.replicas[0].calls.Load(), f.replicas[1].calls.Load()}
				f.together(t, 20)
				return f.replicas[0].calls.Load() >= before[0]+4 && f.replicas[1].calls.Load() >= before[1]+4
			})
			latency := f.sum(t).Latency
			cancel()
			f.idle(t)
			if got := f.sum(t); got.Latency > latency || got.Failures != 0 {
				t.Errorf("after the stream: %+v, latency before: %v", got, latency)
			}
		})
	}
}

// An upload whose client is slow to send is no evidence about its endpoint. One that the
// server does not answer is.
func TestEndpoints_upload(t *testing.T) {
	for name, test := range map[string]struct {
		sent bool
		want verdict
	}{
		"the client is slow": {false, success},
		"the server hangs":   {true, failure},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 2, clientOptions(retrying(t, 1))...)
			f.warmUp(t)
			f.replicas[0].input = func(s grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
				<-s.Context().Done()
				return s.Context().Err()
			}
			f.wantVerdict(t, test.want, func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
				defer cancel()
				s, err := f.StreamingInputCall(ctx)
				if err != nil {
					return err
				}
				if test.sent {
					_, err = s.CloseAndRecv()
					return err
				}
				return s.RecvMsg(&pb.StreamingInputCallResponse{})
			})
		})
	}
}

// Without the interceptors, failures still eject an endpoint.
func TestEndpoints_withoutInterceptors(t *testing.T) {
	f := newFleet(t, 2)
	f.warmUp(t)
	f.replicas[0].do.Store(failsWith(codes.Internal))
	f.wantVerdict(t, failure, func(ctx context.Context) error { _, err := f.call(ctx); return err })
}

// Nothing is in flight when all calls have ended, however they ended.
func TestEndpoints_inFlight(t *testing.T) {
	c := retrying(t, 2)
	c.Classify = func(method string, code codes.Code) resilience.Outcome {
		if code == codes.Aborted {
			panic("classify")
		}
		return grpcmw.CodeOutcome(code)
	}
	f := newFleet(t, 3, clientOptions(c)...)
	f.replicas[0].do.Store(func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	f.replicas[1].do.Store(failsWith(codes.Aborted))
	for _, r := range f.replicas {
		r.duplex = hang(1)
	}
	testkit.AtOnce(8, func(i int) {
		for j := range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			if j%2 == 0 {
				time.AfterFunc(time.Millisecond, cancel)
			}
			testkit.Unwind(func() error { _, err := f.call(ctx); return err })
			if s, err := f.FullDuplexCall(ctx); err == nil && i%2 == 0 {
				_, _ = s.Recv()
			}
			cancel()
		}
	})
	f.idle(t)
	s, err := f.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	recv(t, s, 1)
	set := f.set(t)
	f.conn.Close()
	eventually(t, "nothing is in flight", func() bool { return set.Idle() || inFlight(set) == 0 })
}

func inFlight(s *endpoint.Set) (n int64) {
	for _, e := range s.Endpoints() {
		n += e.InFlight()
	}
	return n
}
