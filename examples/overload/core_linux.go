package main

import (
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// cores is a set of cores, in the kernel's format.
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

// machine is the set of cores that this process may use, before leaveCore.
var machine = sync.OnceValues(func() (all cores, ok bool) {
	ok = affinity(syscall.SYS_SCHED_GETAFFINITY, 0, &all)
	return all, ok
})

// onOneCore calls start, which starts a process, on a thread that may use only the
// service's core. The process inherits this. held reports whether that worked.
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

// leaveCore keeps the threads of this process off the core of the service until restore
// is called. A thread that starts later inherits this from the thread that starts it.
// left reports whether there are other cores.
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

// coreWait returns how long the threads of a process have waited for a core that another
// process had. ok is false if it is unknown. An idle thread does not wait for a core.
func coreWait(process int) (d time.Duration, ok bool) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", process))
	if err != nil {
		return 0, false
	}
	for _, t := range threads {
		text, err := os.ReadFile(t)
		var ran, waited int64
		if err != nil {
			continue // the thread has ended
		}
		if _, err := fmt.Sscan(string(text), &ran, &waited); err != nil {
			return 0, false
		}
		d += time.Duration(waited)
	}
	return d, len(threads) > 0
}

func everyThread(c *cores) bool {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return false
	}
	set := len(threads) > 0
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		// A thread that has ended since ReadDir needs nothing.
		if err == nil && !affinity(syscall.SYS_SCHED_SETAFFINITY, id, c) {
			_, err = os.Stat("/proc/self/task/" + t.Name())
			set = set && err != nil
		}
	}
	return set
}
