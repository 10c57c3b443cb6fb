package grpcmw

import (
	"context"
	"strconv"
	"strings"

	"github.com/resilience-go/resilience"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// attemptKey is the metadata that carries the number of an attempt, from the
// second one on.
const attemptKey = "retry-attempt"

// Client guards the calls of a grpc.ClientConn with a Policy. Its methods are
// interceptors:
//
//	client := grpcmw.Client{Policy: stack.Client("payments")}
//	conn, err := grpc.NewClient(target, creds,
//		grpc.WithChainUnaryInterceptor(client.Unary), grpc.WithChainStreamInterceptor(client.Stream))
//
// The zero value guards with nothing. A Client is safe for concurrent use if its
// functions are.
type Client struct {
	// Policy guards each call. nil guards with nothing.
	Policy resilience.Policy

	// Key returns what a keyed.Group picks the policy of a call by: something of
	// which there are few, such as the tenant. nil is the target of the connection
	// and the method, as in "dns:///payments:443/payments.v1.Payments/Charge": each
	// method has a policy of its own.
	Key func(ctx context.Context, target, method string) string

	// Classify says what the code of a status tells about the health of the server. gRPC
	// may ask on a goroutine of its own, where a panic ends the program. nil is
	// CodeOutcome.
	Classify func(method string, code codes.Code) resilience.Outcome

	// Retryable says whether a unary call that failed with err, which has a status,
	// may be made again. It is not asked, and the call is not made again whatever the
	// Policy wants, if the server has said in its pushback that it may not, if the
	// service config has a retry policy for the method, since retries are then left to
	// gRPC (see the package documentation), or if the message could not be sent or
	// taken. nil is DefaultRetryable.
	Retryable func(method string, err error) bool

	// Exempt chooses the methods that are not guarded, as in
	// "/grpc.health.v1.Health/Check". nil is Infrastructure.
	Exempt func(method string) bool
}

// Infrastructure reports whether a method belongs to health checking or to
// reflection, which are there to be used when the rest does not work.
func Infrastructure(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.v1.") || strings.HasPrefix(method, "/grpc.reflection.")
}

// exempt reports whether a method is not guarded; choose is a field Exempt.
func exempt(choose func(string) bool, method string) bool {
	if choose == nil {
		return Infrastructure(method)
	}
	return choose(method)
}

func (c *Client) key(ctx context.Context, cc *grpc.ClientConn, method string) string {
	target := ""
	if cc != nil { // it is in a test of an interceptor
		target = cc.Target()
	}
	if c.Key == nil {
		return target + method
	}
	return c.Key(ctx, target, method)
}

// failed returns what policies see of a call that failed with err and the trailer.
func (c *Client) failed(method string, err error, trailer metadata.MD) *failure {
	f := &failure{err: err, outcome: resilience.Ignored, final: true}
	if local(err) {
		return f // it says nothing about the server and would come back
	}
	f.err = said(err)
	f.outcome = outcome(c.Classify, method, f.err)
	may, after := pushback(trailer, f.err)
	f.final, f.after = !may, after
	return f
}

// marked returns ctx with the number of the attempt in its outgoing metadata, from
// the second one on.
func marked(ctx context.Context) context.Context {
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
