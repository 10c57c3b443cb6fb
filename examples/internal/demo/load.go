package demo

import (
	"context"
	"sync"
	"time"
)

// OpenLoop calls each send at every instant of a schedule, in goroutines of their own,
// whether or not earlier calls have returned: independent users send like that. A send
// gets the index in the schedule and the instant at which it was to be called.
// OpenLoop returns when all calls have returned, with ctx's error if that ended it.
func OpenLoop(ctx context.Context, start time.Time, schedule []time.Duration, sends ...func(i int, intended time.Time)) error {
	var calls sync.WaitGroup
	defer calls.Wait()
	for i, d := range schedule {
		intended := start.Add(d)
		time.Sleep(time.Until(intended))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, send := range sends {
			calls.Go(func() { send(i, intended) })
		}
	}
	calls.Wait()
	return ctx.Err()
}
