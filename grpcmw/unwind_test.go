package grpcmw_test

import (
	"context"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// guard has the policies of a call, and says what they hold and have counted.
type guard struct {
	policy  resilience.Policy
	slots   *bulkhead.Bulkhead
	breaker *breaker.Breaker
}

func newGuard(t *testing.T) *guard {
	g := &guard{slots: resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue})), breaker: newBreaker()}
	g.policy = resilience.Compose(g.slots, g.breaker, retries(t, retry.Config{}), &keys{})
	return g
}

// wantFree fails the test if a slot is held, or if the call that unwound is not
// counted as one failure.
func (g *guard) wantFree(t *testing.T, ran bool) {
	t.Helper()
	if s := g.slots.Stats(); s.InFlight != 0 {
		t.Errorf("%d slots are held", s.InFlight)
	}
	if ran {
		wantCounted(t, "the call", g.breaker, resilience.Failure)
	}
	if err := resilience.Run(t.Context(), g.policy, func(context.Context) error { return nil }); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// A hook of a Client that panics or calls runtime.Goexit leaks nothing.
func TestClient_hooksThatUnwind(t *testing.T) {
	down := invoke(nil, status.Error(codes.Unavailable, "down"))
	for how, end := range testkit.Aborts("boom") {
		for name, test := range map[string]struct {
			client  grpcmw.Client
			invoker grpc.UnaryInvoker
			ran     bool
		}{
			"Exempt":    {grpcmw.Client{Exempt: func(string) bool { end.Abort(); return false }}, down, false},
			"Key":       {grpcmw.Client{Key: func(context.Context, string, string) string { end.Abort(); return "" }}, down, true},
			"Outcome":   {grpcmw.Client{Classify: func(string, codes.Code) resilience.Outcome { end.Abort(); return 0 }}, down, true},
			"Retryable": {grpcmw.Client{Retryable: func(string, error) bool { end.Abort(); return false }}, down, true},
			"invoker": {grpcmw.Client{}, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
				end.Abort()
				return nil
			}, true},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				g := newGuard(t)
				test.client.Policy = g.policy
				got := testkit.Unwind(func() error { return test.client.Unary(t.Context(), "/s/m", nil, nil, nil, test.invoker) })
				if got != end {
					t.Errorf("ended with %+v", got)
				}
				g.wantFree(t, test.ran)
			})
		}
	}
}

// A handler or a hook that unwinds releases its slot, and the panic continues.
func TestServer_unwindReleases(t *testing.T) {
	down := func(context.Context, any) (any, error) { return nil, status.Error(codes.Unavailable, "down") }
	for how, end := range testkit.Aborts("boom") {
		for name, test := range map[string]struct {
			server  grpcmw.Server
			handler grpc.UnaryHandler
			ran     bool
		}{
			"Exempt":  {grpcmw.Server{Exempt: func(string) bool { end.Abort(); return false }}, down, false},
			"Key":     {grpcmw.Server{Key: func(context.Context, string) string { end.Abort(); return "" }}, down, true},
			"Outcome": {grpcmw.Server{Classify: func(string, codes.Code) resilience.Outcome { end.Abort(); return 0 }}, down, true},
			"handler": {grpcmw.Server{}, func(context.Context, any) (any, error) { end.Abort(); return nil, nil }, true},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				g := newGuard(t)
				test.server.Policy = g.policy
				got := testkit.Unwind(func() error {
					_, err := test.server.Unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/s/m"}, test.handler)
					return err
				})
				if got != end {
					t.Errorf("ended with %+v", got)
				}
				g.wantFree(t, test.ran)
			})
		}
	}
}

// A Classify that unwinds at the end of a stream frees the slot.
func TestClient_streamClassifyUnwinds(t *testing.T) {
	for how, end := range testkit.Aborts("boom") {
		t.Run(how, func(t *testing.T) {
			g := newGuards()
			c := grpcmw.Client{Policy: g.around(), Classify: func(string, codes.Code) resilience.Outcome { end.Abort(); return 0 }}
			r := memory.serve(t, &service{duplex: answer(0, status.Error(codes.Internal, "down"))}, nil, grpc.WithChainStreamInterceptor(c.Stream))
			st := r.open(t, patience(t))
			got := testkit.Unwind(func() error {
				_, err := st.Recv()
				return err
			})
			if got != end {
				t.Errorf("ended with %+v", got)
			}
			g.end(t, codes.Unknown, codes.Unknown, resilience.Failure)
		})
	}
}
