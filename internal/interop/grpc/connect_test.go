package grpc_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// connected returns the Connect client of a method. It uses gRPC with n and sends the
// headers of package httpmw.
func connected[Req, Res any](t *testing.T, n network, method string) *connect.Client[Req, Res] {
	base := &http.Transport{Protocols: new(http.Protocols)}
	base.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(base.CloseIdleConnections)
	return connect.NewClient[Req, Res](&http.Client{Transport: &httpmw.Transport{Base: base, Policy: resilience.Compose()}}, "http://"+n.target+method, connect.WithGRPC())
}

// The header Retry-Attempt of a Connect client reaches the gRPC server.
func TestConnectClient_retryMark(t *testing.T) {
	var attempts []int
	n, i := plain(t), newIn(1)
	n.serve(t, answering(func(ctx context.Context) error {
		attempts = append(attempts, resilience.Attempt(ctx))
		return status.Error(codes.Unavailable, "busy")
	}).register, i.options()...)
	unary := connected[pb.SimpleRequest, pb.SimpleResponse](t, n, pb.TestService_UnaryCall_FullMethodName)
	stream := connected[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse](t, n, pb.TestService_StreamingOutputCall_FullMethodName)
	for kind, call := range map[string]resilience.Func{
		"unary": func(ctx context.Context) error {
			_, err := unary.CallUnary(ctx, connect.NewRequest(&pb.SimpleRequest{}))
			return err
		},
		"stream": func(ctx context.Context) error {
			s, err := stream.CallServerStream(ctx, connect.NewRequest(&pb.StreamingOutputCallRequest{}))
			if err != nil {
				return err
			}
			for s.Receive() {
			}
			return errors.Join(s.Err(), s.Close())
		},
	} {
		attempts = nil
		// A retry knows no reason in an error of Connect, so it retries.
		err := resilience.Run(limit(t), newOut().Policy, call)
		if connect.CodeOf(err) != connect.CodeUnavailable || len(attempts) != 3 || attempts[0] != 1 || attempts[2] != 3 {
			t.Errorf("%s: attempts %v and %v", kind, attempts, err)
		}
		free(t, i.slots)
	}
}

// A Connect client gets the pushback of a rejection by a gRPC server.
func TestConnectClient_retryAfter(t *testing.T) {
	n, i := plain(t), newIn(1)
	n.serve(t, answering(func(context.Context) error { return nil }).register, i.options()...)
	permit, err := i.slots.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer permit.Release(nil)
	unary := connected[pb.SimpleRequest, pb.SimpleResponse](t, n, pb.TestService_UnaryCall_FullMethodName)
	_, err = unary.CallUnary(limit(t), connect.NewRequest(&pb.SimpleRequest{}))
	e, ok := errors.AsType[*connect.Error](err)
	if !ok || e.Code() != connect.CodeResourceExhausted {
		t.Fatalf("error %v", err)
	}
	if got := e.Meta().Values("Grpc-Retry-Pushback-Ms"); len(got) != 1 || got[0] != "1000" {
		t.Errorf("pushback %q", got)
	}
	if len(e.Details()) != 1 {
		t.Fatalf("%d details", len(e.Details()))
	}
	info, err := e.Details()[0].Value()
	if r, ok := info.(*errdetails.RetryInfo); !ok || r.GetRetryDelay().AsDuration() != time.Second {
		t.Errorf("detail %v and %v", info, err)
	}
}

// answered starts a Connect server behind httpmw, whose two methods both return the
// error of f. It returns a connection to the server.
func answered(t *testing.T, p resilience.Policy, o out, f func(context.Context) error) *grpc.ClientConn {
	mux := http.NewServeMux()
	mux.Handle(pb.TestService_UnaryCall_FullMethodName, connect.NewUnaryHandlerSimple(pb.TestService_UnaryCall_FullMethodName,
		func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
			return &pb.SimpleResponse{}, f(ctx)
		}))
	mux.Handle(pb.TestService_StreamingOutputCall_FullMethodName, connect.NewServerStreamHandler(pb.TestService_StreamingOutputCall_FullMethodName,
		func(ctx context.Context, _ *connect.Request[pb.StreamingOutputCallRequest], s *connect.ServerStream[pb.StreamingOutputCallResponse]) error {
			return errors.Join(s.Send(&pb.StreamingOutputCallResponse{}), f(ctx))
		}))
	s := httptest.NewUnstartedServer(httpmw.Server{Policy: p}.Wrap(mux))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	n := network{client: []grpc.DialOption{insecurely}, target: strings.TrimPrefix(s.URL, "http://")}
	return n.dial(t, o.options()...)
}

// The retry mark of a gRPC client reaches a Connect server.
func TestClient_retryMarkToConnect(t *testing.T) {
	var attempts []int
	o := newOut()
	conn := answered(t, resilience.Compose(), o, func(ctx context.Context) error {
		attempts = append(attempts, resilience.Attempt(ctx))
		return connect.NewError(connect.CodeUnavailable, errors.New("busy"))
	})
	wantCode(t, unary(limit(t), conn), codes.Unavailable)
	if len(attempts) != 3 || attempts[0] != 1 || attempts[2] != 3 {
		t.Errorf("attempts %v", attempts)
	}
	attempts = nil
	wantCode(t, stream(resilience.WithAttempt(limit(t), 7), conn), codes.Unavailable)
	if len(attempts) != 1 || attempts[0] != 7 {
		t.Errorf("attempts %v of a stream", attempts)
	}
	free(t, o.slots)
	wantJudged(t, o.breaker, outcomes{1, 3, 0}) // the stream has sent a message
}

// A client obeys the pushback of a Connect server.
func TestClient_pushbackFromConnect(t *testing.T) {
	const wait = 60 * time.Millisecond
	for name, test := range map[string]struct {
		pushback string
		info     *errdetails.RetryInfo
		runs     int32
		wait     time.Duration
	}{
		"a time":              {pushback: "60", runs: 2, wait: wait},
		"never":               {pushback: "-1", runs: 1},
		"nothing that is one": {pushback: "soon", runs: 1},
		"a detail":            {info: &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)}, runs: 2, wait: wait},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var runs atomic.Int32
			o := newOut()
			conn := answered(t, resilience.Compose(), o, func(context.Context) error {
				if runs.Add(1) > 1 {
					return nil
				}
				err := connect.NewError(connect.CodeUnavailable, errors.New("busy"))
				if test.pushback != "" {
					err.Meta().Set("Grpc-Retry-Pushback-Ms", test.pushback)
				}
				if test.info != nil {
					detail, e := connect.NewErrorDetail(test.info)
					if e != nil {
						return e
					}
					err.AddDetail(detail)
				}
				return err
			})
			start := time.Now()
			err := unary(limit(t), conn)
			if took := time.Since(start); runs.Load() != test.runs || took < test.wait {
				t.Errorf("%d runs in %v, want %d in no less than %v: %v", runs.Load(), took, test.runs, test.wait, err)
			}
			if test.runs == 2 && err != nil {
				t.Error(err)
			}
			free(t, o.slots)
		})
	}
}

// A rejection by an HTTP server is UNAVAILABLE. The server answers in HTTP whatever the
// protocol, and gRPC maps 503 to UNAVAILABLE and ignores Retry-After.
func TestClient_rejectedByHTTPServer(t *testing.T) {
	var refused atomic.Int32
	refuse := testkit.Policy(func(context.Context, resilience.Next) error {
		refused.Add(1)
		return &resilience.Rejection{Policy: "test", Reason: bulkhead.Full}
	})
	o := newOut()
	conn := answered(t, refuse, o, func(context.Context) error { t.Error("handled"); return nil })
	for kind, want := range map[string]int32{"unary": 3, "stream": 1} {
		refused.Store(0)
		wantCode(t, calls[kind](limit(t), conn), codes.Unavailable)
		if n := refused.Load(); n != want {
			t.Errorf("%s: refused %d times, want %d", kind, n, want)
		}
	}
	free(t, o.slots)
}
