package grpcmw_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// NOT_FOUND is an answer: it earns retry budget, and a retry that ends in it is refunded.
func TestClient_notFoundIsAnswer(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		r := resilience.Must(retry.New(retry.Config{BaseDelay: retry.NoDelay}))
		n := 0
		c := serve(t, &service{unary: func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error) {
			if n++; n%3 == 1 {
				return nil, status.Error(codes.Unavailable, "for a moment")
			}
			return nil, status.Error(codes.NotFound, "no such user")
		}}, nil, unary(grpcmw.Client{Policy: r}))
		for range 60 { // every second call needs a retry
			_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
			wantStatus(t, err, codes.NotFound)
		}
		if s := r.Stats(); s.FirstTry != 30 || s.Recovered != 30 || s.Refunded != s.Spent || s.Earned != 30 {
			t.Errorf("%+v", s)
		}
	})
}

// A server that sheds load with RESOURCE_EXHAUSTED earns no retry budget by that.
func TestClient_sheddingEarnsNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		r := resilience.Must(retry.New(retry.Config{BaseDelay: retry.NoDelay}))
		attempts := 0
		c := serve(t, &service{unary: func(_ context.Context, req *pb.SimpleRequest) (*pb.SimpleResponse, error) {
			if req.GetResponseSize() == 1 {
				attempts++
				return nil, status.Error(codes.Unavailable, "overloaded")
			}
			return nil, status.Error(codes.ResourceExhausted, "shed")
		}}, nil, unary(grpcmw.Client{Policy: r}))
		for i := range int32(500) {
			size := int32(0)
			if i%10 == 0 {
				size = 1
			}
			_, _ = c.UnaryCall(patience(t), &pb.SimpleRequest{ResponseSize: size})
		}
		if s := r.Stats(); attempts > 60 || s.Earned != 0 {
			t.Errorf("%d attempts for 50 calls, %d earned", attempts, s.Earned)
		}
	})
}

// An answer earns retry budget, unless the server asks for fewer calls by its code, its
// pushback or the time to come back.
func TestClient_busyAnswerEarnsNothing(t *testing.T) {
	later, err := status.New(codes.FailedPrecondition, "later").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		trailer metadata.MD
		err     error
		earned  int64
	}{
		"an answer":          {nil, status.Error(codes.FailedPrecondition, "no"), 1},
		"RESOURCE_EXHAUSTED": {nil, status.Error(codes.ResourceExhausted, "no"), 0},
		"RetryInfo":          {nil, later.Err(), 0},
		"a pushback":         {metadata.Pairs("grpc-retry-pushback-ms", "1000"), status.Error(codes.NotFound, "no"), 0},
		"no more":            {metadata.Pairs("grpc-retry-pushback-ms", "-1"), status.Error(codes.NotFound, "no"), 0},
	} {
		r := resilience.Must(retry.New(retry.Config{}))
		err := grpcmw.Client{Policy: r}.Unary(t.Context(), "/s/m", nil, nil, nil, invoke(test.trailer, test.err))
		wantCode(t, err, status.Code(test.err))
		if s := r.Stats(); s.Earned != test.earned || s.Retries != 0 {
			t.Errorf("%s: %+v", name, s.Counters)
		}
	}
}

// A caller that is slow to send its messages is no evidence against the server, which answers
// after the last one. A server that does not answer then has failed.
func TestClient_slowSenderIsIgnored(t *testing.T) {
	for name, test := range map[string]struct {
		closes bool
		want   resilience.Outcome
	}{"slow": {false, resilience.Ignored}, "has sent all": {true, resilience.Failure}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limit := resilience.Must(timeout.New(timeout.Config{Timeout: second, Until: resilience.Answered}))
				b := newBreaker()
				r := memory.serve(t, &service{input: func(s grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
					<-s.Context().Done()
					return s.Context().Err()
				}}, nil, guarded(resilience.Compose(b, limit)))
				st, err := r.StreamingInputCall(patience(t))
				if err != nil {
					t.Fatal(err)
				}
				if test.closes {
					if err := st.CloseSend(); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(2 * second) // the caller's own work
				_, err = st.CloseAndRecv()
				wantCounted(t, err, b, test.want)
			})
		})
	}
}

// A handler that joins a failure with the rejection of a call of its own has failed.
func TestServer_joinedFailure(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		b := newBreaker()
		c := serve(t, &service{unary: func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error) {
			return nil, errors.Join(errors.New("the database is down"), bulkhead.ErrFull)
		}}, unaryServer(grpcmw.Server{Policy: b}))
		_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantCode(t, err, codes.Unknown)
		wantCounted(t, err, b, resilience.Failure)
	})
}

// If a call of an errgroup times out, the calls and streams that the group cancels are
// canceled by their caller, whatever the cause.
func TestClient_canceledByGroup(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		short := resilience.Must(timeout.New(timeout.Config{Timeout: 50 * time.Millisecond, Until: resilience.Answered}))
		long := resilience.Must(timeout.New(timeout.Config{Timeout: time.Hour, Until: resilience.Answered}))
		b := resilience.Must(breaker.New(breaker.Config{}))
		s := hanging(nil)
		s.duplex = hang(0)
		failing := serve(t, s, nil, unary(grpcmw.Client{Policy: short}))
		healthy := serve(t, s, nil, unary(grpcmw.Client{Policy: resilience.Compose(b, long)}), guarded(resilience.Compose(b, long)))
		group, ctx := errgroup.WithContext(patience(t))
		group.Go(func() error {
			_, err := failing.UnaryCall(ctx, &pb.SimpleRequest{})
			return err
		})
		var ofCall, ofStream error
		group.Go(func() error {
			_, ofCall = healthy.UnaryCall(ctx, &pb.SimpleRequest{})
			return ofCall
		})
		group.Go(func() error {
			st, err := healthy.FullDuplexCall(ctx)
			if err == nil {
				_, err = st.Recv()
			}
			ofStream = err
			return err
		})
		if err := group.Wait(); !errors.Is(err, timeout.ErrExceeded) {
			t.Fatal(err)
		}
		wantStatus(t, ofCall, codes.Canceled)
		wantStatus(t, ofStream, codes.Canceled)
		if s := b.Stats(); s.Failures != 0 || s.Ignored != 2 {
			t.Errorf("%+v", s.Counters)
		}
	})
}
