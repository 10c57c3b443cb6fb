package grpcmw_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestBasics(t *testing.T) {
	n := 0
	var marks []string
	s := &service{unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		marks = append(marks, md.Get("retry-attempt")...)
		if n++; n < 3 {
			return nil, status.Error(codes.Unavailable, "busy")
		}
		return &pb.SimpleResponse{Username: "u"}, nil
	}}
	cl := grpcmw.Client{Policy: resilience.Compose(resilience.Must(retry.New(retry.Config{BaseDelay: time.Millisecond})), resilience.Must(breaker.New(breaker.Config{})))}
	c := serve(t, s, nil, grpc.WithChainUnaryInterceptor(cl.Unary), grpc.WithChainStreamInterceptor(cl.Stream))
	r, err := c.UnaryCall(limit(t), &pb.SimpleRequest{})
	t.Log(r, err, marks)
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.StreamingOutputCall(limit(t), &pb.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = st.Recv()
	t.Log(err)
	_, err = st.Recv()
	if err != io.EOF {
		t.Fatal(err)
	}
}

func TestBasicsStreamSlots(t *testing.T) {
	sl := newSlots(resilience.Ended)
	an := newSlots(resilience.Answered)
	cl := grpcmw.Client{Policy: resilience.Compose(sl, an)}
	c := serve(t, &service{duplex: func(st grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
		for {
			_, err := st.Recv()
			if err != nil {
				return err
			}
			if err := st.Send(&pb.StreamingOutputCallResponse{}); err != nil {
				return err
			}
		}
	}}, nil, grpc.WithChainUnaryInterceptor(cl.Unary), grpc.WithChainStreamInterceptor(cl.Stream))
	ctx, cancel := context.WithCancel(limit(t))
	st, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Send(&pb.StreamingOutputCallRequest{}); err != nil {
		t.Fatal(err)
	}
	if sl.held.Load() != 1 || an.held.Load() != 1 {
		t.Error("not held")
	}
	if _, err := st.Recv(); err != nil {
		t.Fatal(err)
	}
	if sl.held.Load() != 1 || an.held.Load() != 0 {
		t.Error("not held")
	}
	cancel()
	t.Log(<-sl.settled)
	_, err = st.Recv()
	t.Log(err)
}

func TestBasicsServer(t *testing.T) {
	sv := grpcmw.Server{Policy: refuse(resilience.Full, time.Time{})}
	c := serve(t, &service{}, []grpc.ServerOption{grpc.ChainUnaryInterceptor(sv.Unary), grpc.ChainStreamInterceptor(sv.Stream)})
	var trailer metadata.MD
	_, err := c.UnaryCall(limit(t), &pb.SimpleRequest{}, grpc.Trailer(&trailer))
	t.Log(err, trailer, status.Convert(err).Details())
	st, err := c.StreamingOutputCall(limit(t), &pb.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = st.Recv()
	t.Log(err, st.Trailer(), status.Convert(err).Details())
}

func TestBasicsAbandon(t *testing.T) {
	boom := errors.New("boom")
	sl := newSlots(resilience.Ended)
	cl := grpcmw.Client{Policy: resilience.Compose(testPolicy(func(ctx context.Context, next resilience.Next) error {
		_ = next.Run(ctx)
		return boom
	}), sl)}
	ended := make(chan struct{})
	c := serve(t, &service{duplex: func(st grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
		<-st.Context().Done()
		close(ended)
		return nil
	}}, nil, grpc.WithChainUnaryInterceptor(cl.Unary), grpc.WithChainStreamInterceptor(cl.Stream))
	_, err := c.FullDuplexCall(limit(t))
	t.Log(err, status.Code(err))
	t.Log(<-sl.settled)
	<-ended
}

type testPolicy func(ctx context.Context, next resilience.Next) error

func (p testPolicy) Apply(ctx context.Context, next resilience.Next) error { return p(ctx, next) }
