package keyed_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/keyed"
)

func ExampleNew() {
	b := resilience.Must(breaker.New(breaker.Config{Name: "hosts", Trip: []breaker.Rule{breaker.Consecutive(3)}}))
	g, err := keyed.New(b, keyed.Config{Name: "hosts"})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	for range 3 {
		_ = resilience.Run(ctx, g.For("eu"), func(context.Context) error { return errors.New("refused") })
	}
	err = resilience.Run(ctx, g.For("eu"), func(context.Context) error { return nil })
	fmt.Println("eu is open:", errors.Is(err, breaker.ErrOpen))
	err = resilience.Run(ctx, g.For("us"), func(context.Context) error { return nil })
	fmt.Println("us:", err)
	// Output:
	// eu is open: true
	// us: <nil>
}
