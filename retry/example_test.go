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

// The error has the number of attempts and the reason why there were no more.
func ExampleError() {
	users := resilience.Must(retry.New(retry.Config{Name: "users", BaseDelay: time.Millisecond}))
	ctx, refused := context.Background(), errors.New("connection refused")

	err := resilience.Run(ctx, users, func(context.Context) error { return refused })
	if e, ok := errors.AsType[*retry.Error](err); ok {
		fmt.Println(e.Attempts, "attempts:", e.Reason)
	}
	fmt.Println(errors.Is(err, refused))

	// Three attempts in a row have failed, so there are no retries until a call succeeds.
	fmt.Println(resilience.Run(ctx, users, func(context.Context) error { return refused }))
	// Output:
	// 3 attempts: out of attempts
	// true
	// retry "users": gave up after 1 attempt: all failing: last error: connection refused
}

// Inside another retry, an inner retry makes one attempt from the outer retry's second
// attempt on: five calls, not nine. If the inner retry is for another dependency, use
// WithAttempt to mark its calls as first attempts.
func ExampleRetry() {
	config := retry.Config{BaseDelay: time.Millisecond, Budget: retry.NoBudget} // retries while everything fails
	users, rates := resilience.Must(retry.New(config)), resilience.Must(retry.New(config))
	ctx, calls := context.Background(), 0
	fetch := func(context.Context) error { calls++; return errors.New("connection refused") }

	_ = resilience.Run(ctx, users, func(ctx context.Context) error {
		fmt.Println("attempt", resilience.Attempt(ctx))
		return resilience.Run(ctx, rates, fetch)
	})
	fmt.Println(calls, "calls")

	calls = 0
	_ = resilience.Run(ctx, users, func(ctx context.Context) error {
		return resilience.Run(resilience.WithAttempt(ctx, 1), rates, fetch)
	})
	fmt.Println(calls, "calls")
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
	// 5 calls
	// 9 calls
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
	// Output: retry "users": gave up after 1 attempt: wait too long: last error: come back in an hour
}

func ExampleExponential() {
	backoff := retry.Exponential(100*time.Millisecond, time.Second, 0)
	fmt.Println(backoff(1), backoff(2), backoff(10))
	// Output: 100ms 200ms 1s
}
