package grpcmw

import (
	"context"
	"strconv"
	"strings"

	"github.com/resilience-go/resilience"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// attemptKey is the metadata with the number of an attempt, from the second one on.
const attemptKey = "retry-attempt"

// Client guards the calls of a grpc.ClientConn with a Policy. Its methods are interceptors:
//
//	client := grpcmw.Client{Policy: stack.Client("payments")}
//	conn, err := grpc.NewClient(target, creds,
//		grpc.WithChainUnaryInterceptor(client.Unary), grpc.WithChainStreamInterceptor(client.Stream))
//
// A Client is safe for concurrent use if its functions are.
type Client struct {
	// Policy guards each call. It is required: with nil, calls fail with INTERNAL.
	// resilience.Compose() makes calls unguarded.
	Policy resilience.Policy

	// Key returns the key by which a keyed.Group selects the policy of a call. Keys should
	// have few values, as tenants do. nil is the target of the connection and the method,
	// as in "dns:///payments:443/payments.v1.Payments/Charge": each method has a policy of
	// its own. KeyOf returns that key for keyed.Config.Keys.
	Key func(ctx context.Context, target, method string) string

	// Classify returns the outcome of a status code: whether the server works. gRPC may
	// call it on another goroutine, where a panic ends the program. nil is CodeOutcome.
	Classify func(method string, code codes.Code) resilience.Outcome

	// Retryable reports whether a unary call that failed with err is safe to retry. err
	// has a status. nil is DefaultRetryable.
	//
	// Policy never retries these calls, and Retryable is not called for them:
	//
	//   - calls whose server forbids a retry by its pushback;
	//   - calls whose message could not be sent or received;
	//   - calls of a method with a retry policy in the service config, which gRPC retries.
	Retryable func(method string, err error) bool

	// Exempt reports whether calls of a method skip the policy, as in
	// "/grpc.health.v1.Health/Check". nil is Infrastructure.
	Exempt func(method string) bool
}

// Infrastructure reports whether a method belongs to health checking or to reflection.
// Both have to work when the service does not.
func Infrastructure(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.v1.") || strings.HasPrefix(method, "/grpc.reflection.")
}

// exempt reports whether a method skips the policy. choose is the field Exempt.
func exempt(choose func(string) bool, method string) bool {
	if choose == nil {
		return Infrastructure(method)
	}
	return choose(method)
}

// errNoClientPolicy is the error of a Client without a Policy: a Client has no constructor
// that could return it.
var errNoClientPolicy = status.Error(codes.Internal, "grpcmw: Client.Policy is nil: set it, "+
	"for instance to stack.Client(\"payments\"), or to resilience.Compose() to make calls unguarded")

// key returns the key of a call: Client.Key, or target and method.
func (c *Client) key(ctx context.Context, cc *grpc.ClientConn, method string) string {
	target := ""
	if cc != nil { // nil in a test of an interceptor
		target = cc.Target()
	}
	if c.Key == nil {
		return target + method
	}
	return c.Key(ctx, target, method)
}

// asFailure returns the error for the policies of a call that failed with err and trailer.
func (c *Client) asFailure(method string, err error, trailer metadata.MD) *failure {
	f := &failure{err: err, outcome: resilience.Ignored, final: true}
	if local(err) {
		return f // not the server's error, and a retry would fail in the same way
	}
	f.err = withFoundStatus(err)
	if !resilience.Rejected(err) {
		f.outcome = outcome(c.Classify, method, f.err)
	}
	may, after := pushback(trailer, f.err)
	f.final, f.after = !may, after
	f.busy = status.Code(f.err) == codes.ResourceExhausted || f.final || after > 0
	return f
}

// withAttemptMetadata returns ctx with the number of the attempt in its outgoing metadata,
// from the second one on.
func withAttemptMetadata(ctx context.Context) context.Context {
	if n := resilience.Attempt(ctx); n >= 2 {
		md, _ := metadata.FromOutgoingContext(ctx) // a copy
		if md == nil {
			md = metadata.MD{}
		}
		md.Set(attemptKey, strconv.Itoa(n))
		return metadata.NewOutgoingContext(ctx, md)
	}
	return ctx
}
