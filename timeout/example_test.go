package timeout_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/timeout"
)

func ExampleNew() {
	t, err := timeout.New(timeout.Config{Name: "users", Timeout: time.Millisecond})
	if err != nil {
		panic(err)
	}
	err = resilience.Run(context.Background(), t, func(ctx context.Context) error {
		<-ctx.Done() // a call that hangs, but watches its context
		return ctx.Err()
	})
	fmt.Println(err)
	fmt.Println(errors.Is(err, timeout.ErrExceeded), errors.Is(err, context.DeadlineExceeded))
	// Output:
	// timeout "users": not done within 1ms
	// true true
}

// download is an operation that goes on after it has answered, as an HTTP response
// does while its body is read. Over HTTP, httpmw.Transport has one.
type download struct {
	resilience.Tail
	run uint32
	ctx context.Context
}

func (d *download) Run(ctx context.Context) error {
	d.run, d.ctx = d.Begin(), ctx
	d.Answer(d.run) // the headers are there
	return nil
}

func (d *download) Close()   { d.End(d.run, nil) }
func (d *download) Discard() { d.End(d.run, context.Canceled) }

// With Until: resilience.Answered, the timeout applies to the answer and not to the body.
func ExampleNew_untilAnswered() {
	t, err := timeout.New(timeout.Config{Name: "files", Timeout: time.Second, Until: resilience.Answered})
	if err != nil {
		panic(err)
	}
	d := &download{}
	if err := resilience.RunOperation(context.Background(), t, d); err != nil {
		panic(err)
	}
	_, hasDeadline := d.ctx.Deadline()
	fmt.Println("while the body is read:", d.ctx.Err(), hasDeadline) // for hours, if necessary
	d.Close()
	fmt.Println("when it is closed:", d.ctx.Err())
	// Output:
	// while the body is read: <nil> false
	// when it is closed: context canceled
}
