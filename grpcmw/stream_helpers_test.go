package grpcmw_test

import (
	"context"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type (
	request  = pb.StreamingOutputCallRequest
	response = pb.StreamingOutputCallResponse
	duplex   = grpc.BidiStreamingServer[request, response]
	call     = grpc.BidiStreamingClient[request, response]
)

// guarded is the option by which the streams of a connection are under p.
func guarded(p resilience.Policy) grpc.DialOption {
	return grpc.WithChainStreamInterceptor(grpcmw.Client{Policy: p}.Stream)
}

// guardedServer is the same for the streams of a server.
func guardedServer(p resilience.Policy) []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainStreamInterceptor(grpcmw.Server{Policy: p}.Stream)}
}

// witness records a moment of each stream.
type witness struct {
	at    resilience.Moment
	heard chan error // with what
}

func newWitness(at resilience.Moment) *witness { return &witness{at, make(chan error, 100)} }

func (w *witness) Apply(ctx context.Context, next resilience.Next) (err error) {
	err = resilience.ErrAborted
	defer func() { next.Settle(w.at, err, w, 0) }()
	err = next.Run(ctx)
	return err
}

func (w *witness) Settle(_ uint64, err error) { w.heard <- err }

// guards are a real breaker and a real bulkhead, with witnesses of both moments around
// them, which are settled last.
type guards struct {
	answered, ended *witness
	breaker         *breaker.Breaker
	bulkhead        *bulkhead.Bulkhead
}

// newGuards returns guards whose breaker opens with the first failure.
func newGuards() *guards {
	return &guards{
		answered: newWitness(resilience.Answered),
		ended:    newWitness(resilience.Ended),
		breaker:  sensitive(),
		bulkhead: resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue})),
	}
}

// around returns the guards with more policies inside.
func (g *guards) around(inner ...resilience.Policy) resilience.Policy {
	return resilience.Compose(append([]resilience.Policy{g.ended, g.answered, g.breaker, g.bulkhead}, inner...)...)
}

// pending wants a stream that has not come to either moment.
func (g *guards) pending(t testing.TB) {
	t.Helper()
	if s := g.breaker.Stats(); s.Successes+s.Failures+s.Ignored != 0 {
		t.Errorf("judged already: %+v", s)
	}
	if n := g.bulkhead.Stats().InFlight; n != 1 {
		t.Errorf("%d slots taken", n)
	}
	if len(g.answered.heard)+len(g.ended.heard) != 0 {
		t.Errorf("answered %d times, ended %d times", len(g.answered.heard), len(g.ended.heard))
	}
}

// answeredOnly wants a stream that has answered and goes on.
func (g *guards) answeredOnly(t testing.TB) {
	t.Helper()
	if s := g.breaker.Stats(); s.Successes != 1 || s.Failures+s.Ignored != 0 {
		t.Errorf("judged %+v", s)
	}
	if n := g.bulkhead.Stats().InFlight; n != 1 {
		t.Errorf("%d slots taken", n)
	}
	if len(g.answered.heard) != 1 || len(g.ended.heard) != 0 {
		t.Errorf("answered %d times, ended %d times", len(g.answered.heard), len(g.ended.heard))
	}
}

// end waits for the end of the only stream and wants each moment to have come once,
// with those codes, and the breaker to have judged it so.
func (g *guards) end(t testing.TB, answered, ended codes.Code, judged resilience.Outcome) {
	t.Helper()
	var err error
	select {
	case err = <-g.ended.heard:
	case <-patience(t).Done():
		t.Fatal("has not ended")
	}
	if c := status.Code(err); c != ended {
		t.Errorf("ended with %v, want %v", err, ended)
	}
	select {
	case err := <-g.answered.heard:
		if c := status.Code(err); c != answered {
			t.Errorf("answered with %v, want %v", err, answered)
		}
	default:
		t.Error("has ended, but not answered")
	}
	if len(g.answered.heard)+len(g.ended.heard) != 0 {
		t.Error("heard more than once")
	}
	if s := g.bulkhead.Stats(); s.InFlight != 0 || s.Completed != 1 {
		t.Errorf("%d slots taken, %d given back", s.InFlight, s.Completed)
	}
	s := g.breaker.Stats()
	got := [...]uint64{resilience.Success: s.Successes, resilience.Failure: s.Failures, resilience.Ignored: s.Ignored}
	want := [3]uint64{}
	want[judged] = 1
	if got != want {
		t.Errorf("judged %+v, want one %v", s, judged)
	}
	if open := s.State == breaker.Open; open != (judged == resilience.Failure) {
		t.Errorf("the breaker is %v", s.State)
	}
}

// wait waits for c to be closed, for as long as patience allows.
func wait(t testing.TB, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-patience(t).Done():
		t.Fatal("waited in vain")
	}
}

// open opens a stream of both directions.
func (r *rig) open(t testing.TB, ctx context.Context, opts ...grpc.CallOption) call {
	t.Helper()
	st, err := r.FullDuplexCall(ctx, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// recv wants n messages.
func recv(t testing.TB, st grpc.ServerStreamingClient[response], n int) {
	t.Helper()
	for range n {
		if _, err := st.Recv(); err != nil {
			t.Fatal(err)
		}
	}
}

// wantCode wants an error with that code.
func wantCode(t testing.TB, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("got %v, want %v", err, want)
	}
}

// answer is a handler that sends n messages and ends with err.
func answer(n int, err error) func(duplex) error {
	return func(st duplex) error {
		for range n {
			if err := st.Send(&response{}); err != nil {
				return err
			}
		}
		return err
	}
}

// hang is a handler that sends n messages and waits for its client to leave.
func hang(n int) func(duplex) error {
	return func(st duplex) error {
		if err := answer(n, nil)(st); err != nil {
			return err
		}
		<-st.Context().Done()
		return st.Context().Err()
	}
}

// fakeStream is a stream without a network. Its functions may be nil.
type fakeStream struct {
	grpc.ClientStream
	single             bool // its server sends one message
	recv, send, header func() error
}

func (s *fakeStream) Header() (metadata.MD, error) { return nil, s.header() }

func (s *fakeStream) RecvMsg(any) error { return s.recv() }

func (s *fakeStream) SendMsg(any) error {
	if s.send == nil {
		return nil
	}
	return s.send()
}

func (s *fakeStream) CloseSend() error { return nil }

// finished calls what gRPC calls when a stream has ended.
func finished(opts []grpc.CallOption, err error) {
	for _, o := range opts {
		if o, ok := o.(grpc.OnFinishCallOption); ok {
			o.OnFinish(err)
		}
	}
}
