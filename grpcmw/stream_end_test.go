package grpcmw_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// scene is what a test of one stream has at hand.
type scene struct {
	*rig
	*guards
	cancel context.CancelFunc // of the caller
	st     call
}

// endings are the ways in which a stream of both directions ends. Each play goes to
// the end of it.
var endings = map[string]struct {
	handler         func(duplex) error
	play            func(t *testing.T, s *scene)
	answered, ended codes.Code
	judged          resilience.Outcome
}{
	"no message, success": {
		handler: answer(0, nil),
		play:    func(t *testing.T, s *scene) { s.wantEnd(t, io.EOF) },
	},
	"three messages, success": {
		handler: answer(3, nil),
		play: func(t *testing.T, s *scene) {
			s.pending(t)
			recv(t, s.st, 1)
			s.answeredOnly(t)
			recv(t, s.st, 2)
			s.answeredOnly(t)
			s.wantEnd(t, io.EOF)
		},
	},
	"failure before the first message": {
		handler: answer(0, errDown),
		play:    func(t *testing.T, s *scene) { s.wantEnd(t, errDown) },
		judged:  resilience.Failure, answered: codes.Unavailable, ended: codes.Unavailable,
	},
	"failure after three messages": {
		handler: answer(3, status.Error(codes.Internal, "broken")),
		play: func(t *testing.T, s *scene) {
			recv(t, s.st, 3)
			s.answeredOnly(t)
			s.wantEnd(t, status.Error(codes.Internal, "broken"))
		},
		ended: codes.Internal,
	},
	"not found": {
		handler:  answer(0, status.Error(codes.NotFound, "nothing")),
		play:     func(t *testing.T, s *scene) { s.wantEnd(t, status.Error(codes.NotFound, "nothing")) },
		answered: codes.NotFound, ended: codes.NotFound,
	},
	"canceled before the first message": {
		handler: hang(0),
		play: func(t *testing.T, s *scene) {
			s.pending(t)
			s.cancel()
			s.wantCode(t, codes.Canceled)
		},
		judged: resilience.Ignored, answered: codes.Canceled, ended: codes.Canceled,
	},
	"canceled after the first message": {
		handler: hang(1),
		play: func(t *testing.T, s *scene) {
			recv(t, s.st, 1)
			s.cancel()
			s.wantCode(t, codes.Canceled)
		},
		ended: codes.Canceled,
	},
	"never read, canceled": {
		handler: hang(5),
		play:    func(t *testing.T, s *scene) { s.pending(t); s.cancel() },
		judged:  resilience.Ignored, answered: codes.Canceled, ended: codes.Canceled,
	},
	"sent to, never read, canceled": {
		handler: func(st duplex) error {
			for {
				if _, err := st.Recv(); err != nil {
					return err
				}
			}
		},
		play: func(t *testing.T, s *scene) {
			for range 3 {
				if err := s.st.Send(&request{}); err != nil {
					t.Error(err)
				}
			}
			s.pending(t)
			s.cancel()
		},
		judged: resilience.Ignored, answered: codes.Canceled, ended: codes.Canceled,
	},
	"connection lost before the first message": {
		handler: hang(0),
		play:    func(t *testing.T, s *scene) { s.drop(); s.wantCode(t, codes.Unavailable) },
		judged:  resilience.Failure, answered: codes.Unavailable, ended: codes.Unavailable,
	},
	"connection lost after the first message": {
		handler: hang(1),
		play:    func(t *testing.T, s *scene) { recv(t, s.st, 1); s.drop(); s.wantCode(t, codes.Unavailable) },
		ended:   codes.Unavailable,
	},
	"server stopped": {
		handler: hang(1),
		play:    func(t *testing.T, s *scene) { recv(t, s.st, 1); s.srv.Stop(); s.wantCode(t, codes.Unavailable) },
		ended:   codes.Unavailable,
	},
	"connection closed by its user, never read": {
		handler: hang(1),
		play:    func(t *testing.T, s *scene) { s.conn.Close() },
		judged:  resilience.Ignored, answered: codes.Canceled, ended: codes.Canceled,
	},
	"connection closed by its user": {
		handler: hang(1),
		play:    func(t *testing.T, s *scene) { recv(t, s.st, 1); s.conn.Close(); s.wantCode(t, codes.Canceled) },
		ended:   codes.Canceled,
	},
	"message too large to send": {
		handler: hang(0),
		play: func(t *testing.T, s *scene) {
			err := s.st.Send(&request{Payload: &pb.Payload{Body: make([]byte, 5000)}})
			wantCode(t, err, codes.ResourceExhausted)
		},
		judged: resilience.Ignored, answered: codes.ResourceExhausted, ended: codes.ResourceExhausted,
	},
}

// wantEnd wants the stream to end so for its user, and that again and again.
func (s *scene) wantEnd(t *testing.T, want error) {
	t.Helper()
	for range 2 {
		_, err := s.st.Recv()
		if err != want && (want == io.EOF || !errors.Is(err, want)) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

func (s *scene) wantCode(t *testing.T, want codes.Code) {
	t.Helper()
	_, err := s.st.Recv()
	wantCode(t, err, want)
}

// A stream is judged at its first message or its end.
func TestClient_streamOutcome(t *testing.T) {
	for name, n := range networks {
		t.Run(name, func(t *testing.T) {
			for name, c := range endings {
				t.Run(name, func(t *testing.T) {
					g := newGuards()
					come, gone := make(chan struct{}), make(chan struct{})
					r := n.serve(t, &service{duplex: func(st duplex) error {
						close(come)
						defer close(gone)
						return c.handler(st)
					}}, nil, guarded(g.around()), grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(4000)))
					ctx, cancel := context.WithCancel(patience(t))
					defer cancel()
					s := &scene{r, g, cancel, r.open(t, ctx)}
					wait(t, come)
					c.play(t, s)
					g.end(t, c.answered, c.ended, c.judged)
					wait(t, gone)
				})
			}
		})
	}
}

// Client streams and bidirectional streams are judged in the same way.
func TestClient_streamKindsOutcome(t *testing.T) {
	output := func(n int, err error) *service {
		return &service{output: func(_ *request, st grpc.ServerStreamingServer[response]) error {
			for range n {
				if err := st.Send(&response{}); err != nil {
					return err
				}
			}
			return err
		}}
	}
	input := func(err error) *service {
		return &service{input: func(st grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
			for {
				if _, err := st.Recv(); err == io.EOF {
					break
				}
			}
			if err != nil {
				return err
			}
			return st.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: 7})
		}}
	}
	read := func(n int, want error) func(*testing.T, *rig, *guards) {
		return func(t *testing.T, r *rig, g *guards) {
			st, err := r.StreamingOutputCall(patience(t), &request{})
			if err != nil {
				t.Fatal(err)
			}
			g.pending(t)
			for range n {
				recv(t, st, 1)
				g.answeredOnly(t)
			}
			if _, err := st.Recv(); err != want && !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
	}
	write := func(want error) func(*testing.T, *rig, *guards) {
		return func(t *testing.T, r *rig, g *guards) {
			st, err := r.StreamingInputCall(patience(t))
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := st.Send(&pb.StreamingInputCallRequest{}); err != nil {
					t.Error(err)
				}
			}
			g.pending(t)
			m, err := st.CloseAndRecv()
			if !errors.Is(err, want) || want == nil && m.GetAggregatedPayloadSize() != 7 {
				t.Errorf("got %v, %v", m, err)
			}
		}
	}
	for name, c := range map[string]struct {
		s               *service
		play            func(*testing.T, *rig, *guards)
		answered, ended codes.Code
		judged          resilience.Outcome
	}{
		"server, success":            {output(2, nil), read(2, io.EOF), codes.OK, codes.OK, resilience.Success},
		"server, failure at once":    {output(0, errDown), read(0, errDown), codes.Unavailable, codes.Unavailable, resilience.Failure},
		"server, failure thereafter": {output(2, errDown), read(2, errDown), codes.OK, codes.Unavailable, resilience.Success},
		"client, success":            {input(nil), write(nil), codes.OK, codes.OK, resilience.Success},
		"client, failure":            {input(errDown), write(errDown), codes.Unavailable, codes.Unavailable, resilience.Failure},
	} {
		for net, n := range networks {
			t.Run(name+", "+net, func(t *testing.T) {
				g := newGuards()
				c.play(t, n.serve(t, c.s, guardedServer(newGuards().around()), guarded(g.around())), g)
				g.end(t, c.answered, c.ended, c.judged)
			})
		}
	}
}

// A probe that is a stream ends with its first message.
func TestClient_streamAsProbe(t *testing.T) {
	mock := clock.NewMock()
	b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Second, CloseAfter: 1, Clock: mock}))
	fail := true
	r := memory.serve(t, &service{duplex: func(st duplex) error {
		if fail {
			return errDown
		}
		return hang(1)(st)
	}}, nil, guarded(b))
	if _, err := r.open(t, patience(t)).Recv(); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	fail = false
	mock.Add(2 * time.Second)

	ctx, cancel := context.WithCancel(patience(t))
	defer cancel()
	probe := r.open(t, ctx)
	if s := b.State(); s != breaker.HalfOpen {
		t.Errorf("%v before the first message", s)
	}
	_, err := r.FullDuplexCall(ctx)
	if wantCode(t, err, codes.Unavailable); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("beside the probe: %v", err)
	}
	recv(t, probe, 1)
	if s := b.State(); s != breaker.Closed {
		t.Errorf("%v after the first message", s)
	}
}

// A full bulkhead rejects streams until one ends.
func TestClient_streamsFillBulkhead(t *testing.T) {
	g := newGuards()
	r := memory.serve(t, &service{duplex: hang(1)}, nil, guarded(g.bulkhead))
	ctx, cancel := context.WithCancel(patience(t))
	st := r.open(t, ctx)
	recv(t, st, 1)
	if _, err := r.FullDuplexCall(patience(t)); status.Code(err) != codes.ResourceExhausted || !errors.Is(err, resilience.ErrRejected) {
		t.Errorf("beside a stream: %v", err)
	}
	cancel()
	if _, err := st.Recv(); status.Code(err) != codes.Canceled {
		t.Error(err)
	}
	recv(t, r.open(t, patience(t)), 1)
}
