package limit_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/limit"
)

// early is an operation that answers while it runs.
type early struct {
	resilience.Early
	body func(answer func(error)) error
}

func (e *early) Run(context.Context) (err error) {
	err = resilience.ErrAborted
	defer func() { e.Answer(err) }()
	err = e.body(e.Answer)
	return err
}

// An operation that answers while it runs frees its slot when it answers.
func TestLimit_earlyAnswerFreesSlot(t *testing.T) {
	l := newLimit(t, limit.Config{Max: 1, MaxQueue: -1})
	err := resilience.RunOperation(t.Context(), l, &early{body: func(answer func(error)) error {
		if n := l.Stats().InFlight; n != 1 {
			t.Errorf("%d in flight before the answer", n)
		}
		answer(nil)
		if s := l.Stats(); s.InFlight != 0 || s.Useful != 1 {
			t.Errorf("after the answer: %+v", s)
		}
		if err := resilience.Run(t.Context(), l, succeed); err != nil {
			t.Errorf("the place is not free: %v", err)
		}
		return errDown
	}})
	if err != errDown {
		t.Errorf("error %v", err)
	}
	atRest(t, l, 2)
}

// An operation that ends without an answer frees its slot once.
func TestLimit_noAnswerFreesSlotOnce(t *testing.T) {
	bodies := map[string]func() error{
		"success": func() error { return nil }, "failure": func() error { return errDown },
	}
	for name, end := range testkit.Aborts("boom") {
		bodies[name] = func() error { end.Abort(); return nil }
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			l := newLimit(t, limit.Config{})
			testkit.Unwind(func() error {
				return resilience.RunOperation(t.Context(), l, &early{body: func(func(error)) error { return body() }})
			})
			testkit.Unwind(func() error { return resilience.Run(t.Context(), l, func(context.Context) error { return body() }) })
			if s := l.Stats(); s.Useful != 2 || s.Abandoned != 0 {
				t.Errorf("%+v", s)
			}
			atRest(t, l, 2)
		})
	}
}

// A run after the answer holds its slot to its end, since an operation answers only
// once.
func TestLimit_secondRunHoldsSlot(t *testing.T) {
	l := newLimit(t, limit.Config{})
	op := &early{body: func(func(error)) error {
		if n := l.Stats().InFlight; n != 1 {
			t.Errorf("%d in flight", n)
		}
		return nil
	}}
	for range 2 {
		if err := resilience.RunOperation(t.Context(), l, op); err != nil {
			t.Error(err)
		}
	}
	atRest(t, l, 2)
}

// An operation that goes on after it has returned frees its slot when it answers or
// ends.
func TestLimit_lastingAnswerFreesSlot(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*streamed)
		gone uint64
	}{
		"it answers":            {func(s *streamed) { s.Answer(s.run) }, 0},
		"it ends":               {func(s *streamed) { s.End(s.run, nil) }, 0},
		"it fails":              {func(s *streamed) { s.End(s.run, errDown) }, 0},
		"its caller leaves":     {func(s *streamed) { s.End(s.run, context.Canceled) }, 1},
		"its deadline passes":   {func(s *streamed) { s.End(s.run, context.DeadlineExceeded) }, 1},
		"it was refused inside": {func(s *streamed) { s.End(s.run, &resilience.Rejection{Policy: "inner"}) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLimit(t, limit.Config{Max: 1, MaxQueue: -1})
			s := &streamed{}
			if err := resilience.RunOperation(t.Context(), l, s); err != nil {
				t.Fatal(err)
			}
			if n := l.Stats().InFlight; n != 1 {
				t.Errorf("%d in flight before", n)
			}
			c.end(s)
			if got := l.Stats(); got.InFlight != 0 || got.Abandoned != c.gone || got.Useful != 1-c.gone {
				t.Errorf("after: %+v", got)
			}
			s.End(s.run, errDown) // once more
			atRest(t, l, 1)
		})
	}
}

// A request counts as abandoned if its caller left before its end, and else as useful.
func TestLimit_abandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(t, limit.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		_ = resilience.Run(ctx, l, func(context.Context) error { cancel(); return nil })
		if s := l.Stats(); s.Abandoned != 1 || s.Useful != 0 {
			t.Errorf("the caller left: %+v", s)
		}
		// A timeout that the handler has set is not the caller's.
		_ = resilience.Run(t.Context(), l, func(context.Context) error { return context.DeadlineExceeded })
		if s := l.Stats(); s.Abandoned != 1 || s.Useful != 1 {
			t.Errorf("a call of the handler timed out: %+v", s)
		}
		atRest(t, l, 2)
	})
}

// If ctx is already done, Apply runs nothing and counts nothing.
func TestLimitApply_doneContext(t *testing.T) {
	l := newLimit(t, limit.Config{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errDown)
	var inner error
	_ = resilience.Run(t.Context(), testkit.Policy(func(_ context.Context, next resilience.Next) error {
		inner = l.Apply(ctx, next)
		return nil
	}), func(context.Context) error { t.Error("it runs"); return nil })
	if inner == nil || inner.Error() != "context canceled: down" {
		t.Errorf("error %v", inner)
	}
	atRest(t, l, 0)
}
