package retry

import (
	"math/rand/v2"
	"time"
)

// Exponential returns a Backoff that starts with base and doubles with each attempt, up
// to limit. jitter is the percentage of the wait that is random. With 100, full jitter,
// the wait is a random time between 0 and the bound; with 0 it is always the bound.
// Values out of range count as the nearest value in range. The result is safe for
// concurrent use.
//
// Full jitter keeps callers that failed together from retrying together; see Brooker,
// "Exponential Backoff And Jitter", 2015.
func Exponential(base, limit time.Duration, jitter int) func(attempt int) time.Duration {
	limit = max(0, limit)
	base = min(max(0, base), limit)
	percent := int64(min(max(0, jitter), 100))
	return func(attempt int) time.Duration {
		d := base
		for i := 1; i < attempt && 0 < d && d < limit; i++ {
			if d > limit/2 {
				d = limit
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
