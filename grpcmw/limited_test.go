package grpcmw_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

// overloaded is a policy that rejects as a limit does, and counts the calls.
func overloaded(calls *atomic.Int32) testkit.Policy {
	return func(context.Context, resilience.Next) error {
		calls.Add(1)
		return limit.ErrLimited
	}
}

// rejecting is a server of which every method is rejected by p.
func rejecting(p resilience.Policy) []grpc.ServerOption {
	server := grpcmw.Server{Policy: p}
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(server.Unary), grpc.ChainStreamInterceptor(server.Stream)}
}

// rejectedCalls makes a call of each kind that has to be rejected.
var rejectedCalls = map[string]func(t testing.TB, r *rig){
	"unary": func(t testing.TB, r *rig) {
		_, err := r.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantCode(t, err, codes.ResourceExhausted)
	},
	"stream": func(t testing.TB, r *rig) {
		_, err := r.open(t, patience(t)).Recv()
		wantCode(t, err, codes.ResourceExhausted)
	},
}

// A call that a limit rejects is made once, and the breaker stays closed. The flood is
// longer than a breaker needs to open.
func TestClient_limitFloodKeepsClient(t *testing.T) {
	const flood = 100
	for name, retryable := range map[string]func(string, error) bool{"default": nil, "Retryable yes": always} {
		for kind, call := range rejectedCalls {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var calls atomic.Int32
					p := stack.Client("test")
					client := grpcmw.Client{Policy: p, Retryable: retryable}
					r := memory.serve(t, &service{}, rejecting(overloaded(&calls)),
						grpc.WithChainUnaryInterceptor(client.Unary), grpc.WithChainStreamInterceptor(client.Stream))
					for range flood {
						call(t, r)
						time.Sleep(100 * time.Millisecond)
					}
					if n := calls.Load(); n != flood {
						t.Errorf("%d calls reached the server", n)
					}
					wantUntouched(t, p, flood)
				})
			})
		}
	}
}

// wantUntouched wants the policies of a client to take so many calls for successes
// that are not tried again.
func wantUntouched(t *testing.T, p resilience.Policy, calls uint64) {
	t.Helper()
	for n := range resilience.Walk(p) {
		p := n.Policy
		switch p := p.(type) {
		case *breaker.Breaker:
			if s := p.Stats(); s.Successes != calls || s.Failures+s.Ignored+s.Rejected+s.Opened != 0 {
				t.Errorf("the breaker has counted %+v", s)
			}
		case *retry.Retry:
			// A stream that is there is a first try: no retry comes later.
			if s := p.Stats(); s.FirstTry+s.Stopped[retry.NotRetryable] != calls || s.Calls() != calls || s.Retries != 0 || s.Spent != 0 || s.Refunded != 0 || s.Level != s.Capacity {
				t.Errorf("the retry has counted %+v", s)
			}
		}
	}
}

// A Client makes one call over any network if a limit rejects it.
func TestClient_limitRejectionIsFinal(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		for kind, call := range rejectedCalls {
			for name, p := range map[string]resilience.Policy{"stack": stack.Client("test"), "a retry of all errors": persistent(t), "a policy": stubborn(3)} {
				var calls atomic.Int32
				client := grpcmw.Client{Policy: p, Retryable: always}
				call(t, serve(t, &service{}, rejecting(overloaded(&calls)),
					grpc.WithChainUnaryInterceptor(client.Unary), grpc.WithChainStreamInterceptor(client.Stream)))
				if n := calls.Load(); n != 1 {
					t.Errorf("%s, %s: %d calls", kind, name, n)
				}
			}
		}
	})
}

// A client without this library, whose service config retries, obeys a limit, too.
func TestServer_limitStopsServiceConfig(t *testing.T) {
	const config = `{"methodConfig": [{
		"name": [{"service": "grpc.testing.TestService"}],
		"retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["RESOURCE_EXHAUSTED"]}
	}]}`
	everywhere(t, func(t *testing.T, serve serving) {
		for kind, call := range rejectedCalls {
			for reason, want := range map[string]int32{resilience.Limited: 1, bulkhead.Full: 3} {
				var calls atomic.Int32
				no := reject(reason, time.Now()) // a retry may come at once
				p := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
					calls.Add(1)
					return no(ctx, next)
				})
				call(t, serve(t, &service{}, rejecting(p), grpc.WithDefaultServiceConfig(config)))
				if n := calls.Load(); n != want {
					t.Errorf("%s, %s: %d calls, want %d", kind, reason, n, want)
				}
			}
		}
	})
}
