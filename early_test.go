package resilience_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
)

// Answer settles all settlers once, with the error of the first call.
func TestEarlyAnswer_firstCallCounts(t *testing.T) {
	for name, test := range map[string]struct{ first, second error }{
		"answered, then ended": {nil, errDown},
		"ended, then answered": {errDown, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var e resilience.Early
			var h heard
			for token := range uint64(4) {
				if !e.Await(&h, token) {
					t.Fatal("Await returned false before the answer")
				}
			}
			if got := h.all(); got != nil {
				t.Fatalf("settled with %v before the answer", got)
			}
			e.Answer(test.first)
			e.Answer(test.second)
			slices.Sort(h.tokens)
			if !slices.Equal(h.tokens, []uint64{0, 1, 2, 3}) {
				t.Errorf("settled %v", h.tokens)
			}
			for _, err := range h.all() {
				if err != test.first {
					t.Errorf("settled with %v, want %v", err, test.first)
				}
			}
		})
	}
}

// Await does not keep a settler that comes after the answer: the policy settles it.
func TestEarlyAwait_afterTheAnswer(t *testing.T) {
	for name, waits := range map[string]bool{"a settler before": true, "no settler before": false} {
		t.Run(name, func(t *testing.T) {
			var e resilience.Early
			var early, late heard
			if waits {
				e.Await(&early, 1)
			}
			e.Answer(nil)
			if e.Await(&late, 2) {
				t.Error("Await returned true after the answer")
			}
			e.Answer(nil)
			if got := late.all(); got != nil {
				t.Errorf("settled with %v", got)
			}
		})
	}
}

// A settler that panics or calls Goexit does not keep the others from being settled.
func TestEarlyAnswer_settlerUnwinds(t *testing.T) {
	for name, abort := range testkit.Aborts("no") {
		for bad := range uint64(3) {
			t.Run(name, func(t *testing.T) {
				var e resilience.Early
				var h heard
				for token := range uint64(3) {
					e.Await(settler(func(token uint64, err error) {
						h.Settle(token, err)
						if token == bad {
							abort.Abort()
						}
					}), token)
				}
				if got := testkit.Unwind(func() error { e.Answer(errDown); return nil }); got != abort {
					t.Errorf("Answer ended with %v, want %v", got, abort)
				}
				e.Answer(nil)
				if got := h.all(); !slices.Equal(got, []error{errDown, errDown, errDown}) {
					t.Errorf("settled with %v", got)
				}
			})
		}
	}
}

// Two goroutines that answer at once settle each settler once: the handler of a stream
// may flush in another goroutine while it returns.
func TestEarlyAnswer_concurrent(t *testing.T) {
	for range 5000 {
		var e resilience.Early
		var n atomic.Int32
		count := settler(func(uint64, error) { n.Add(1) })
		e.Await(count, 1)
		e.Await(count, 2)
		ends := []error{nil, errDown}
		testkit.AtOnce(len(ends), func(i int) { e.Answer(ends[i]) })
		if n.Load() != 2 {
			t.Fatalf("two settlers were settled %d times", n.Load())
		}
	}
}

// earlyOp answers while it runs, or ends with err.
type earlyOp struct {
	resilience.Early
	err   error
	early bool
}

func (o *earlyOp) Run(context.Context) error {
	if o.early {
		o.Answer(nil)
	}
	o.Answer(o.err)
	return o.err
}

type plainOp struct{}

func (plainOp) Run(context.Context) error { return errDown }

// awaiting is a policy that holds a slot until the answer, as a limit does.
type awaiting struct{ heard }

func (p *awaiting) Apply(ctx context.Context, next resilience.Next) (err error) {
	if next.Await(p, 1) {
		return next.Run(ctx)
	}
	err = resilience.ErrAborted
	defer func() { next.Settle(resilience.Answered, err, p, 2) }()
	err = next.Run(ctx)
	return err
}

// A policy that uses Await, or else Settle, is settled once for each time it runs next.
func TestNextAwait(t *testing.T) {
	twice := apply(func(ctx context.Context, next resilience.Next) error {
		return errors.Join(next.Run(ctx), next.Run(ctx))
	})
	for name, test := range map[string]struct {
		op     resilience.Operation
		policy resilience.Policy
		want   error
		tokens []uint64
	}{
		"answers early":        {&earlyOp{early: true, err: errDown}, nil, nil, []uint64{1}},
		"ends":                 {&earlyOp{err: errDown}, nil, errDown, []uint64{1}},
		"runs twice":           {&earlyOp{err: errDown}, twice, errDown, []uint64{1, 2}},
		"a Func":               {resilience.Func(func(context.Context) error { return errDown }), nil, errDown, []uint64{2}},
		"cannot answer early":  {plainOp{}, nil, errDown, []uint64{2}},
		"Lasting, and answers": {&lasting{}, nil, nil, []uint64{2}},
	} {
		t.Run(name, func(t *testing.T) {
			var p awaiting
			_ = resilience.RunOperation(t.Context(), resilience.Compose(test.policy, &p), test.op)
			if l, ok := test.op.(*lasting); ok {
				l.Answer(l.run)
			}
			if !slices.Equal(p.tokens, test.tokens) {
				t.Errorf("settled %v, want %v", p.tokens, test.tokens)
			}
			for _, err := range p.all() {
				if err != test.want {
					t.Errorf("settled with %v, want %v", err, test.want)
				}
			}
		})
	}
}
