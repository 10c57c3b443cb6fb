package bulkhead_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
)

func ExampleNew() {
	// One call at a time, and nobody waits.
	b, err := bulkhead.New(bulkhead.Config{Name: "reports", Limit: 1, MaxQueue: -1})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = resilience.Run(context.Background(), b, func(ctx context.Context) error {
		second := resilience.Run(ctx, b, func(context.Context) error { return nil })
		fmt.Println(errors.Is(second, bulkhead.ErrFull))
		return nil
	})
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}
