package testkit

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// AtOnce runs f on n goroutines, which begin together, and returns when all have
// returned. The goroutines spin until all are ready. If they waited for a channel, the
// first would have returned before the next one wakes up.
func AtOnce(n int, f func(i int)) {
	var ready atomic.Int64
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for ready.Add(1); ready.Load() < int64(n); {
				runtime.Gosched()
			}
			f(i)
		})
	}
	all.Wait()
}
