package grpcmw_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/timeout"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
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
