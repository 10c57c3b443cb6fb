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
	b := resilience.Must(breaker.New(breaker.Config{Name: "hosts", Trip: []breaker.Rule{breaker.Consecutive{Failures: 3}}}))
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

// Over HTTP and gRPC the operation has a key: a host, a method. Elsewhere For names one. A
// key in Config.Keys has its own policy.
func ExampleGroup_For() {
	b := resilience.Must(breaker.New(breaker.Config{Name: "hosts", Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}}))
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

// setMode sets the mode of all breakers in p: first of templates and of policies in
// Config.Keys, then of the keys that are remembered. A new key takes the mode of its
// template.
func setMode(p resilience.Policy, m breaker.Mode) {
	for n := range resilience.Walk(p) {
		if b, ok := n.Policy.(*breaker.Breaker); ok {
			b.SetMode(m)
		}
	}
}

// All returns the forks only. resilience.Walk also returns the template and the policies of
// Config.Keys. A maintenance window is for all of them.
func ExampleGroup_All() {
	newBreaker := func(name string) *breaker.Breaker {
		return resilience.Must(breaker.New(breaker.Config{Name: name}))
	}
	hosts := resilience.Must(keyed.New(newBreaker("hosts"), keyed.Config{
		Keys: map[string]resilience.Policy{"batch": newBreaker("batch")},
	}))
	call := func(host string) {
		err := resilience.Run(context.Background(), hosts.For(host), func(context.Context) error { return nil })
		fmt.Println(host, err)
	}
	call("eu")
	setMode(hosts, breaker.ForcedOpen)
	call("eu")
	call("us") // a new key
	call("batch")
	setMode(hosts, breaker.Auto)
	call("eu")
	// Output:
	// eu <nil>
	// eu breaker "hosts" for "eu": rejected: open: forced open
	// us breaker "hosts" for "us": rejected: open: forced open
	// batch breaker "batch": rejected: open: forced open
	// eu <nil>
}
