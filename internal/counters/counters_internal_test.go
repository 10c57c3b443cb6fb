package counters

import (
	"sync"
	"testing"
	"unsafe"
)

// The sum is exact under 64 goroutines.
func TestSet_Sum_concurrency(t *testing.T) {
	var c Set
	var all sync.WaitGroup
	for g := range 64 {
		all.Go(func() {
			for range 1000 {
				c.Add(g % width)
			}
		})
	}
	all.Wait()
	for i := range width {
		if n := c.Sum(i); n != 64/width*1000 {
			t.Errorf("counter %d is %d", i, n)
		}
	}
}

// A sum never falls.
func TestSet_Sum_neverFalls(t *testing.T) {
	var c Set
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					c.Add(0)
				}
			}
		})
	}
	last := uint64(0)
	for range 10_000 {
		n := c.Sum(0)
		if n < last {
			t.Errorf("%d after %d", n, last)
		}
		last = n
	}
	close(stop)
	all.Wait()
}

// Goroutines spread over the lines.
func TestSet_spread(t *testing.T) {
	var c Set
	var ready, all sync.WaitGroup
	release := make(chan struct{})
	for range 256 {
		ready.Add(1)
		all.Go(func() {
			c.Add(0)
			ready.Done()
			<-release // so that no two goroutines have the same stack
		})
	}
	ready.Wait()
	close(release)
	all.Wait()
	used, most := 0, uint64(0)
	for l := range c.line {
		if n := c.line[l][0].Load(); n > 0 {
			used++
			most = max(most, n)
		}
	}
	if used < lines/2 || most > 128 {
		t.Errorf("256 goroutines use %d of %d lines, %d of them the same one", used, lines, most)
	}
}

// A line has the size of a cache line.
func TestSet_cacheLine(t *testing.T) {
	var c Set
	if n := unsafe.Sizeof(c.line[0]); n != 64 {
		t.Errorf("%d bytes", n)
	}
}
