package fallback_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/fallback"
)

func ExampleNew() {
	f, err := fallback.New(fallback.Config{
		Name: "audit",
		Handle: func(_ context.Context, err error) error {
			fmt.Println("kept for later:", err)
			return nil
		},
	})
	if err != nil {
		panic(err)
	}
	err = resilience.Run(context.Background(), f, func(context.Context) error {
		return errors.New("connection refused")
	})
	fmt.Println(err)
	// Output:
	// kept for later: connection refused
	// <nil>
}

func ExampleDo() {
	fetch := func(context.Context) (float64, error) { return 0, errors.New("connection refused") }
	cached := func(context.Context, error) (float64, error) { return 1.25, nil }

	var p resilience.Policy // a stack, or nil for none
	rate, err := fallback.Do(context.Background(), p, fetch, cached)
	fmt.Println(rate, err)
	// Output: 1.25 <nil>
}
