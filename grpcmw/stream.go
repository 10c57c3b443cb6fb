package grpcmw

import (
	"cmp"
	"context"
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

// Stream implements grpc.StreamClientInterceptor. The policies run while the stream is
// made. They judge the stream at its first message or at its end, whichever comes first.
// They hold its slot and its context until its end. As always with gRPC, a stream ends when
// RecvMsg returns an error or when its context is done (see grpc.ClientConn.NewStream).
//
// A stream is made once, whatever Policy decides. It costs two allocations, and none for a
// message. An interceptor further in must pass on its call options: without our
// grpc.OnFinish, the end of a stream that is canceled and not read goes unnoticed. The
// policies get the delay before a retry from a RetryInfo detail of the status, not from the
// trailer.
func (c Client) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if exempt(c.Exempt, method) {
		return streamer(ctx, desc, cc, method, opts...)
	}
	if c.Policy == nil {
		return nil, errNoClientPolicy
	}
	s := &stream{c: c, ctx: ctx, desc: desc, cc: cc, method: method, streamer: streamer}
	// Without Clip, two interceptors further in that append would write to one array.
	s.opts = slices.Clip(append(append(s.room[:0], grpc.OnFinishCallOption{OnFinish: s.finish}), opts...))
	defer s.abandon() // has no effect after handed is set
	ctx, s.call = withCall(ctx, cc, &s.c, s)
	err := resilience.RunOperation(ctx, c.Policy, s)
	if err == nil && s.ClientStream == nil {
		err = s.err // a policy dropped the error, but there is nothing else to return
	}
	if err == nil && s.ClientStream == nil {
		err = status.Error(codes.Internal, "grpcmw: the policy returned neither an error nor a stream")
	}
	if err != nil {
		return nil, publicError(err)
	}
	s.handed = true
	return s, nil
}

// stream is one stream: the operation that the policies run, and the grpc.ClientStream of
// the caller. The method value of finish is the other allocation.
type stream struct {
	resilience.Tail
	grpc.ClientStream // nil until it is made

	c        Client
	ctx      context.Context // the caller's, later the stream's
	call     *call           // nil if no connection uses the balancer
	desc     *grpc.StreamDesc
	cc       *grpc.ClientConn
	method   string
	streamer grpc.Streamer
	opts     []grpc.CallOption
	room     [4]grpc.CallOption

	run       uint32 // the number of the run in the Tail, 0 before
	err       error  // why the stream could not be made
	handed    bool   // the stream belongs to the caller
	answered  bool   // RecvMsg has returned a message; one goroutine at a time calls RecvMsg
	abandoned atomic.Bool
	sending   atomic.Bool // the caller is in SendMsg
	sent      atomic.Bool // the caller has called CloseSend
}

// Key is the optional method of an operation that keyed.Group calls.
func (s *stream) Key() string { return s.c.key(s.ctx, s.cc, s.method) }

// Run implements resilience.Operation.
func (s *stream) Run(ctx context.Context) error {
	if s.run != 0 {
		return &failure{err: cmp.Or(s.err, errAgain), outcome: resilience.Ignored}
	}
	s.ctx = ctx
	s.run = s.Begin()
	cs, err := s.streamer(withAttemptMetadata(ctx), s.desc, s.cc, s.method, s.opts...)
	if err != nil {
		f := s.asFailure(err, s.asDeadline(err))
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

// asFailure returns the error for the policies of a stream that failed with err. late is
// asDeadline(err).
func (s *stream) asFailure(err, late error) *failure {
	f := &failure{err: late, outcome: resilience.Failure}
	if late == nil {
		f = s.c.asFailure(s.method, err, nil)
	}
	if s.awaitsCaller() && timedOut(s.ctx) {
		f.outcome = resilience.Ignored
	}
	return f
}

// awaitsCaller reports whether the server waits for messages of the caller: it answers a
// stream of requests after the last of them.
func (s *stream) awaitsCaller() bool {
	return s.desc.ClientStreams && !s.desc.ServerStreams && !s.sent.Load() && !s.sending.Load()
}

// asDeadline returns an error with the cause of the deadline that ended the stream's
// context, if err reports the end of that context without the cause. Otherwise it returns
// nil.
func (s *stream) asDeadline(err error) error {
	code := status.Code(err)
	if code == codes.DeadlineExceeded {
		s.awaitDeadline()
	}
	if code != codes.Canceled && code != codes.DeadlineExceeded || s.ctx.Err() == nil {
		return nil
	}
	cause := context.Cause(s.ctx)
	if !timedOut(s.ctx) || code == codes.DeadlineExceeded && cause == context.DeadlineExceeded {
		return nil
	}
	return &statusError{fmt.Errorf("%w: %w", cause, err)}
}

// awaitDeadline waits until the context of the stream is done, if its deadline has passed.
// The server has the same deadline, and its answer may come before our timer.
func (s *stream) awaitDeadline() {
	deadline, ok := s.ctx.Deadline()
	if !ok || s.ctx.Err() != nil || time.Until(deadline) > 0 {
		return
	}
	select {
	case <-s.ctx.Done():
	case <-time.After(maxTimerDelay): // user code made a context that misses its Deadline
	}
}

// maxTimerDelay is far more than the delay of a timer: those are late by about 1 ms.
const maxTimerDelay = 100 * time.Millisecond

// finish is the function of grpc.OnFinish. gRPC calls it at the end of the stream, on any
// goroutine, and also for a stream that cannot be made.
func (s *stream) finish(err error) { s.end(err, s.asDeadline(err)) }

func (s *stream) end(err, late error) {
	if s.abandoned.Load() {
		return // abandon calls End after gRPC is done with the stream
	}
	end := resilience.ErrAborted // if a function of the Client panics
	defer func() { s.End(s.run, end) }()
	if err == nil {
		end = nil
	} else {
		end = s.asFailure(err, late)
	}
}

// endWith ends a stream one of whose methods returned err, and returns the error for the
// caller. It does not rely on OnFinish: an interceptor further in may have dropped it.
func (s *stream) endWith(err error) error {
	late := s.asDeadline(err)
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
		err = s.endWith(err)
	}
	if md != nil {
		s.call.answered() // nil at the end of a stream without headers
	}
	return md, err
}

// SendMsg implements grpc.ClientStream. If it returns io.EOF, RecvMsg returns the error.
func (s *stream) SendMsg(m any) error {
	s.sending.Store(true)
	err := s.ClientStream.SendMsg(m)
	s.sending.Store(false)
	if err != nil && err != io.EOF {
		err = s.endWith(err)
	}
	return err
}

// CloseSend implements grpc.ClientStream.
func (s *stream) CloseSend() error {
	s.sent.Store(true)
	return s.ClientStream.CloseSend()
}

// RecvMsg implements grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case err == io.EOF:
		s.finish(nil)
	case err != nil:
		err = s.endWith(err)
	case !s.desc.ServerStreams:
		s.finish(nil) // there is no further message
	case !s.answered:
		s.answered = true
		s.call.answered()
		s.Answer(s.run)
	}
	return err
}

// Discard implements resilience.Lasting.
func (s *stream) Discard() { s.abandon() }

// abandon ends a stream that the caller does not get.
func (s *stream) abandon() {
	if s.run == 0 || s.handed {
		return
	}
	s.abandoned.Store(true)
	defer s.End(s.run, errAbandoned)
	if cs := s.ClientStream; cs != nil {
		s.ClientStream = nil
		// A stream has no Close. A message that cannot be encoded ends the stream, and
		// gRPC cancels it for the server: a string must be valid UTF-8. Some codecs encode
		// it; CloseSend is for them, though the server may take the stream for complete.
		unsendable := wrapperspb.String("\xff")
		if err := cs.SendMsg(unsendable); err == nil || err == io.EOF {
			_ = cs.CloseSend()
			_ = cs.SendMsg(unsendable)
		}
	}
}
