package grpcmw

import (
	"context"
	"errors"
	"io"

	"github.com/resilience-go/resilience"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Stream implements grpc.StreamClientInterceptor. Policies run while the stream is
// made; those that judge it do so at its first message or its end, whichever is
// first, and those that hold something for it, such as a slot or its context, hold
// it to its end. As always, a stream ends when RecvMsg has returned an error, or
// its context is over (see grpc.ClientConn.NewStream).
//
// It is made once, whatever the Policy wants, and costs two allocations and none
// for a message.
func (c Client) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if c.exempt(method) {
		return streamer(ctx, desc, cc, method, opts...)
	}
	s := &stream{c: c, ctx: ctx, desc: desc, cc: cc, method: method, streamer: streamer}
	s.opts = append(append(s.room[:0], grpc.OnFinishCallOption{OnFinish: s.finish}), opts...)
	defer s.release()
	err := resilience.RunOperation(ctx, c.Policy, s)
	if err == nil && s.ClientStream == nil {
		err = s.err // a policy dropped the error, but there is nothing else to return
	}
	if err == nil && s.ClientStream == nil {
		err = status.Error(codes.Unavailable, "grpcmw: the policy returned neither an error nor a stream")
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

	run      uint32 // its number in the Tail, 0 before
	err      error  // of making it
	handed   bool   // it belongs to the user
	answered bool   // RecvMsg, which is for one goroutine at a time, has returned a message
}

// Key implements resilience.Keyer.
func (s *stream) Key() string { return s.c.key(s.ctx, s.cc, s.method) }

// Run implements resilience.Operation.
func (s *stream) Run(ctx context.Context) error {
	if s.run != 0 {
		return &failure{err: errAgain, outcome: resilience.Ignored}
	}
	s.ctx = ctx
	s.run = s.Begin()
	cs, err := s.streamer(marked(ctx), s.desc, s.cc, s.method, s.opts...)
	if err != nil {
		s.err = s.failed(err)
		s.End(s.run, s.err)
		return s.err
	}
	s.ClientStream = cs
	return nil
}

var errAgain = status.Error(codes.Aborted, "grpcmw: streams are not retried")

// failed returns what policies see of a stream that failed with err.
func (s *stream) failed(err error) error {
	if late := s.late(err); late != nil {
		return &failure{err: late, outcome: resilience.Failure}
	}
	f := s.c.failed(s.cc, s.method, err, nil)
	f.retryable = false
	return f
}

// late returns an error that says why, if err says no more than that the context of
// the stream is over and what ended it was a limit of time. It is nil otherwise.
func (s *stream) late(err error) error {
	if s.ctx.Err() == nil {
		return nil
	}
	code := status.Code(err)
	cause := context.Cause(s.ctx)
	if code != codes.Canceled && code != codes.DeadlineExceeded || cause == context.DeadlineExceeded || !errors.Is(cause, context.DeadlineExceeded) {
		return nil
	}
	return &statusError{&lateError{cause, err}}
}

// lateError says what ended a stream, and what gRPC said to that.
type lateError struct{ cause, err error }

func (e *lateError) Error() string   { return e.cause.Error() + ": " + e.err.Error() }
func (e *lateError) Unwrap() []error { return []error{e.cause, e.err} }

// finish hears from gRPC how the stream ended, on any goroutine. It may come before
// the stream is there, and does for one that cannot be made.
func (s *stream) finish(err error) {
	if err != nil {
		err = s.failed(err)
	}
	s.End(s.run, err)
}

// RecvMsg implements grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case err == nil:
		if !s.answered {
			s.answered = true
			s.Answer(s.run)
		}
		if !s.desc.ServerStreams {
			s.finish(nil) // there is no other message
		}
	case err == io.EOF:
		s.finish(nil)
	default:
		s.finish(err)
		if late := s.late(err); late != nil {
			return late
		}
	}
	return err
}

// Discard implements resilience.Lasting.
func (s *stream) Discard() { s.abandon(nil) }

// release gives up what the user will not get, however Stream came to its end.
func (s *stream) release() { s.abandon(resilience.ErrAborted) }

// abandon ends a stream that nobody has seen.
func (s *stream) abandon(err error) {
	if s.run == 0 || s.handed {
		return
	}
	defer s.End(s.run, err)
	if cs := s.ClientStream; cs != nil {
		s.ClientStream = nil
		// A stream has no Close. A message that cannot be sent ends it, and its
		// server hears that it is canceled. After CloseSend, which is for codecs
		// that can encode anything, it may take it for complete.
		if err := cs.SendMsg(&unsendable{}); err == nil || err == io.EOF {
			_ = cs.CloseSend()
			_ = cs.SendMsg(nil)
		}
	}
}

// unsendable is a message that codecs do not know how to encode.
type unsendable struct{ F func() }
