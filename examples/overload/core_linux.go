package main

import (
	"math/bits"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"unsafe"
)

// cores is a set of cores, as the kernel takes it.
type cores [1024 / bits.UintSize]uint

func (c *cores) has(core int) bool { return c[core/bits.UintSize]>>(core%bits.UintSize)&1 == 1 }
func (c *cores) add(core int)      { c[core/bits.UintSize] |= 1 << (core % bits.UintSize) }
func (c *cores) remove(core int)   { c[core/bits.UintSize] &^= 1 << (core % bits.UintSize) }

// last returns the highest core of c, and how many there are.
func (c *cores) last() (core, n int) {
	for i := range len(c) * bits.UintSize {
		if c.has(i) {
			core, n = i, n+1
		}
	}
	return core, n
}

// affinity reads or sets the cores of a thread, 0 for the one that it runs on.
func affinity(call uintptr, thread int, c *cores) bool {
	_, _, errno := syscall.RawSyscall(call, uintptr(thread), unsafe.Sizeof(*c), uintptr(unsafe.Pointer(c)))
	return errno == 0
}

// machine is what this process may use, before it keeps itself off a core.
var machine = sync.OnceValues(func() (all cores, ok bool) {
	ok = affinity(syscall.SYS_SCHED_GETAFFINITY, 0, &all)
	return all, ok
})

// onOneCore runs start, which starts a process, on a thread that may use the core of
// the service only. The process inherits that. It reports whether there is such a core.
func onOneCore(start func() error) (held bool, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all, ok := machine()
	var own, one cores
	if !ok || !affinity(syscall.SYS_SCHED_GETAFFINITY, 0, &own) {
		return false, start()
	}
	core, _ := all.last()
	one.add(core)
	held = affinity(syscall.SYS_SCHED_SETAFFINITY, 0, &one)
	err = start()
	affinity(syscall.SYS_SCHED_SETAFFINITY, 0, &own)
	return held, err
}

// leaveCore keeps the threads of this process off the core of the service until
// restore is called. Threads that start meanwhile inherit that from those which
// start them. It reports whether there are other cores.
func leaveCore() (left bool, restore func()) {
	all, ok := machine()
	core, n := all.last()
	if !ok || n < 2 {
		return false, func() {}
	}
	others := all
	others.remove(core)
	return everyThread(&others), func() { everyThread(&all) }
}

func everyThread(c *cores) bool {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return false
	}
	set := len(threads) > 0
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		// A thread that has ended meanwhile needs nothing.
		if err == nil && !affinity(syscall.SYS_SCHED_SETAFFINITY, id, c) {
			_, err = os.Stat("/proc/self/task/" + t.Name())
			set = set && err != nil
		}
	}
	return set
}
