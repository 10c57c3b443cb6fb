// Package counters has counters that many cores can add to at the same time.
package counters

import (
	"sync/atomic"
	"unsafe"
)

const (
	// lines is how many copies a Set has of each counter. Eight copies make collisions of
	// cores rare and cost 512 bytes.
	lines = 8
	// width is the number of counters in a Set: 8 of 8 bytes fill a cache line.
	width = 8
)

// Set is a fixed set of counters that only grow. Each of its lines fills one cache line and
// holds all counters, so that a goroutine touches one line whatever it counts. The zero
// value is ready to use. A Set is safe for concurrent use.
//
// Make it the first field of a struct that is allocated on its own: the allocator then
// aligns it to a cache line.
type Set struct {
	line [lines][width]atomic.Uint64
}

// Add adds one to counter i.
func (c *Set) Add(i int) { c.line[pick()][i].Add(1) }

// Sum returns counter i. It may or may not include additions that run at the same time.
func (c *Set) Sum(i int) (sum uint64) {
	for l := range c.line {
		sum += c.line[l][i].Load()
	}
	return sum
}

// pick returns the line of the calling goroutine. It hashes the address of the goroutine's
// stack, which costs nothing to read and rarely changes. The address is never used as a
// pointer.
func pick() uint {
	var here byte
	// Fibonacci hashing; the top three bits of the product choose the line.
	return uint(uint32(uintptr(unsafe.Pointer(&here))>>11) * 0x9E3779B1 >> 29)
}
