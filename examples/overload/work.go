package main

import (
	"crypto/sha256"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/resilience-go/resilience/examples/internal/demo"
)

// workload is a handler that does real work: it hashes, and knows neither when it
// has worked long enough nor whether its caller is still there.
type workload struct {
	rounds int
	done   atomic.Int64 // requests worked off, whoever waits for them
	inside atomic.Int64 // requests in the handler
	most   atomic.Int64 // the largest that inside has been
}

// ServeHTTP implements http.Handler.
func (l *workload) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	n := l.inside.Add(1)
	defer l.inside.Add(-1)
	for most := l.most.Load(); n > most && !l.most.CompareAndSwap(most, n); most = l.most.Load() {
	}
	sum := hash(l.rounds)
	l.done.Add(1)
	_, _ = w.Write(sum[:4])
}

// hash returns what depends on every round, so that none can be left out.
func hash(rounds int) [sha256.Size]byte {
	var sum [sha256.Size]byte
	for range rounds {
		sum = sha256.Sum256(sum[:])
	}
	return sum
}

// calibrate returns how many rounds take d. It is the median of tries that are spread
// over a quarter of a second, so that it does not matter if something else had the
// core during some of them.
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
