package bulkhead_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
)

func ExampleNew() {
	b, err := bulkhead.New(bulkhead.Config{Name: "users"})
	if err != nil {
		panic(err)
	}
	user, err := resilience.Do(context.Background(), b, func(ctx context.Context) (string, error) {
		return "Ada", nil
	})
	fmt.Println(user, err)
	// Output: Ada <nil>
}

// A bulkhead of one slot without a queue rejects a second call at once.
func ExampleNew_slots() {
	b, err := bulkhead.New(bulkhead.Config{Name: "reports", Slots: 1, MaxQueue: bulkhead.NoQueue})
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

// A permit is for work that begins in one function and ends in another.
func ExampleBulkhead_Acquire() {
	b := resilience.Must(bulkhead.New(bulkhead.Config{Name: "exports", Slots: 1, MaxQueue: bulkhead.NoQueue}))
	work := func(done func(error)) { go done(nil) }

	permit, err := b.Acquire(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = b.Acquire(context.Background())
	fmt.Println(err)

	ended := make(chan bool)
	work(func(err error) {
		permit.Release(err)
		close(ended)
	})
	<-ended
	fmt.Println(b.Stats().InFlight, "in flight")
	// Output:
	// bulkhead "exports": rejected: full: queue is full: 1 in flight, as configured
	// 0 in flight
}

// Within one function, a deferred Release releases the slot even after a panic.
func ExamplePermit_Release() {
	b := resilience.Must(bulkhead.New(bulkhead.Config{Name: "exports"}))
	export := func(ctx context.Context) (err error) {
		permit, err := b.Acquire(ctx)
		if err != nil {
			return err
		}
		err = resilience.ErrAborted // what counts if the work panics
		defer func() { permit.Release(err) }()
		err = errors.New("disk full") // the work
		return err
	}
	fmt.Println(export(context.Background()))
	fmt.Println(b.Stats().InFlight, "in flight")
	// Output:
	// disk full
	// 0 in flight
}
