package cascade_test

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Requests that begin at the same time share the cores.
func TestCores_shared(t *testing.T) {
	for _, c := range []struct {
		name       string
		cores      float64
		work, over []time.Duration
	}{
		{"a core for each", 2, []time.Duration{10 * ms, 30 * ms}, []time.Duration{10 * ms, 30 * ms}},
		{"one for both, until one is over", 1, []time.Duration{10 * ms, 30 * ms}, []time.Duration{20 * ms, 40 * ms}},
		{"two for three", 2, []time.Duration{10 * ms, 10 * ms, 10 * ms}, []time.Duration{15 * ms, 15 * ms, 15 * ms}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shared, start := &cores{n: c.cores}, time.Now()
				over := make([]time.Duration, len(c.work))
				var all sync.WaitGroup
				for i, busy := range c.work {
					all.Go(func() {
						shared.run(busy)
						over[i] = time.Since(start)
					})
				}
				all.Wait()
				for i := range over {
					if d := over[i] - c.over[i]; d < 0 || d > time.Microsecond {
						t.Errorf("%v of work are over after %v, want %v", c.work[i], over[i], c.over[i])
					}
				}
			})
		})
	}
}

// The work of requests has the mean that it should have, with every seed. The column
// "good" relies on this.
func TestDraws_average(t *testing.T) {
	for name, takes := range map[string]quantile{
		"exponential": exponential, "fixed": fixed, "uniform": halfToOneAndAHalf, "log-normal": logNormal,
		"one in a hundred": oneInAHundred, "two routes": twoRoutes,
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(3) {
				work, sum := newDraws(takes, rand.New(rand.NewPCG(seed, 1))), 0.
				const n = 20 * strata
				for range n {
					sum += work.next()
				}
				if math.Abs(sum/n-1) > 0.01 {
					t.Errorf("seed %d: %.4f on average, want 1", seed, sum/n)
				}
			}
		})
	}
}
