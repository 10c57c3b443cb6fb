package limit_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/limit"
)

// A Limit sees the requests that wait for a processor.
func TestLimit_processorQueue(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	most := 0
	for range 20 { // the scheduler gives no guarantee
		if most = max(most, seen(t)); most >= 64 {
			return
		}
	}
	t.Errorf("300 requests waited for one processor, and the limit saw %d", most)
}

// seen returns how many of 300 requests that only compute a limit had in flight at once.
func seen(t *testing.T) (most int) {
	l := resilience.Must(limit.New(limit.Config{}))
	var mu sync.Mutex // guards most
	var all sync.WaitGroup
	for range 300 {
		all.Go(func() {
			_ = resilience.Run(t.Context(), l, func(context.Context) error {
				mu.Lock()
				most = max(most, l.Stats().InFlight)
				mu.Unlock()
				for start := time.Now(); time.Since(start) < 200*time.Microsecond; {
				}
				return nil
			})
		})
	}
	all.Wait()
	return most
}
