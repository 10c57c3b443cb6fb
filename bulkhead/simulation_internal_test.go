package bulkhead

import (
	"container/heap"
	"math"
	"testing"
	"time"
)

// ending is a call of a simulation.
type ending struct {
	at, took int64
	n        int64
	timedOut bool
}

type endings []ending

func (e endings) Len() int { return len(e) }
func (e endings) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e endings) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *endings) Push(x any)   { *e = append(*e, x.(ending)) }
func (e *endings) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// simulate makes a call every 5 ms for a minute. takes returns how long the n-th one would take
// if it began at that time. Calls time out after a second. It returns how often c has begun.
func simulate(c *congestion, takes func(n int, at int64) int64) (begun int) {
	const every, patience = 5e6, 1e9
	var in endings
	for n := 1; n <= 12_000; n++ {
		at := int64(n) * every
		for len(in) > 0 && in[0].at <= at {
			e, before := heap.Pop(&in).(ending), c.window
			if e.timedOut {
				c.timedOut(e.at, e.took, e.n, int64(n-1), int64(len(in)+1), false)
			} else {
				c.succeeded(e.at, e.took, e.n, int64(n-1))
			}
			if before == 0 && c.window > 0 {
				begun++
			}
		}
		took := min(takes(n, at), patience)
		heap.Push(&in, ending{at + took, took, int64(n), took == patience})
	}
	return begun
}

// A replica that hangs, one that pauses, and a pause of the whole dependency are no congestion.
func TestCongestion_begins_never(t *testing.T) {
	pause := func(length, each int64) func(int, int64) int64 {
		return func(_ int, at int64) int64 {
			if since := at % each; since >= each-length {
				return each - since + 5e6
			}
			return 5e6
		}
	}
	for name, takes := range map[string]func(n int, at int64) int64{
		"half of the replicas hang": func(n int, _ int64) int64 { return []int64{5e6, 9e9}[n%2] },
		"most of the replicas hang": func(n int, _ int64) int64 { return []int64{100e6, 9e9, 9e9, 9e9}[n%4] },
		"everything hangs":          func(_ int, at int64) int64 { return []int64{5e6, 9e9}[at/31e9] },
		"hangs and recovers":        func(_ int, at int64) int64 { return []int64{5e6, 9e9, 5e6}[at/21e9] },
		"pauses of 1.5 s":           pause(1.5e9, 10e9),
		"pauses of 0.9 s":           pause(0.9e9, 4e9),
		"pauses of 3 s":             pause(3e9, 15e9),
		"slow and no timeouts":      func(int, int64) int64 { return 950e6 },
		"a fifth time out":          func(n int, _ int64) int64 { return []int64{900e6, 900e6, 900e6, 900e6, 2e9}[n%5] },
	} {
		t.Run(name, func(t *testing.T) {
			if n := simulate(new(congestion), takes); n != 0 {
				t.Errorf("begun %d times", n)
			}
		})
	}
}

// A queue that grows until calls time out is a congestion, before the next timeout is over.
func TestCongestion_begins_queue(t *testing.T) {
	var c congestion
	queue, begun := int64(0), int64(0)
	simulate(&c, func(n int, at int64) int64 {
		queue += 10e6 // each call takes 10 ms, one after another
		if took := queue - at; c.window > 0 && begun == 0 {
			begun = at
		} else if took < 1e9 {
			return took
		}
		queue -= 1e6 // some leave the queue
		return 1e9
	})
	if begun == 0 || begun > 4*second {
		t.Errorf("begun at %v", time.Duration(begun))
	}
}

// finite reports whether f is a number that is not negative.
func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) && f >= 0 }
