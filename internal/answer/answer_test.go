package answer_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/answer"
	"github.com/resilience-go/resilience/internal/testkit"
)

var errEnd = errors.New("the end")

// settler remembers with what it was settled.
type settler struct {
	mu     sync.Mutex
	tokens []uint64
	errs   []error
	then   func()
}

func (s *settler) Settle(token uint64, err error) {
	s.mu.Lock()
	s.tokens, s.errs = append(s.tokens, token), append(s.errs, err)
	s.mu.Unlock()
	if s.then != nil {
		s.then()
	}
}

func (s *settler) check(t *testing.T, want error, tokens ...uint64) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tokens) != len(tokens) {
		t.Fatalf("settled as %v, want %v", s.tokens, tokens)
	}
	for i, token := range tokens {
		if s.tokens[i] != token || s.errs[i] != want {
			t.Errorf("settled as %d with %v, want %d with %v", s.tokens[i], s.errs[i], token, want)
		}
	}
}

func TestOnlyTheFirstAnswerCounts(t *testing.T) {
	for name, test := range map[string]struct{ first, second error }{
		"answered, then ended": {nil, errEnd},
		"ended, then answered": {errEnd, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var e answer.Early
			var s settler
			if !e.Await(&s, 7) {
				t.Fatal("it does not wait")
			}
			s.check(t, nil)
			e.Answer(test.first)
			e.Answer(test.second)
			s.check(t, test.first, 7)
		})
	}
}

func TestAllWhoWaitAreSettledWithTheSame(t *testing.T) {
	var e answer.Early
	all := make([]settler, 4)
	for i := range all {
		e.Await(&all[i], uint64(i))
	}
	e.Answer(errEnd)
	for i := range all {
		all[i].check(t, errEnd, uint64(i))
	}
}

// A policy that is told no settles by itself; one that was told yes must not be
// forgotten. So somebody who comes too late is not kept.
func TestWhoComesAfterTheAnswerIsNotKept(t *testing.T) {
	for name, waits := range map[string]bool{"with somebody before": true, "with nobody before": false} {
		t.Run(name, func(t *testing.T) {
			var e answer.Early
			var early, late settler
			if waits {
				e.Await(&early, 1)
			}
			e.Answer(nil)
			if e.Await(&late, 2) {
				t.Error("it waits for what was")
			}
			e.Answer(nil)
			late.check(t, nil)
		})
	}
}

func TestASettlerThatUnwindsKeepsNobodyFromBeingSettled(t *testing.T) {
	for name, abort := range testkit.Aborts("no") {
		for bad := range 3 {
			t.Run(name, func(t *testing.T) {
				var e answer.Early
				all := make([]settler, 3)
				all[bad].then = abort.Abort
				for i := range all {
					e.Await(&all[i], 5)
				}
				if got := testkit.Unwind(func() error { e.Answer(errEnd); return nil }); got != abort {
					t.Errorf("it ended with %v, want %v", got, abort)
				}
				e.Answer(nil)
				for i := range all {
					all[i].check(t, errEnd, 5)
				}
			})
		}
	}
}

// The handler of a stream may flush on a goroutine of its own while it returns.
func TestTwoWhoAnswerAtOnceSettleOnce(t *testing.T) {
	for range 5000 {
		var e answer.Early
		var n atomic.Int32
		count := settler{then: func() { n.Add(1) }}
		e.Await(&count, 1)
		e.Await(&count, 2)
		ends := []error{nil, errEnd}
		testkit.AtOnce(len(ends), func(i int) { e.Answer(ends[i]) })
		if n.Load() != 2 {
			t.Fatalf("two waited, and %d were settled", n.Load())
		}
	}
}

// operation answers while it runs, or ends with err.
type operation struct {
	answer.Early
	err   error
	early bool
}

func (o *operation) Run(context.Context) error {
	if o.early {
		o.Answer(nil)
	}
	o.Answer(o.err)
	return o.err
}

type plain struct{}

func (plain) Run(context.Context) error { return errEnd }

// limiting holds something as a limit does.
type limiting struct{ settler }

func (l *limiting) Apply(ctx context.Context, next resilience.Next) (err error) {
	if next.Await(l, 1) {
		return next.Run(ctx)
	}
	err = resilience.ErrAborted
	defer func() { next.Settle(resilience.Answered, err, l, 2) }()
	err = next.Run(ctx)
	return err
}

func TestAPolicyIsSettledOnceForEachTimeItRuns(t *testing.T) {
	twice := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		return errors.Join(next.Run(ctx), next.Run(ctx))
	})
	for name, test := range map[string]struct {
		op     resilience.Operation
		policy resilience.Policy
		want   error
		tokens []uint64
	}{
		"answers early":                       {&operation{early: true, err: errEnd}, nil, nil, []uint64{1}},
		"ends":                                {&operation{err: errEnd}, nil, errEnd, []uint64{1}},
		"runs twice, and waits for the first": {&operation{err: errEnd}, twice, errEnd, []uint64{1, 2}},
		"is no operation that answers":        {resilience.Func(func(context.Context) error { return errEnd }), nil, errEnd, []uint64{2}},
		"is another that does not answer":     {plain{}, nil, errEnd, []uint64{2}},
	} {
		t.Run(name, func(t *testing.T) {
			var l limiting
			_ = resilience.RunOperation(t.Context(), resilience.Compose(test.policy, &l), test.op)
			l.check(t, test.want, test.tokens...)
		})
	}
}
