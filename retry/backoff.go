package retry

import (
	"math/rand/v2"
	"time"
)

// Exponential returns a Backoff that starts with base and doubles with each attempt, up
// to bound. jitter is the percentage of the wait that is random. With 100, full jitter,
// the wait is a random time between 0 and that value; with 0 it is always that value.
// Values out of range count as the nearest value in range. The result is safe for
// concurrent use.
//
// Full jitter keeps callers that failed together from retrying together; see Brooker,
// "Exponential Backoff And Jitter", 2015.
func Exponential(base, bound time.Duration, jitter int) func(attempt int) time.Duration {
	bound = max(0, bound)
	base = min(max(0, base), bound)
	percent := int64(min(max(0, jitter), 100))
	return func(attempt int) time.Duration {
		d := base
		for i := 1; i < attempt && 0 < d && d < bound; i++ {
			if d > bound/2 {
				d = bound
			} else {
				d *= 2
			}
		}
		random := int64(d)/100*percent + int64(d)%100*percent/100 // the product could overflow
		if random == 0 {
			return d
		}
		return d - time.Duration(rand.Int64N(random)) - 1
	}
}
