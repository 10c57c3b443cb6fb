package grpcmw_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/keyed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// keys remembers the keys of operations.
type keys struct {
	mu  sync.Mutex
	all []string
}

func (k *keys) Apply(ctx context.Context, next resilience.Next) error {
	key := next.Key()
	k.mu.Lock()
	k.all = append(k.all, key)
	k.mu.Unlock()
	return next.Run(ctx)
}

type tenantKey struct{}

// The key of a call is target and method, or Key's.
func TestClient_key(t *testing.T) {
	client, server := &keys{}, &keys{}
	c := memory.serve(t, &service{}, unaryServer(grpcmw.Server{Policy: server}), unary(grpcmw.Client{Policy: client}))
	own := memory.serve(t, &service{}, unaryServer(grpcmw.Server{Policy: server, Key: func(_ context.Context, method string) string { return "server of " + method }}),
		unary(grpcmw.Client{Policy: client, Key: func(ctx context.Context, target, method string) string {
			return ctx.Value(tenantKey{}).(string) + " " + target + " " + method
		}}))
	for _, c := range []pb.TestServiceClient{c, own} {
		if _, err := c.UnaryCall(context.WithValue(patience(t), tenantKey{}, "tenant"), &pb.SimpleRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	const method = "/grpc.testing.TestService/UnaryCall"
	if want := []string{"passthrough:///bufconn" + method, "tenant passthrough:///bufconn " + method}; !slices.Equal(client.all, want) {
		t.Errorf("client: %q, want %q", client.all, want)
	}
	if want := []string{method, "server of " + method}; !slices.Equal(server.all, want) {
		t.Errorf("server: %q, want %q", server.all, want)
	}
}

// A failing method opens its own breaker and no other.
func TestClient_breakerPerMethod(t *testing.T) {
	everywhere(t, func(t *testing.T, serve serving) {
		group := resilience.Must(keyed.New(sensitive(), keyed.Config{}))
		var calls atomic.Int32
		c := serve(t, answers(&calls, status.Error(codes.Internal, "broken")), nil, unary(grpcmw.Client{Policy: group}))
		_, err := c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantStatus(t, err, codes.Internal)
		_, err = c.UnaryCall(patience(t), &pb.SimpleRequest{})
		wantStatus(t, err, codes.Unavailable, breaker.ErrOpen)
		_, err = c.EmptyCall(patience(t), &pb.Empty{}) // which the service does not have
		wantStatus(t, err, codes.Unimplemented)
	})
}

// Exempt methods skip the policy.
func TestClient_exempt(t *testing.T) {
	never := reject(resilience.Open, time.Time{})
	for name, test := range map[string]struct {
		exempt func(string) bool
		method string
		ran    bool
	}{
		"health":             {nil, "/grpc.health.v1.Health/Check", true},
		"reflection":         {nil, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", true},
		"reflection, alpha":  {nil, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", true},
		"another":            {nil, "/orders.v1.Orders/Get", false},
		"of a similar name":  {nil, "/grpc.health.v1x.Health/Check", false},
		"own":                {func(m string) bool { return m == "/orders.v1.Orders/Get" }, "/orders.v1.Orders/Get", true},
		"own, without these": {func(string) bool { return false }, "/grpc.health.v1.Health/Check", false},
	} {
		ran := 0
		err := grpcmw.Client{Policy: never, Exempt: test.exempt}.Unary(t.Context(), test.method, nil, nil, nil,
			func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { ran++; return nil })
		if (ran == 1) != test.ran || (err == nil) != test.ran {
			t.Errorf("%s: client ran it: %d, %v", name, ran, err)
		}
		ran = 0
		_, err = grpcmw.Server{Policy: never, Exempt: test.exempt}.Unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: test.method},
			func(context.Context, any) (any, error) { ran++; return nil, nil })
		if (ran == 1) != test.ran || (err == nil) != test.ran {
			t.Errorf("%s: server ran it: %d, %v", name, ran, err)
		}
	}
}
