// Package counters has counters that many cores add to at once.
package counters

import (
	"sync/atomic"
	"unsafe"
)

const (
	lines = 8
	width = 8 // how many counters there are
)

// Set is a fixed set of counters that only grow. Each of its lines fills one
// cache line and holds all counters, so that a goroutine touches one line
// whatever it counts. The zero value is ready; it is safe for concurrent use.
//
// Put it first in a struct that is allocated on its own: the allocator then
// aligns it to a cache line.
type Set struct {
	line [lines][width]atomic.Uint64
}

// Add adds one to counter i.
func (c *Set) Add(i int) { c.line[pick()][i].Add(1) }

// Sum returns counter i. Additions that run meanwhile may or may not be in it.
func (c *Set) Sum(i int) (sum uint64) {
	for l := range c.line {
		sum += c.line[l][i].Load()
	}
	return sum
}

// pick spreads goroutines over the lines by the address of their stacks, which
// is free to read and stays the same while a goroutine works. The address is
// only hashed, never used as a pointer.
func pick() uint {
	var here byte
	// Fibonacci hashing; the top three bits of the product choose the line.
	return uint(uint32(uintptr(unsafe.Pointer(&here))>>11) * 0x9E3779B1 >> 29)
}
