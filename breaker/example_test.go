package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
)

func ExampleNew() {
	b, err := breaker.New(breaker.Config{Name: "users"})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = resilience.Run(context.Background(), b, func(ctx context.Context) error {
		return nil // call the dependency
	})
	fmt.Println(err, b.State())
	// Output: <nil> CLOSED
}

// A breaker as other libraries have it: five failures in a row open it for half
// a minute, and the first success closes it.
func ExampleConfig() {
	b := resilience.Must(breaker.New(breaker.Config{
		Name:       "users",
		Trip:       []breaker.Rule{breaker.Consecutive(5)},
		OpenFor:    30 * time.Second,
		CloseAfter: 1,
	}))
	for range 5 {
		_ = resilience.Run(context.Background(), b, func(context.Context) error { return errors.New("connection refused") })
	}
	err := resilience.Run(context.Background(), b, func(context.Context) error { return nil })
	fmt.Println(b.State(), errors.Is(err, breaker.ErrOpen))
	// Output: OPEN true
}
