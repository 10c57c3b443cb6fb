package retry_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/retry"
)

func ExampleNew() {
	r, err := retry.New(retry.Config{Name: "users", BaseDelay: time.Millisecond})
	if err != nil {
		panic(err)
	}
	user, err := resilience.Do(context.Background(), r, func(ctx context.Context) (string, error) {
		if resilience.Attempt(ctx) < 3 {
			return "", errors.New("connection refused")
		}
		return "Ada", nil
	})
	fmt.Println(user, err)
	// Output: Ada <nil>
}

func ExamplePermanent() {
	r := resilience.Must(retry.New(retry.Config{Name: "users"}))
	invalid := errors.New("invalid name")
	err := resilience.Run(context.Background(), r, func(context.Context) error {
		fmt.Println("runs once")
		return retry.Permanent(invalid)
	})
	fmt.Println(errors.Is(err, invalid))
	// Output:
	// runs once
	// true
}

func ExampleAfter() {
	r := resilience.Must(retry.New(retry.Config{Name: "users", MaxDelay: time.Second}))
	err := resilience.Run(context.Background(), r, func(context.Context) error {
		return retry.After(errors.New("come back in an hour"), time.Hour)
	})
	fmt.Println(err)
	// Output: resilience: retry "users" gave up after 1 attempt (asked to wait too long): come back in an hour
}

func ExampleExponential() {
	backoff := retry.Exponential(100*time.Millisecond, time.Second, 0)
	fmt.Println(backoff(1), backoff(2), backoff(10))
	// Output: 100ms 200ms 1s
}
