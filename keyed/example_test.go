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

// Over HTTP and gRPC the key is that of the operation: a host, a method. An
// exception has a policy of its own.
func ExampleGroup_For() {
	b := resilience.Must(breaker.New(breaker.Config{Name: "hosts", Trip: []breaker.Rule{breaker.Consecutive(1)}}))
	g := resilience.Must(keyed.New(b, keyed.Config{
		Name: "hosts",
		Keys: map[string]resilience.Policy{"batch": resilience.Compose()}, // no breaker
	}))
	ctx := context.Background()
	for _, key := range []string{"eu", "batch"} {
		_ = resilience.Run(ctx, g.For(key), func(context.Context) error { return errors.New("refused") })
		fmt.Println(key, resilience.Run(ctx, g.For(key), func(context.Context) error { return nil }) == nil)
	}
	fmt.Println(g.Stats().Keys, "key remembered")
	// Output:
	// eu false
	// batch true
	// 1 key remembered
}

// What is done to the template does not reach the breakers that are there: they are
// in All. It is for those that are made later.
func ExampleGroup_All() {
	template := resilience.Must(breaker.New(breaker.Config{Name: "hosts"}))
	hosts := resilience.Must(keyed.New(template, keyed.Config{Name: "hosts"}))
	call := func(host string) error {
		return resilience.Run(context.Background(), hosts.For(host), func(context.Context) error { return nil })
	}
	fmt.Println(call("eu"))

	template.SetMode(breaker.ForcedOpen) // of hosts that come later
	for _, p := range hosts.All() {      // of hosts that have come
		for q := range resilience.All(p) {
			if b, ok := q.(*breaker.Breaker); ok {
				b.SetMode(breaker.ForcedOpen)
			}
		}
	}
	fmt.Println(call("eu"))
	fmt.Println(call("us"))
	// Output:
	// <nil>
	// resilience: rejected by breaker "hosts" for "eu": open, forced open
	// resilience: rejected by breaker "hosts" for "us": open, forced open
}
