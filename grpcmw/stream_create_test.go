package grpcmw_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

var (
	duplexDesc = &grpc.StreamDesc{StreamName: "FullDuplexCall", ClientStreams: true, ServerStreams: true}
	errDown    = status.Error(codes.Unavailable, "down")
)

// openFake opens a stream by the streamer, without a connection.
func openFake(p resilience.Policy, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return grpcmw.Client{Policy: p}.Stream(context.Background(), duplexDesc, nil, "/s/m", streamer, opts...)
}

// A stream that cannot be made is counted once.
func TestClient_failedStreamCountsOnce(t *testing.T) {
	for name, streamer := range map[string]grpc.Streamer{
		"OnFinish is not called": func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
			return nil, errDown
		},
		"OnFinish is called": func(_ context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			finished(opts, errDown)
			return nil, errDown
		},
		"OnFinish is called twice": func(_ context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			finished(opts, errDown)
			finished(opts, errDown)
			return nil, errDown
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, settled := newGuards(), 0
			outer := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
				err := next.Run(ctx)
				if n := g.bulkhead.Stats().InFlight; n != 0 {
					t.Error("the slot is still taken when policies decide what to do")
				}
				return err
			})
			quiet := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
				err := next.Run(ctx)
				next.Settle(resilience.Ended, nil, settlerFunc(func() { settled++ }), 0) // not by the error it got
				if settled != 1 {
					t.Error("a stream that there is not goes on")
				}
				return err
			})
			if _, err := openFake(resilience.Compose(outer, g.around(quiet)), streamer); err != errDown {
				t.Errorf("got %v, want gRPC's, unchanged", err)
			}
			g.end(t, codes.Unavailable, codes.Unavailable, resilience.Failure)
		})
	}
}

// A stream that gRPC itself cannot make is counted once.
func TestClient_failedGRPCStreamCountsOnce(t *testing.T) {
	g := newGuards()
	r := sockets.serve(t, &service{}, nil, guarded(g.around()), grpc.WithPerRPCCredentials(failingCreds{errDown}))
	_, err := r.FullDuplexCall(patience(t))
	wantCode(t, err, codes.Unavailable)
	g.end(t, codes.Unavailable, codes.Unavailable, resilience.Failure)
}

// A rejected stream is not made.
func TestClient_rejectedStreamIsNotMade(t *testing.T) {
	for reason, code := range map[string]codes.Code{resilience.Open: codes.Unavailable, bulkhead.Full: codes.ResourceExhausted} {
		_, err := openFake(reject(reason, time.Time{}), func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
			t.Error("made")
			return nil, nil
		})
		if wantCode(t, err, code); !errors.Is(err, resilience.ErrRejected) {
			t.Errorf("%v: %v", reason, err)
		}
	}
}

// The caller's options of a stream are unchanged.
func TestClient_streamKeepsOptions(t *testing.T) {
	opts := make([]grpc.CallOption, 2, 10)
	opts[0], opts[1] = grpc.WaitForReady(true), grpc.StaticMethod()
	whole := opts[:cap(opts)]
	var seen []grpc.CallOption
	if _, err := openFake(resilience.Compose(), func(_ context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		seen = append(opts, grpc.UseCompressor("gzip")) // as interceptors do
		return &fakeStream{}, nil
	}, opts...); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 4 || seen[1] != whole[0] || seen[2] != whole[1] {
		t.Errorf("gRPC was given %v", seen)
	}
	for i, o := range whole[2:] {
		if o != nil {
			t.Errorf("option %d is %v", i+2, o)
		}
	}
}

// strict are streams that must not be asked for their Context before they have
// headers, which would end the retries of gRPC.
type strict struct {
	grpc.ClientStream
	t       *testing.T
	headers bool
}

func (s *strict) Context() context.Context {
	if !s.headers {
		s.t.Error("Context before headers")
	}
	return s.ClientStream.Context()
}

func (s *strict) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	s.headers = true
	return err
}

// The context of a stream is not used before its headers.
func TestClient_streamContextAfterHeaders(t *testing.T) {
	inner := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		cs, err := streamer(ctx, desc, cc, method, opts...)
		return &strict{ClientStream: cs, t: t}, err
	}
	g := newGuards()
	r := memory.serve(t, &service{duplex: answer(1, nil)}, nil, guarded(g.around()), grpc.WithChainStreamInterceptor(inner))
	st := r.open(t, patience(t))
	if err := st.Send(&request{}); err != nil && err != io.EOF {
		t.Error(err)
	}
	recv(t, st, 1)
	if _, err := st.Recv(); err != io.EOF {
		t.Error(err)
	}
	if st.Context() == nil { // now its user may
		t.Error("no context")
	}
	// Neither does a policy that gives up the stream.
	g = newGuards()
	r = memory.serve(t, &service{duplex: hang(0)}, nil, guarded(resilience.Compose(failsAfterSuccess, g.around())), grpc.WithChainStreamInterceptor(inner))
	if _, err := r.FullDuplexCall(patience(t)); err == nil {
		t.Error("no error")
	}
}

// An interceptor further in that drops OnFinish breaks its contract. The errors of the
// stream are then enough, unless the stream is never read.
func TestClient_streamWithoutOnFinish(t *testing.T) {
	tooLarge := status.Error(codes.ResourceExhausted, "trying to send message larger than max (2 vs. 1)")
	for name, c := range map[string]struct {
		stream          fakeStream
		use             func(grpc.ClientStream)
		answered, ended codes.Code
		judged          resilience.Outcome
	}{
		"received io.EOF": {
			fakeStream{recv: func() error { return io.EOF }}, func(s grpc.ClientStream) { s.RecvMsg(nil) },
			codes.OK, codes.OK, resilience.Success,
		},
		"received its only message": {
			fakeStream{single: true, recv: func() error { return nil }}, func(s grpc.ClientStream) { s.RecvMsg(nil) },
			codes.OK, codes.OK, resilience.Success,
		},
		"received an error": {
			fakeStream{recv: func() error { return errDown }}, func(s grpc.ClientStream) { s.RecvMsg(nil); s.RecvMsg(nil) },
			codes.Unavailable, codes.Unavailable, resilience.Failure,
		},
		"an error of sending": {
			fakeStream{send: func() error { return tooLarge }}, func(s grpc.ClientStream) { s.SendMsg(nil) },
			codes.ResourceExhausted, codes.ResourceExhausted, resilience.Ignored,
		},
		"an error of the header": {
			fakeStream{header: func() error { return errDown }}, func(s grpc.ClientStream) { s.Header() },
			codes.Unavailable, codes.Unavailable, resilience.Failure,
		},
		"io.EOF of sending is not the error": {
			fakeStream{send: func() error { return io.EOF }, recv: func() error { return errDown }},
			func(s grpc.ClientStream) {
				if err := s.SendMsg(nil); err != io.EOF {
					t.Error(err)
				}
				s.RecvMsg(nil)
			},
			codes.Unavailable, codes.Unavailable, resilience.Failure,
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuards()
			desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: !c.stream.single}
			cs, err := grpcmw.Client{Policy: g.around()}.Stream(patience(t), desc, nil, "/s/m", func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
				return &c.stream, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			g.pending(t)
			c.use(cs)
			g.end(t, c.answered, c.ended, c.judged)
		})
	}
}

// A stream has the number of its attempt in the metadata.
func TestClient_streamSendsRetryAttempt(t *testing.T) {
	got := make(chan []string, 1)
	r := memory.serve(t, &service{duplex: func(st duplex) error {
		md, _ := metadata.FromIncomingContext(st.Context())
		got <- append(md.Get("retry-attempt"), md.Get("other")...)
		return nil
	}}, nil, guarded(resilience.Compose()))
	for n, want := range map[int]string{1: "[kept]", 2: "[2 kept]", 7: "[7 kept]"} {
		ctx := metadata.AppendToOutgoingContext(patience(t), "other", "kept")
		r.open(t, resilience.WithAttempt(ctx, n)).Recv()
		if s := fmt.Sprint(<-got); s != want {
			t.Errorf("attempt %d sends %s, want %s", n, s, want)
		}
	}
}

// Retryable is not called for streams.
func TestClient_streamSkipsRetryable(t *testing.T) {
	c := grpcmw.Client{Policy: resilience.Compose(), Retryable: func(string, error) bool { t.Error("it was asked"); return true }}
	_, err := c.Stream(t.Context(), duplexDesc, nil, "/s/m",
		func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
			return nil, status.Error(codes.Unavailable, "down")
		})
	wantCode(t, err, codes.Unavailable)
}
