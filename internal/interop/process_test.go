package interop_test

import (
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// usage holds the resources that the process uses. Goroutines and heap of toxiproxy do not
// count: a link that a toxic closed while data arrived stays forever, with up to 1024 buffers.
type usage struct {
	goroutines int
	files      int // 0 without /proc, toxiproxy's included
	heap       int64
}

// toxiproxys is in the name of each function of toxiproxy.
const toxiproxys = "github.com/Shopify/toxiproxy/"

func measure() usage {
	runtime.GC()
	runtime.GC() // the first one only empties pools
	files, _ := os.ReadDir("/proc/self/fd")
	return usage{len(stacks()), len(files), heap()}
}

// stacks returns the stacks of all goroutines except toxiproxy's.
func stacks() []string {
	buf := make([]byte, 1<<20)
	n := runtime.Stack(buf, true)
	for ; n == len(buf); n = runtime.Stack(buf, true) {
		buf = make([]byte, 2*len(buf))
	}
	return slices.DeleteFunc(strings.Split(string(buf[:n]), "\n\n"), func(stack string) bool {
		return strings.Contains(stack, toxiproxys)
	})
}

// heap returns the bytes that are in use, except those that toxiproxy allocated. TestMain
// sets the rate of the memory profile to every allocation.
func heap() (bytes int64) {
	n, _ := runtime.MemProfile(nil, false)
	var records []runtime.MemProfileRecord
	for ok := false; !ok; {
		records = make([]runtime.MemProfileRecord, n+100)
		n, ok = runtime.MemProfile(records, false)
	}
	for _, r := range records[:n] {
		if !onStack(r.Stack(), toxiproxys) {
			bytes += r.InUseBytes()
		}
	}
	return bytes
}

// onStack reports whether the name of a function on a stack contains name.
func onStack(stack []uintptr, name string) bool {
	for frames := runtime.CallersFrames(stack); ; {
		f, more := frames.Next()
		if strings.Contains(f.Function, name) {
			return true
		}
		if !more {
			return false
		}
	}
}

// connections counts the open connections of a server by its ConnState.
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

// slack is how many bytes the heap may grow by: caches of the standard library. A call that
// is never released takes more than a kilobyte.
const slack = 1 << 20

// settle waits until the process uses no more than before.
func settle(t *testing.T, before usage) {
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
