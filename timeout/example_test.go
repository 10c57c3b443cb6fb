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
	t, err := timeout.New(timeout.Config{Name: "users", Limit: time.Millisecond})
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
	// resilience: timeout "users" of 1ms exceeded
	// true true
}
