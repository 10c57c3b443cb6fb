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
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/timeout"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// verdicts are what policies make of one call to a server.
type verdicts struct {
	answers *answerSlots
	ended   *witness
	breaker *breaker.Breaker
	limit   *limit.Limit

	// deadline is whether the client has a deadline. When it passes, the client also
	// cancels, and the server may get that first.
	deadline bool
}

func newVerdicts() *verdicts {
	return &verdicts{
		answers: newAnswerSlots(),
		ended:   newWitness(resilience.Ended),
		breaker: newBreaker(),
		limit:   resilience.Must(limit.New(limit.Config{})),
	}
}

// options have a Server with the policies behind the interceptors.
func (v *verdicts) options(unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor) []grpc.ServerOption {
	server := grpcmw.Server{Policy: resilience.Compose(v.ended, v.answers, v.breaker, v.limit)}
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(unary, server.Unary), grpc.ChainStreamInterceptor(stream, server.Stream)}
}

// want waits for the end of the call. The client has left, or the answer has the code, and
// the breaker counts the outcome.
func (v *verdicts) want(t *testing.T, left bool, answered codes.Code, ended resilience.Outcome) {
	t.Helper()
	var err error
	select {
	case err = <-v.ended.heard:
	case <-patience(t).Done():
		t.Fatal("has not ended")
	}
	if v.deadline && ended == resilience.Failure && v.breaker.Stats().Ignored == 1 {
		ended = resilience.Ignored
	}
	wantCounted(t, err, v.breaker, ended)
	err = v.answers.one(t)
	if isEnd := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded); isEnd != left {
		t.Errorf("answered with %v; the client left: %t", err, left)
	}
	if !left && status.Code(err) != answered {
		t.Errorf("answered with %v, want %v", err, answered)
	}
	if s := v.limit.Stats(); s.Useful+s.Abandoned != 1 || s.Abandoned == 1 != left {
		t.Errorf("the limit has counted %+v; the client left: %t", s, left)
	}
}

// outsiders are interceptors outside that end the context of a call.
var outsiders = map[string]func(context.Context) (context.Context, context.CancelFunc){
	"nothing": func(ctx context.Context) (context.Context, context.CancelFunc) {
		return ctx, func() {}
	},
	"a deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, 5*time.Millisecond)
	},
	"a cancellation": func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(5*time.Millisecond, cancel)
		return ctx, cancel
	},
}

// contextStream is a grpc.ServerStream with another context.
type contextStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *contextStream) Context() context.Context { return s.ctx }

// A handler that returns nil or a status has answered, also if an interceptor outside has
// ended its context: the client waits and gets the answer. In virtual time, no context ends
// before the handler waits for its end.
func TestServer_endOfContextIsNoAnswer(t *testing.T) {
	for outside, end := range outsiders {
		unary := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			ctx, cancel := end(ctx)
			defer cancel()
			return handler(ctx, req)
		}
		stream := func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			ctx, cancel := end(ss.Context())
			defer cancel()
			return handler(srv, &contextStream{ss, ctx})
		}
		for answer, test := range map[string]struct {
			err     error
			code    codes.Code
			outcome resilience.Outcome
		}{
			"OK":        {nil, codes.OK, resilience.Success},
			"NOT_FOUND": {status.Error(codes.NotFound, "it"), codes.NotFound, resilience.Success},
			"INTERNAL":  {status.Error(codes.Internal, "broken"), codes.Internal, resilience.Failure},
		} {
			if outside == "a cancellation" && test.outcome == resilience.Failure {
				test.outcome = resilience.Ignored // the cancellation may be the reason
			}
			wait := func(ctx context.Context) {
				if outside != "nothing" {
					<-ctx.Done()
				}
			}
			s := &service{
				unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
					wait(ctx)
					return &pb.SimpleResponse{}, test.err
				},
				duplex: func(st duplex) error {
					for { // to the half-close of the client
						if _, err := st.Recv(); err == io.EOF {
							break
						} else if err != nil {
							return err
						}
					}
					wait(st.Context())
					return test.err
				},
			}
			t.Run(outside+", "+answer+", unary", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					v := newVerdicts()
					_, err := memory.serve(t, s, v.options(unary, stream)).UnaryCall(patience(t), &pb.SimpleRequest{})
					wantCode(t, err, test.code)
					v.want(t, false, test.code, test.outcome)
				})
			})
			t.Run(outside+", "+answer+", stream", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					v := newVerdicts()
					st := memory.serve(t, s, v.options(unary, stream)).open(t, patience(t))
					if err := st.Send(&request{}); err != nil {
						t.Fatal(err)
					}
					if err := st.CloseSend(); err != nil {
						t.Fatal(err)
					}
					_, err := st.Recv()
					if err == io.EOF {
						err = nil
					}
					wantCode(t, err, test.code)
					v.want(t, false, test.code, test.outcome)
				})
			})
		}
	}
}

// An answered stream that goes on until its client ends it is a success. Before the answer,
// the end is the client's: a deadline is a failure and a cancellation is Ignored.
func TestServer_streamEndedByClient(t *testing.T) {
	for name, test := range map[string]struct {
		sends    int
		deadline bool
		returns  func(ctx context.Context) error
		outcome  resilience.Outcome
	}{
		"answered, deadline":                {1, true, context.Context.Err, resilience.Success},
		"answered, canceled":                {1, false, context.Context.Err, resilience.Success},
		"answered, deadline as a status":    {1, true, func(ctx context.Context) error { return status.FromContextError(ctx.Err()).Err() }, resilience.Success},
		"answered, canceled, wrapped":       {1, false, func(ctx context.Context) error { return errors.Join(ctx.Err()) }, resilience.Success},
		"answered, deadline of a call":      {1, true, func(context.Context) error { return status.Error(codes.DeadlineExceeded, "late") }, resilience.Success},
		"answered, deadline, another error": {1, true, func(context.Context) error { return status.Error(codes.Internal, "broken") }, resilience.Failure},
		"answered, deadline, no error":      {1, true, func(context.Context) error { return nil }, resilience.Success},
		"not answered, deadline":            {0, true, context.Context.Err, resilience.Failure},
		"not answered, no error":            {0, true, func(context.Context) error { return nil }, resilience.Success},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVerdicts()
				v.deadline = true
				r := memory.serve(t, &service{duplex: func(st duplex) error {
					for range test.sends {
						if err := st.Send(&response{}); err != nil {
							t.Error(err)
						}
					}
					<-st.Context().Done()
					time.Sleep(second) // the client has the same deadline, and must see it first
					return test.returns(st.Context())
				}}, v.options(passUnary, passStream))
				ctx, cancel := context.WithTimeout(t.Context(), second)
				defer cancel()
				st := r.open(t, ctx)
				recv(t, st, test.sends)
				want := codes.DeadlineExceeded
				if !test.deadline {
					want = codes.Canceled
					synctest.Wait() // for the handler
					cancel()
				}
				_, err := st.Recv()
				wantCode(t, err, want)
				v.want(t, test.sends == 0, codes.OK, test.outcome)
			})
		})
	}
}

// An answered stream that its client does not end counts by its end: a policy's timeout is a
// failure, and so is the deadline of an interceptor outside. If the handler returns the end
// of a call that it made, the code of that end counts.
func TestServer_answeredStreamEndsItself(t *testing.T) {
	wait := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for name, test := range map[string]struct {
		policy  resilience.Policy
		outside string
		end     func(ctx context.Context) error
		outcome resilience.Outcome
	}{
		"a timeout":        {resilience.Must(timeout.New(timeout.Config{Timeout: second})), "nothing", wait, resilience.Failure},
		"an interceptor":   {nil, "a deadline", wait, resilience.Failure},
		"a canceled call":  {nil, "nothing", func(context.Context) error { return status.Error(codes.Canceled, "gave up") }, resilience.Ignored},
		"a call that hung": {nil, "nothing", func(context.Context) error { return context.DeadlineExceeded }, resilience.Failure},
		"no error":         {nil, "nothing", func(context.Context) error { return nil }, resilience.Success},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended, b := newWitness(resilience.Ended), newBreaker()
				outside := func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
					ctx, cancel := outsiders[test.outside](ss.Context())
					defer cancel()
					return handler(srv, &contextStream{ss, ctx})
				}
				server := grpcmw.Server{Policy: resilience.Compose(ended, b, test.policy)}
				r := memory.serve(t, &service{duplex: func(st duplex) error {
					if err := st.Send(&response{}); err != nil {
						t.Error(err)
					}
					return test.end(st.Context())
				}}, []grpc.ServerOption{grpc.ChainStreamInterceptor(outside, server.Stream)})
				st := r.open(t, t.Context())
				recv(t, st, 1)
				_, _ = st.Recv()
				wantCounted(t, <-ended.heard, b, test.outcome)
			})
		})
	}
}

// A policy's timeout that ends an answered stream before its client does is the reason.
func TestServer_timeoutBeforeClientEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := newWitness(resilience.Ended)
		short := resilience.Must(timeout.New(timeout.Config{Timeout: second}))
		gone := make(chan struct{})
		r := memory.serve(t, &service{duplex: func(st duplex) error {
			if err := st.Send(&response{}); err != nil {
				t.Error(err)
			}
			<-gone
			return st.Context().Err()
		}}, guardedServer(resilience.Compose(ended, short)))
		ctx, cancel := context.WithCancel(t.Context())
		recv(t, r.open(t, ctx), 1)
		time.Sleep(2 * second)
		cancel()
		synctest.Wait() // the server gets it
		close(gone)
		if err := <-ended.heard; !errors.Is(err, timeout.ErrExceeded) {
			t.Errorf("ended with %v", err)
		}
	})
}

func passUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(ctx, req)
}

func passStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, ss)
}

// A unary handler that returns after its client's deadline has worked, and its client does
// not get the answer.
func TestServer_unaryDeadlinePassed(t *testing.T) {
	for name, test := range map[string]struct {
		err     error
		outcome resilience.Outcome
	}{
		"OK":        {nil, resilience.Success},
		"NOT_FOUND": {status.Error(codes.NotFound, "none"), resilience.Success},
		"INTERNAL":  {status.Error(codes.Internal, "broken"), resilience.Failure},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVerdicts()
				v.deadline = true
				r := memory.serve(t, &service{unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
					<-ctx.Done()
					time.Sleep(second) // the client has the same deadline, and must see it first
					return &pb.SimpleResponse{}, test.err
				}}, v.options(passUnary, passStream))
				ctx, cancel := context.WithTimeout(t.Context(), second)
				defer cancel()
				_, err := r.UnaryCall(ctx, &pb.SimpleRequest{})
				wantCode(t, err, codes.DeadlineExceeded)
				v.want(t, true, codes.OK, test.outcome)
			})
		})
	}
}

// A call that a server finishes during GracefulStop is answered. A call that Stop ends is
// Ignored.
func TestServer_shutdown(t *testing.T) {
	for name, test := range map[string]struct {
		stop    func(*grpc.Server)
		code    codes.Code
		left    bool
		outcome resilience.Outcome
	}{
		"GracefulStop": {(*grpc.Server).GracefulStop, codes.OK, false, resilience.Success},
		"Stop":         {(*grpc.Server).Stop, codes.Unavailable, true, resilience.Ignored},
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, serve serving) {
				v := newVerdicts()
				began, proceed := make(chan struct{}), make(chan struct{})
				r := serve(t, &service{unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
					close(began)
					select {
					case <-proceed:
						return &pb.SimpleResponse{}, nil
					case <-ctx.Done():
						return nil, status.FromContextError(ctx.Err()).Err()
					}
				}}, v.options(passUnary, passStream))
				result := make(chan error)
				go func() {
					_, err := r.UnaryCall(patience(t), &pb.SimpleRequest{})
					result <- err
				}()
				<-began
				stopped := make(chan struct{})
				go func() {
					test.stop(r.srv)
					close(stopped)
				}()
				if !test.left {
					close(proceed)
				}
				wantCode(t, <-result, test.code)
				v.want(t, test.left, test.code, test.outcome)
				<-stopped
			})
		})
	}
}
