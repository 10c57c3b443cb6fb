package limit

import (
	"math/rand/v2"
	"sync"
)

// Seed makes the samples of l and its forks follow from seed. It must be called before the
// first request.
func (l *Limit) Seed(seed uint64) {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 0))
	l.random = func() uint32 {
		mu.Lock()
		defer mu.Unlock()
		return r.Uint32()
	}
}
