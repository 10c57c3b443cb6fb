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

// usage holds the resources that the process uses.
type usage struct {
	goroutines int // without toxiproxy's
	files      int // 0 without /proc
	heap       uint64
	links      int // of toxiproxy that are stuck, each with its buffers
}

func measure() usage {
	runtime.GC()
	runtime.GC() // the first one only empties pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, _ := os.ReadDir("/proc/self/fd")
	ours, links := stacks()
	return usage{len(ours), len(files), m.HeapAlloc, links}
}

// stacks returns the stacks of all goroutines except toxiproxy's, and the number of
// toxiproxy's links. A link that a toxic closed while data arrived stays forever.
func stacks() (ours []string, links int) {
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
		switch {
		case strings.Contains(stack, "toxiproxy/v2.(*ToxicLink).read("):
			links++
		case !strings.Contains(stack, "github.com/Shopify/toxiproxy/"):
			ours = append(ours, stack)
		}
	}
	return ours, links
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

// The bytes by which the heap may grow: caches of the standard library, and the content
// of each stuck link. A call that is never released takes more than a kilobyte.
const (
	slack     = 2 << 20
	slackLink = 160 << 10
)

// settle waits until the process uses no more than before.
func settle(t *testing.T, before usage) {
	t.Helper()
	var now usage
	defer func() {
		t.Logf("before %+v, after %+v", before, now)
		if t.Failed() && now.goroutines > before.goroutines {
			ours, _ := stacks()
			t.Log(strings.Join(ours, "\n\n"))
		}
	}()
	eventually(t, "goroutines, files and heap are back where they were", func() bool {
		now = measure()
		return now.goroutines <= before.goroutines && now.files <= before.files &&
			now.heap <= before.heap+slack+slackLink*uint64(now.links)
	})
}
