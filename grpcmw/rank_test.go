package grpcmw_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/grpcmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/stack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// ranking is a policy that calls Next.Rank a number of times, and stores what it returned.
// It allocates nothing.
type ranking struct {
	times    int
	priority resilience.Priority
	caller   string
}

func (r *ranking) Apply(ctx context.Context, next resilience.Next) error {
	for range r.times {
		r.priority, r.caller = next.Rank()
	}
	return next.Run(ctx)
}

// interceptors returns functions that call those of s for a unary call and for a stream, by name.
func interceptors(s grpcmw.Server, ran func()) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"unary": func(ctx context.Context) error {
			_, err := s.Unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/s/m"}, func(context.Context, any) (any, error) { ran(); return nil, nil })
			return err
		},
		"stream": func(ctx context.Context) error {
			return s.Stream(nil, &contextStream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: "/s/m"}, func(any, grpc.ServerStream) error { ran(); return nil })
		},
	}
}

// The policies get the priority and the caller that the functions of the Server return.
// However many policies need them, each function is called once for a call, with the context
// of the call and its method.
func TestServer_rank(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "value")
	for times, want := range []int32{0, 1, 1, 1} {
		first, second := &ranking{times: min(times, 1)}, &ranking{times: max(0, times-1)}
		var priorities, callers atomic.Int32
		s := grpcmw.Server{
			Policy: resilience.Compose(first, second),
			Priority: func(ctx context.Context, method string) resilience.Priority {
				if ctx.Value(key{}) == nil || method != "/s/m" {
					t.Errorf("Priority gets the method %q", method)
				}
				priorities.Add(1)
				return resilience.Critical
			},
			Caller: func(ctx context.Context, method string) string {
				if ctx.Value(key{}) == nil || method != "/s/m" {
					t.Errorf("Caller gets the method %q", method)
				}
				callers.Add(1)
				return "tenant"
			},
		}
		for kind, call := range interceptors(s, func() {}) {
			priorities.Store(0)
			callers.Store(0)
			if err := call(ctx); err != nil {
				t.Fatal(err)
			}
			if priorities.Load() != want || callers.Load() != want {
				t.Errorf("%s, %d calls of Rank: %d of Priority and %d of Caller, want %d", kind, times, priorities.Load(), callers.Load(), want)
			}
			for i, p := range []*ranking{first, second} {
				if p.times > 0 && (p.priority != resilience.Critical || p.caller != "tenant") {
					t.Errorf("%s: policy %d gets %v and %q", kind, i, p.priority, p.caller)
				}
			}
		}
	}
}

// Without functions all calls are alike, whatever their metadata says.
func TestServer_rankIgnoresMetadata(t *testing.T) {
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("priority", "critical", "grpc-priority", "0", "authorization", "tenant"))
	p := &ranking{times: 1}
	for kind, call := range interceptors(grpcmw.Server{Policy: p}, func() {}) {
		if err := call(ctx); err != nil || p.priority != resilience.Normal || p.caller != "" {
			t.Errorf("%s: %v and %q, %v", kind, p.priority, p.caller, err)
		}
	}
}

// The functions are not called for a call that is exempt, nor while the limit has room.
func TestServer_rankOnlyIfNeeded(t *testing.T) {
	for name, exempt := range map[string]bool{"exempt": true, "room": false} {
		s := grpcmw.Server{
			Policy: stack.Server("orders"),
			Exempt: func(string) bool { return exempt },
			Priority: func(context.Context, string) resilience.Priority {
				t.Errorf("%s: Priority is called", name)
				return 0
			},
			Caller: func(context.Context, string) string { t.Errorf("%s: Caller is called", name); return "" },
		}
		for kind, call := range interceptors(s, func() {}) {
			if err := call(t.Context()); err != nil {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
		}
	}
}

// A function that panics or calls runtime.Goexit ends the call as a handler would that does.
// Policies outside release what they hold, and the handler does not run.
func TestServer_rankUnwinds(t *testing.T) {
	for how, end := range testkit.Aborts("boom") {
		for name, s := range map[string]grpcmw.Server{
			"Priority": {Priority: func(context.Context, string) resilience.Priority { end.Abort(); return 0 }},
			"Caller":   {Caller: func(context.Context, string) string { end.Abort(); return "" }},
		} {
			g := newGuard(t)
			s.Policy = resilience.Compose(g.policy, &ranking{times: 1})
			for kind, call := range interceptors(s, func() { t.Errorf("%s: the handler ran", name) }) {
				if got := testkit.Unwind(func() error { return call(t.Context()) }); got != end {
					t.Errorf("%s of a %s, %s: ended with %+v", name, kind, how, got)
				}
			}
			g.wantFree(t, false)
		}
	}
}
