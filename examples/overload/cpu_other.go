//go:build !unix

package main

import "time"

// cpuTime returns the time that this process has had of all cores, in its own code
// and in the kernel; ok is false where that cannot be known.
func cpuTime() (d time.Duration, ok bool) { return 0, false }
