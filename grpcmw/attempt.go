package grpcmw

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/endpoint"
	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// call is what the interceptors of a Client and the balancer share about a call. It is in
// the context of the call, if the process uses the balancer.
type call struct {
	trail   endpoint.Trail
	client  *Client
	stream  *stream                 // nil for a unary call
	attempt atomic.Pointer[attempt] // the last one
}

type callKey struct{}

// withCall returns a context for all attempts of a call, and the call, which is nil if no
// connection uses the balancer. The attempts use the Trail of ctx, if it has one: a caller
// who makes several calls for one may set it.
func withCall(ctx context.Context, cc *grpc.ClientConn, c *Client, s *stream) (context.Context, *call) {
	if cc == nil || !balancing.Load() {
		return ctx, nil
	}
	made := &call{client: c, stream: s}
	if endpoint.TrailOf(ctx) == nil {
		ctx = endpoint.WithTrail(ctx, &made.trail)
	}
	return context.WithValue(ctx, callKey{}, made), made
}

// callOf returns the call of ctx, nil if there is none.
func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// answered records that the last attempt has got headers or a message.
func (c *call) answered() {
	if c == nil {
		return
	}
	if a := c.attempt.Load(); a != nil {
		a.pick.Answered(endpoint.Success, nil)
	}
}

// timed reports whether the server can be expected to answer when it gets the call. In a
// stream of requests, the server may have to wait for its client.
func (c *call) timed() bool { return c != nil && (c.stream == nil || !c.stream.desc.ClientStreams) }

// attempt is an attempt of gRPC, its own retries included, at an endpoint.
type attempt struct {
	pick   endpoint.Pick
	ctx    context.Context
	method string
	call   *call                   // nil without a Client
	inner  func(balancer.DoneInfo) // of the pickfirst
}

func (a *attempt) start() {
	if !a.call.timed() {
		a.pick.Untimed()
	}
	if a.call != nil {
		a.call.attempt.Store(a)
	}
}

// done is the Done of the pick.
func (a *attempt) done(d balancer.DoneInfo) {
	defer a.pick.End() // also if Client.Classify panics
	if a.inner != nil {
		a.inner(d)
	}
	a.pick.Answered(a.result(d), d.Err)
}

var unguarded = &Client{}

// result returns what the attempt has shown about its endpoint. It has the outcome that the
// attempt has for the policies of a Client.
func (a *attempt) result(d balancer.DoneInfo) endpoint.Result {
	switch {
	case d.Err == nil && !d.BytesSent:
		return endpoint.Ignored // the connection was lost before it was used
	case d.Err == nil:
		return endpoint.Success
	}
	client := unguarded
	if a.call != nil {
		client = a.call.client
	}
	code := status.Code(d.Err)
	if code == codes.Canceled && a.ctx.Err() != nil || code == codes.DeadlineExceeded && late(a.ctx) {
		return a.interrupted(d)
	}
	f := client.asFailure(a.method, d.Err, d.Trailer)
	switch {
	case f.outcome == resilience.Ignored:
		return endpoint.Ignored
	case f.busy:
		return endpoint.Busy
	case f.outcome == resilience.Success:
		return endpoint.Success
	case code == codes.Unavailable && !d.BytesReceived:
		return unanswered(d)
	default:
		return endpoint.Failure
	}
}

// late reports whether the deadline of ctx has passed, or another timeout. The server has
// the same deadline, and its answer may come before the client's timer.
func late(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return timedOut(ctx) || ok && time.Until(deadline) <= 0
}

// interrupted returns the result of an attempt that the end of its context has ended.
func (a *attempt) interrupted(d balancer.DoneInfo) endpoint.Result {
	switch {
	case !late(a.ctx):
		return endpoint.Ignored // the caller canceled
	case a.call != nil && a.call.stream != nil && a.call.stream.awaitsCaller():
		return endpoint.Ignored
	case d.BytesReceived && !a.call.timed():
		return endpoint.Ignored // a stream that lasted longer than its client wanted
	default:
		return endpoint.Timeout
	}
}

// unanswered returns the result of an attempt with the code UNAVAILABLE of which no byte
// was received. Only the text of the status shows why.
func unanswered(d balancer.DoneInfo) endpoint.Result {
	switch text := status.Convert(d.Err).Message(); {
	case !d.BytesSent, text == "the connection is draining":
		return endpoint.Ignored // gRPC did not use the connection: the server is leaving
	case strings.HasPrefix(text, "stream terminated by RST_STREAM"):
		return endpoint.Failure // the server refused the stream
	default:
		return endpoint.Unreachable
	}
}
