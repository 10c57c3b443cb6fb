package interop_test

import (
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// usage is what the process has in use.
type usage struct {
	goroutines int // those of toxiproxy aside
	files      int // 0 where /proc is not there
	heap       uint64
}

func measure() usage {
	runtime.GC()
	runtime.GC() // what the first one only took out of pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, _ := os.ReadDir("/proc/self/fd")
	return usage{len(stacks()), len(files), m.HeapAlloc}
}

// stacks returns the stacks of all goroutines, those of toxiproxy aside.
func stacks() (all []string) {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		if !strings.Contains(stack, "github.com/Shopify/toxiproxy/") {
			all = append(all, stack)
		}
	}
	return all
}

// connections counts those that a server has open, as its ConnState.
type connections struct {
	mu   sync.Mutex
	open map[net.Conn]bool
	all  int
}

func (c *connections) note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.open[conn] = true
		c.all++
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	}
}

func (c *connections) count() (open, all int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open), c.all
}

// settle waits until the process uses no more than before, but for a heap that may
// have grown by slack.
func settle(t *testing.T, before usage, slack uint64) {
	t.Helper()
	var now usage
	defer func() {
		t.Logf("before %+v, after %+v", before, now)
		if t.Failed() && now.goroutines > before.goroutines {
			t.Log(strings.Join(stacks(), "\n\n"))
		}
	}()
	eventually(t, "goroutines, files and heap are back where they were", func() bool {
		now = measure()
		return now.goroutines <= before.goroutines && now.files <= before.files && now.heap <= before.heap+slack
	})
}
