package grpcmw_test

import (
	"context"
	"strings"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/grpcmw"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// Without a Policy, each interceptor returns INTERNAL with what to set, and calls nothing.
func TestClient_nilPolicyIsInternal(t *testing.T) {
	ctx := context.Background()
	_, streamErr := grpcmw.Client{}.Stream(ctx, &grpc.StreamDesc{}, nil, "/s/m",
		func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
			t.Error("the stream was made")
			return nil, nil
		})
	unaryErr := grpcmw.Client{}.Unary(ctx, "/s/m", nil, nil, nil,
		func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			t.Error("the call was made")
			return nil
		})
	for _, err := range []error{unaryErr, streamErr} {
		wantConfigError(t, err, "grpcmw: Client.Policy is nil: set it")
	}
}

// Without a Policy, a Server answers INTERNAL with what to set, except for exempt methods.
func TestServer_nilPolicyIsInternal(t *testing.T) {
	ran := 0
	unary := func(method string) error {
		_, err := grpcmw.Server{}.Unary(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: method},
			func(context.Context, any) (any, error) { ran++; return nil, nil })
		return err
	}
	stream := grpcmw.Server{}.Stream(nil, markedStream{}, &grpc.StreamServerInfo{FullMethod: "/s/m"},
		func(any, grpc.ServerStream) error { ran++; return nil })
	for _, err := range []error{unary("/s/m"), stream} {
		wantConfigError(t, err, "grpcmw: Server.Policy is nil: set it")
	}
	if ran != 0 {
		t.Errorf("%d handlers ran", ran)
	}
	if err := unary("/grpc.health.v1.Health/Check"); err != nil || ran != 1 {
		t.Errorf("a health check: %v, %d ran", err, ran)
	}
}

func wantConfigError(t *testing.T, err error, prefix string) {
	t.Helper()
	if s := status.Convert(err); s.Code() != codes.Internal || !strings.HasPrefix(s.Message(), prefix) {
		t.Errorf("error %v, want %q", err, prefix)
	}
}

// KeyOf accepts both spellings of a method, and returns an error for a method that no call
// can have.
func TestKeyOf_spellings(t *testing.T) {
	for _, test := range []struct{ target, method, key, err string }{
		{"dns:///payments:443", "/payments.v1.Payments/Charge", "dns:///payments:443/payments.v1.Payments/Charge", ""},
		{"dns:///payments:443", "payments.v1.Payments/Charge", "dns:///payments:443/payments.v1.Payments/Charge", ""},
		{"payments:443", pb.TestService_UnaryCall_FullMethodName, "payments:443/grpc.testing.TestService/UnaryCall", ""},
		{"", "/orders.v1.Orders/Get", "/orders.v1.Orders/Get", ""}, // a Server's
		{"x", "", "", "write service and method"},
		{"x", "/", "", "write service and method"},
		{"x", "Charge", "", "write service and method"},
		{"x", "/payments.v1.Payments", "", "write service and method"},
		{"x", "/payments.v1.Payments/", "", "write service and method"},
		{"x", "payments.v1.Payments.Charge", "", "write service and method"},
		{"x", "//Charge", "", "write service and method"},
		{"x", "/payments.v1.Payments/Charge/", "", "write service and method"},
		{"x", "/payments.v1.Payments/Charge ", "", "write service and method"},
		{"x", "/grpc.testing.TestService/UnaryCal", "", "the service has the methods EmptyCall, UnaryCall"},
		{"x", "/grpc.testing.TestService/unaryCall", "", "the service has the methods EmptyCall, UnaryCall"},
		{"x", "/grpc.testing.SimpleRequest/UnaryCall", "", "is not a service"},
	} {
		key, err := grpcmw.KeyOf(test.target, test.method)
		if key != test.key || (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q, %q: %q, %v, want %q, %q", test.target, test.method, key, err, test.key, test.err)
		}
	}
}

// KeyOf returns the key that a policy gets, and both spellings of a method give one key.
func FuzzKeyOf(f *testing.F) {
	for _, s := range []string{"/s/m", "s/m", "/grpc.testing.TestService/UnaryCall", "//", "a/b/c", "\x00/é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, method string) {
		key, err := grpcmw.KeyOf("", method)
		if err != nil {
			return
		}
		if again, err := grpcmw.KeyOf("", key); err != nil || again != key {
			t.Errorf("%q: key %q of the key %q: %v", method, again, key, err)
		}
		var got string
		client := grpcmw.Client{Policy: keyReader{&got}, Exempt: func(string) bool { return false }}
		_ = client.Unary(context.Background(), key, nil, nil, nil, nil)
		if got != key {
			t.Errorf("%q: KeyOf %q, the policy's key %q", method, key, got)
		}
	})
}

// keyReader is a policy that stores the key of an operation and does not run it.
type keyReader struct{ key *string }

func (r keyReader) Apply(_ context.Context, next resilience.Next) error {
	*r.key = next.Key()
	return context.Canceled
}
