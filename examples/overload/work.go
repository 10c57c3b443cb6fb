package main

import (
	"crypto/sha256"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// workload is a handler that reads the body of its request and then does real work: it
// hashes. It does not look at the time or at the context of its request.
type workload struct {
	rounds int
	done   atomic.Int64 // requests that are finished, abandoned ones included
	inside atomic.Int64 // requests in the handler
	most   atomic.Int64 // the largest that inside has been
}

// ServeHTTP implements http.Handler.
func (l *workload) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := l.inside.Add(1)
	defer l.inside.Add(-1)
	for most := l.most.Load(); n > most && !l.most.CompareAndSwap(most, n); most = l.most.Load() {
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the caller left
	}
	sum := hash(l.rounds)
	l.done.Add(1)
	_, _ = w.Write(sum[:4])
}

// hash returns a result that depends on every round, so that the compiler leaves none out.
func hash(rounds int) [sha256.Size]byte {
	var sum [sha256.Size]byte
	for range rounds {
		sum = sha256.Sum256(sum[:])
	}
	return sum
}

// calibrate returns how many rounds take d. It is the median of tries that are spread
// over a quarter of a second, so that another process that has the core during some
// of them changes nothing.
func calibrate(d time.Duration) int {
	const tries = 25
	rounds := 1000
	for range 3 { // to warm up, and to make the tries about as long as d
		rounds = max(1, int(float64(rounds)*d.Seconds()/timed(rounds).Seconds()))
	}
	took := make([]time.Duration, tries)
	for i := range took {
		time.Sleep(10 * time.Millisecond)
		took[i] = timed(rounds)
	}
	return max(1, int(float64(rounds)*d.Seconds()/demo.Percentile(took, 50).Seconds()))
}

// timed is never 0, whatever the clock's resolution.
func timed(rounds int) time.Duration {
	start := time.Now()
	hash(rounds)
	return max(time.Since(start), time.Microsecond)
}
