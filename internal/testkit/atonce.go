package testkit

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// AtOnce runs f on that many goroutines, which begin together, and waits for them.
// They spin, since of those that wait for a channel one is done when the next wakes
// up.
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
