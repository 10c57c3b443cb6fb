package grpcmw_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/grpcmw"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

// answerSlots is a policy that does what a limit does, without one: a call has a slot
// until it answers.
type answerSlots struct {
	taken atomic.Int32
	heard chan error
}

func newAnswerSlots() *answerSlots { return &answerSlots{heard: make(chan error, 100)} }

const placeToken = 8

func (p *answerSlots) Apply(ctx context.Context, next resilience.Next) (err error) {
	p.taken.Add(1)
	if next.Await(p, placeToken) {
		return next.Run(ctx)
	}
	err = resilience.ErrAborted
	defer func() { next.Settle(resilience.Answered, err, p, placeToken) }()
	err = next.Run(ctx)
	return err
}

func (p *answerSlots) Settle(token uint64, err error) {
	if token != placeToken {
		err = errors.New("another token")
	}
	p.taken.Add(-1)
	p.heard <- err
}

// one wants all slots free, and returns what the only call that has had one came to.
func (p *answerSlots) one(t testing.TB) error {
	t.Helper()
	if n := p.taken.Load(); n != 0 {
		t.Errorf("%d slots taken", n)
	}
	if n := len(p.heard); n != 1 {
		t.Fatalf("heard of %d answers", n)
	}
	return <-p.heard
}

// wait waits for what a call that has had a slot came to.
func (p *answerSlots) wait(t testing.TB) error {
	t.Helper()
	select {
	case err := <-p.heard:
		return err
	case <-patience(t).Done():
		t.Fatal("heard of no answer")
		return nil
	}
}

// want wants the number of slots that are taken.
func (p *answerSlots) want(t testing.TB, when string, n int32) {
	t.Helper()
	if got := p.taken.Load(); got != n {
		t.Errorf("%s: %d slots taken, want %d", when, got, n)
	}
}

// kind is a kind of method: how a client calls it, and a handler that wants to find
// its slot taken until it answers, and free from then on.
type kind struct {
	call   func(t testing.TB, r *rig)
	handle func(t testing.TB, p *answerSlots, s *service)
}

var kinds = map[string]kind{
	"unary": {
		func(t testing.TB, r *rig) {
			_, err := r.UnaryCall(patience(t), &pb.SimpleRequest{})
			wantCode(t, err, codes.OK)
		},
		func(t testing.TB, p *answerSlots, s *service) {
			s.unary = func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error) {
				p.want(t, "in the handler", 1)
				return &pb.SimpleResponse{}, nil
			}
		},
	},
	"from the server": {
		func(t testing.TB, r *rig) {
			st, err := r.StreamingOutputCall(patience(t), &request{})
			if err != nil {
				t.Fatal(err)
			}
			recv(t, st, 2)
			_, err = st.Recv()
			wantEOF(t, err)
		},
		func(t testing.TB, p *answerSlots, s *service) {
			s.output = func(_ *request, st grpc.ServerStreamingServer[response]) error {
				if err := st.SendHeader(metadata.Pairs("no", "answer")); err != nil {
					return err
				}
				return answers2(t, p, st.Send)
			}
		},
	},
	"from the client": {
		func(t testing.TB, r *rig) {
			st, err := r.StreamingInputCall(patience(t))
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := st.Send(&pb.StreamingInputCallRequest{}); err != nil {
					t.Error(err)
				}
			}
			_, err = st.CloseAndRecv()
			wantCode(t, err, codes.OK)
		},
		func(t testing.TB, p *answerSlots, s *service) {
			s.input = func(st grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
				for _, err := st.Recv(); err != io.EOF; _, err = st.Recv() {
					if p.want(t, "while it reads", 1); err != nil {
						return err
					}
				}
				err := st.SendAndClose(&pb.StreamingInputCallResponse{})
				p.want(t, "when it has answered", 0)
				return err
			}
		},
	},
	"both ways": {
		func(t testing.TB, r *rig) {
			st := r.open(t, patience(t))
			for range 2 {
				if err := st.Send(&request{}); err != nil {
					t.Error(err)
				}
			}
			recv(t, st, 2)
			if err := st.CloseSend(); err != nil {
				t.Error(err)
			}
			_, err := st.Recv()
			wantEOF(t, err)
		},
		func(t testing.TB, p *answerSlots, s *service) {
			s.duplex = func(st duplex) error {
				for range 2 {
					if _, err := st.Recv(); err != nil {
						return err
					}
					p.want(t, "while it reads", 1)
				}
				if err := answers2(t, p, st.Send); err != nil {
					return err
				}
				_, err := st.Recv()
				wantEOF(t, err)
				return nil
			}
		},
	},
}

func wantEOF(t testing.TB, err error) {
	t.Helper()
	if err != io.EOF {
		t.Errorf("got %v, want EOF", err)
	}
}

// answers2 sends two messages.
func answers2(t testing.TB, p *answerSlots, send func(*response) error) error {
	p.want(t, "before a message", 1)
	for range 2 {
		if err := send(&response{}); err != nil {
			return err
		}
		p.want(t, "when it has answered", 0)
	}
	return nil
}

// onServer runs a handler of a kind without a network. The stream of one that has
// none is nil.
var onServer = map[string]func(ctx context.Context, p resilience.Policy, send func() error, handler func(context.Context, grpc.ServerStream) error) error{
	"unary": func(ctx context.Context, p resilience.Policy, _ func() error, handler func(context.Context, grpc.ServerStream) error) error {
		_, err := grpcmw.Server{Policy: p}.Unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/s/m"},
			func(ctx context.Context, _ any) (any, error) { return nil, handler(ctx, nil) })
		return err
	},
	"stream": func(ctx context.Context, p resilience.Policy, send func() error, handler func(context.Context, grpc.ServerStream) error) error {
		return grpcmw.Server{Policy: p}.Stream(nil, &sendingStream{goneStream{ctx: ctx}, send}, &grpc.StreamServerInfo{FullMethod: "/s/m"},
			func(_ any, ss grpc.ServerStream) error { return handler(ss.Context(), ss) })
	},
}

// sendingStream is a stream on a server without a network.
type sendingStream struct {
	goneStream
	send func() error
}

func (s *sendingStream) SendMsg(any) error {
	if s.send == nil {
		return nil
	}
	return s.send()
}

func (s *sendingStream) SetTrailer(metadata.MD) {}
