package grpcmw

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Stream implements grpc.StreamClientInterceptor. Policies run while the stream is
// made; those that judge it do so at its first message or its end, whichever is
// first, and those that hold something for it, such as a slot or its context, hold
// it to its end. As always, a stream ends when RecvMsg has returned an error, or
// its context is over (see grpc.ClientConn.NewStream).
//
// It is made once, whatever the Policy wants, and costs two allocations and none
// for a message. An interceptor further in must pass on the options that it is given:
// without our grpc.OnFinish nobody hears of a stream that is canceled and not read.
// Policies hear when to come back from a RetryInfo detail of its status, and not from
// its trailer.
func (c Client) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if exempt(c.Exempt, method) {
		return streamer(ctx, desc, cc, method, opts...)
	}
	s := &stream{c: c, ctx: ctx, desc: desc, cc: cc, method: method, streamer: streamer}
	// Clipped, or the appends of two further in would meet in our array.
	s.opts = slices.Clip(append(append(s.room[:0], grpc.OnFinishCallOption{OnFinish: s.finish}), opts...))
	defer s.abandon() // unless it is handed over, however this ends
	err := resilience.RunOperation(ctx, c.Policy, s)
	if err == nil && s.ClientStream == nil {
		err = s.err // a policy dropped the error, but there is nothing else to return
	}
	if err == nil && s.ClientStream == nil {
		err = status.Error(codes.Internal, "grpcmw: the policy returned neither an error nor a stream")
	}
	if err != nil {
		return nil, public(err)
	}
	s.handed = true
	return s, nil
}

// stream is one stream: the operation that the policies run, and what its user
// sends and receives by. Its finish is the other allocation.
type stream struct {
	resilience.Tail
	grpc.ClientStream // nil until it is there

	c        Client
	ctx      context.Context // of the caller, and then of the stream
	desc     *grpc.StreamDesc
	cc       *grpc.ClientConn
	method   string
	streamer grpc.Streamer
	opts     []grpc.CallOption
	room     [4]grpc.CallOption

	run       uint32 // its number in the Tail, 0 before
	err       error  // of making it
	handed    bool   // it belongs to the user
	answered  bool   // RecvMsg, which is for one goroutine at a time, has returned a message
	abandoned atomic.Bool
}

// Key implements resilience.Keyer.
func (s *stream) Key() string { return s.c.key(s.ctx, s.cc, s.method) }

// Run implements resilience.Operation.
func (s *stream) Run(ctx context.Context) error {
	if s.run != 0 {
		return &failure{err: cmp.Or(s.err, errAgain), outcome: resilience.Ignored}
	}
	s.ctx = ctx
	s.run = s.Begin()
	cs, err := s.streamer(marked(ctx), s.desc, s.cc, s.method, s.opts...)
	if err != nil {
		f := s.failed(err, s.late(err))
		s.err = f.err
		s.End(s.run, f)
		return f
	}
	s.ClientStream = cs
	return nil
}

var (
	errAgain     = status.Error(codes.Internal, "grpcmw: a policy ran a stream again: streams are not retried")
	errAbandoned = &failure{err: status.Error(codes.Canceled, "grpcmw: a policy gave up the stream"), outcome: resilience.Ignored}
)

// failed returns what policies see of a stream that failed with err, which is late or
// not.
func (s *stream) failed(err, late error) *failure {
	if late != nil {
		return &failure{err: late, outcome: resilience.Failure}
	}
	return s.c.failed(s.method, err, nil)
}

// late returns an error that says why, if err says no more than that the context of
// the stream is over and what ended it was a limit of time. It is nil otherwise.
func (s *stream) late(err error) error {
	code := status.Code(err)
	if code == codes.DeadlineExceeded {
		s.expire()
	}
	if code != codes.Canceled && code != codes.DeadlineExceeded || s.ctx.Err() == nil {
		return nil
	}
	cause := context.Cause(s.ctx)
	if !errors.Is(cause, context.DeadlineExceeded) || code == codes.DeadlineExceeded && cause == context.DeadlineExceeded {
		return nil
	}
	return &statusError{fmt.Errorf("%w: %w", cause, err)}
}

// expire waits for the context of the stream to be done if its deadline has passed.
// The server has that deadline too, and its answer may be quicker than our timer.
func (s *stream) expire() {
	deadline, ok := s.ctx.Deadline()
	if !ok || s.ctx.Err() != nil || time.Until(deadline) > 0 {
		return
	}
	select {
	case <-s.ctx.Done():
	case <-time.After(maxTimerDelay): // a context that does not keep its word
	}
}

// maxTimerDelay is far more than a timer is late by.
const maxTimerDelay = 100 * time.Millisecond

// finish hears from gRPC how the stream ended, on any goroutine. It may come before
// the stream is there, and does for one that cannot be made.
func (s *stream) finish(err error) { s.end(err, s.late(err)) }

func (s *stream) end(err, late error) {
	if s.abandoned.Load() {
		return // abandon has the say, once gRPC is done with the stream
	}
	end := resilience.ErrAborted // if a function of the Client unwinds
	defer func() { s.End(s.run, end) }()
	if err == nil {
		end = nil
	} else {
		end = s.failed(err, late)
	}
}

// over ends a stream that says itself that it ended with err, and returns what its
// user gets. An interceptor further in may have kept our OnFinish from gRPC.
func (s *stream) over(err error) error {
	late := s.late(err)
	s.end(err, late)
	if late != nil {
		return late
	}
	return err
}

// Header implements grpc.ClientStream.
func (s *stream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	if err != nil && err != io.EOF {
		err = s.over(err)
	}
	return md, err
}

// SendMsg implements grpc.ClientStream. That it returns io.EOF means that RecvMsg
// has the error.
func (s *stream) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	if err != nil && err != io.EOF {
		err = s.over(err)
	}
	return err
}

// RecvMsg implements grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case err == io.EOF:
		s.finish(nil)
	case err != nil:
		err = s.over(err)
	case !s.desc.ServerStreams:
		s.finish(nil) // there is no other message
	case !s.answered:
		s.answered = true
		s.Answer(s.run)
	}
	return err
}

// Discard implements resilience.Lasting.
func (s *stream) Discard() { s.abandon() }

// abandon ends a stream that nobody has seen, and nobody will.
func (s *stream) abandon() {
	if s.run == 0 || s.handed {
		return
	}
	s.abandoned.Store(true)
	defer s.End(s.run, errAbandoned)
	if cs := s.ClientStream; cs != nil {
		s.ClientStream = nil
		// A stream has no Close. A message that cannot be encoded ends it, and its
		// server hears that it is canceled: a string must be UTF-8. After CloseSend,
		// which is for codecs that do not mind, it may take it for complete.
		unsendable := wrapperspb.String("\xff")
		if err := cs.SendMsg(unsendable); err == nil || err == io.EOF {
			_ = cs.CloseSend()
			_ = cs.SendMsg(unsendable)
		}
	}
}
