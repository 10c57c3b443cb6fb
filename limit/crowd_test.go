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

func TestRequestsThatWaitForAProcessorAreSeen(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	l := resilience.Must(limit.New(limit.Config{}))
	var most int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 300 {
		all.Go(func() {
			_ = resilience.Run(t.Context(), l, func(context.Context) error {
				mu.Lock()
				s := l.Stats()
				most = max(most, s.InFlight)
				mu.Unlock()
				for start := time.Now(); time.Since(start) < 200*time.Microsecond; {
				}
				return nil
			})
		})
	}
	all.Wait()
	if most < 64 {
		t.Errorf("300 requests waited for one processor, and the limit saw %d", most)
	}
}
