package stack_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/stack"
)

// In three weeks with an outage every day or so, the end of each outage is noticed within
// seven seconds. No call fails long after an outage, and no goroutine is left.
func TestClient_weeksOfOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := stack.Client("users")
		r := rand.New(rand.NewPCG(1, 2))
		errDown := errors.New("down")
		down := false
		call := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			return resilience.Run(ctx, p, func(ctx context.Context) error {
				switch {
				case !down:
					return nil
				case r.IntN(10) == 0: // hangs
					<-ctx.Done()
					return ctx.Err()
				default:
					return errDown
				}
			})
		}
		goroutines := runtime.NumGoroutine()
		for start := time.Now(); time.Since(start) < 3*7*24*time.Hour; {
			down = true
			for end := time.Now().Add(time.Duration(r.IntN(600)) * time.Second); time.Now().Before(end); {
				_ = call()
				time.Sleep(500 * time.Millisecond)
			}
			down = false
			over := time.Now()
			for call() != nil {
				time.Sleep(100 * time.Millisecond)
			}
			if d := time.Since(over); d > 7*time.Second {
				t.Errorf("noticed after %v", d)
			}
			for range 200 {
				_ = call()
				time.Sleep(100 * time.Millisecond)
			}
			if err := call(); err != nil {
				t.Fatalf("long after an outage: %v", err)
			}
			time.Sleep(time.Duration(r.IntN(72)) * time.Hour)
		}
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%d goroutines, and %d at first", n, goroutines)
		}
	})
}
