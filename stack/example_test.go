package stack_test

import (
	"context"
	"fmt"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/stack"
)

func ExampleClient() {
	p := stack.Client("users")
	user, err := resilience.Do(context.Background(), p, func(context.Context) (string, error) {
		return "Ada", nil
	})
	fmt.Println(user, err)
	// Output: Ada <nil>
}

func ExampleDefaultClient() {
	c := stack.DefaultClient("users")
	c.Attempt.Limit = 500 * time.Millisecond
	c.Keyed = nil // all calls go to one dependency
	p, err := c.New()
	if err != nil {
		panic(err)
	}
	err = resilience.Run(context.Background(), p, func(context.Context) error { return nil })
	fmt.Println(err)
	// Output: <nil>
}

func ExampleServer() {
	p := stack.Server("orders")
	err := resilience.Run(context.Background(), p, func(context.Context) error { return nil })
	fmt.Println(err)
	// Output: <nil>
}
