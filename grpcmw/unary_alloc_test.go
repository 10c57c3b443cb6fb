package grpcmw_test

import (
	"context"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/grpcmw"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// holder is a policy that holds nothing until a moment, without an allocation.
type holder struct{ at resilience.Moment }

func (h *holder) Apply(ctx context.Context, next resilience.Next) (err error) {
	err = resilience.ErrAborted
	defer func() { next.Settle(h.at, err, h, 0) }()
	err = next.Run(ctx)
	return err
}

func (*holder) Settle(uint64, error) {}

var held = resilience.Compose(&holder{resilience.Answered}, &holder{resilience.Ended})

func TestUnaryClientAllocatesOnceMoreThanBare(t *testing.T) {
	ctx := t.Context()
	ok := invoke(nil, nil)
	var header, trailer metadata.MD
	three := []grpc.CallOption{grpc.Header(&header), grpc.Trailer(&trailer), grpc.WaitForReady(true)}
	for name, policy := range map[string]resilience.Policy{"no policy": nil, "held": held, "retry": stubborn(3)} {
		for _, opts := range [][]grpc.CallOption{nil, three} {
			c := grpcmw.Client{Policy: policy}
			got := testing.AllocsPerRun(100, func() {
				if err := c.Unary(ctx, "/s/m", nil, nil, nil, ok, opts...); err != nil {
					t.Fatal(err)
				}
			})
			if got != 1 {
				t.Errorf("%s, %d options: %v allocations more", name, len(opts), got)
			}
		}
	}
}

func TestUnaryServerAllocatesOnceMoreThanBare(t *testing.T) {
	ctx := t.Context()
	info := &grpc.UnaryServerInfo{FullMethod: "/s/m"}
	handler := func(_ context.Context, req any) (any, error) { return req, nil }
	for name, policy := range map[string]resilience.Policy{"no policy": nil, "held": held} {
		s := grpcmw.Server{Policy: policy}
		got := testing.AllocsPerRun(100, func() {
			if _, err := s.Unary(ctx, info, info, handler); err != nil {
				t.Fatal(err)
			}
		})
		if got != 1 {
			t.Errorf("%s: %v allocations more", name, got)
		}
	}
}
