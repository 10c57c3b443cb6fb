package stale_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/stale"
)

func ExampleNew() {
	rates, err := stale.New[float64](stale.Config{Name: "rates", MaxAge: time.Hour})
	if err != nil {
		panic(err)
	}
	fetch := func(currency string, rate float64, err error) {
		var p resilience.Policy // a stack, or nil for none
		rate, age, err := rates.Do(context.Background(), p, currency, func(context.Context) (float64, error) {
			return rate, err
		})
		fmt.Println(currency, rate, "stale:", age > 0, err)
	}
	down := errors.New("connection refused")
	fetch("EUR", 1.25, nil)
	fetch("EUR", 0, down) // 1.25 is remembered
	fetch("JPY", 0, down) // nothing is remembered for this key
	// Output:
	// EUR 1.25 stale: false <nil>
	// EUR 1.25 stale: true <nil>
	// JPY 0 stale: false connection refused
}
