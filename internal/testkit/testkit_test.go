package testkit_test

import (
	"context"
	"errors"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
)

var errBoom = errors.New("boom")

func TestUnwindTellsHowAFunctionEnded(t *testing.T) {
	for _, want := range []error{nil, errBoom} {
		if e := testkit.Unwind(func() error { return want }); e != (testkit.Ending{Err: want}) {
			t.Errorf("ended with %+v, want error %v", e, want)
		}
	}
	for name, how := range testkit.Aborts(errBoom) {
		if e := testkit.Unwind(func() error { how.Abort(); return nil }); e != how {
			t.Errorf("%s: ended with %+v", name, e)
		}
	}
}

func TestALastingOperationIsHeldUntilItsMoments(t *testing.T) {
	var heard []string
	at := func(name string) settler { return func(error) { heard = append(heard, name) } }
	op := &testkit.Lasting{Mute: true}
	p := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		err := next.Run(ctx)
		next.Settle(resilience.Answered, err, at("answered"), 0)
		next.Settle(resilience.Ended, err, at("ended"), 0)
		return err
	})
	for i, step := range []func(){
		func() { _ = resilience.RunOperation(t.Context(), p, op) }, op.Reply, op.Discard,
	} {
		if step(); len(heard) != i {
			t.Errorf("step %d: heard %v", i, heard)
		}
	}
}

type settler func(error)

func (s settler) Settle(_ uint64, err error) { s(err) }
