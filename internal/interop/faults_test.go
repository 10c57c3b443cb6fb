package interop_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// phases are the states of the connection, one after another. A toxic is set before the
// first connection is made, because changing the toxics of a connection in use can block
// the proxy forever.
var phases = []struct {
	name   string
	toxics []string
	flaps  bool // the proxy stops and starts
}{
	{name: "healthy"},
	{name: "slow", toxics: []string{`{"type": "latency", "attributes": {"latency": 40, "jitter": 40}}`}},
	{name: "answers are reset", toxics: []string{`{"type": "reset_peer", "toxicity": 0.5, "attributes": {"timeout": 5}}`}},
	{name: "requests are reset", toxics: []string{`{"type": "reset_peer", "stream": "upstream", "toxicity": 0.5}`}},
	{name: "bodies are cut", toxics: []string{`{"type": "limit_data", "attributes": {"bytes": 150000}}`}},
	{name: "narrow", toxics: []string{`{"type": "bandwidth", "toxicity": 0.7, "attributes": {"rate": 200}}`}},
	{name: "black hole", toxics: []string{`{"type": "timeout", "toxicity": 0.7, "attributes": {"timeout": 400}}`}},
	{name: "comes and goes", flaps: true},
	{name: "all at once", toxics: []string{
		`{"type": "latency", "toxicity": 0.5, "attributes": {"latency": 100, "jitter": 100}}`,
		`{"type": "bandwidth", "toxicity": 0.3, "attributes": {"rate": 300}}`,
		`{"type": "limit_data", "toxicity": 0.3, "attributes": {"bytes": 100000}}`,
		`{"type": "timeout", "stream": "upstream", "toxicity": 0.2, "attributes": {"timeout": 300}}`,
	}},
	{name: "healthy again"},
}

// faultRate is the number of calls that begin per second, whatever their results.
const faultRate = 300

// duration returns how long the calls go on: long, or short with -short and on 32 bits,
// where CI runs all tests a second time.
func duration(t *testing.T, long, short time.Duration) time.Duration {
	if s := os.Getenv("FAULTS"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatalf("FAULTS: %v", err)
		}
		return d
	}
	if brief() {
		return short
	}
	return long
}

func brief() bool { return testing.Short() || strconv.IntSize == 32 }

// network is the proxy between the clients and the server. Its address changes.
type network struct {
	api      *toxiproxy.ApiServer
	upstream string
	address  atomic.Value // of the proxy, a string
}

func newNetwork(upstream string) *network {
	return &network{api: toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), upstream: upstream}
}

// dial connects to the present address of the proxy.
func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", n.address.Load().(string))
}

// up starts a proxy. Stopping it cuts its connections.
func (n *network) up(t *testing.T, toxics ...string) *toxiproxy.Proxy {
	t.Helper()
	p := toxiproxy.NewProxy(n.api, "test", "127.0.0.1:0", n.upstream)
	for _, toxic := range toxics {
		if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			t.Fatalf("%s: %v", toxic, err)
		}
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	n.address.Store(p.Listen)
	return p
}

// suffer runs the network through all phases and leaves a healthy proxy.
func (n *network) suffer(t *testing.T, total time.Duration) *toxiproxy.Proxy {
	for _, phase := range phases {
		end := time.Now().Add(total / time.Duration(len(phases)))
		for phase.flaps && time.Now().Before(end) {
			p := n.up(t)
			time.Sleep(150 * time.Millisecond)
			p.Stop()
			time.Sleep(100 * time.Millisecond)
		}
		p := n.up(t, phase.toxics...)
		time.Sleep(time.Until(end))
		p.Stop()
	}
	return n.up(t)
}

// dependency answers with the requested number of kilobytes, sometimes late or with 503.
func dependency() http.Handler {
	var n atomic.Int64
	chunk := strings.Repeat("x", 1024)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, err := readAll(r.Body)
		if err != nil {
			return // the client has left or the network has failed
		}
		switch i := n.Add(1); {
		case i%50 == 0:
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		case i%60 == 0:
			time.Sleep(2 * faultLimit)
		}
		w.Header().Set("Got", fmt.Sprint(size))
		kilobytes := 1
		if r.URL.Path == "/large" {
			kilobytes = 64
		}
		for range kilobytes {
			if _, err := w.Write([]byte(chunk)); err != nil {
				return
			}
		}
	})
}

// faultyServer is a dependency for both versions of HTTP, behind doors.
func faultyServer(t *testing.T, in doors) (*httptest.Server, *connections) {
	s := httptest.NewUnstartedServer(in.Wrap(dependency()))
	conns := &connections{open: map[net.Conn]bool{}}
	s.Config.ConnState = conns.note
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s, conns
}

// load makes calls at faultRate until the time is over, and waits until they have ended.
func load(t *testing.T, call func(i int), during func()) {
	t.Helper()
	stop := make(chan struct{})
	var calls, pace sync.WaitGroup
	pace.Go(func() {
		start := time.Now()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Until(start.Add(time.Duration(i) * time.Second / faultRate))):
				calls.Go(func() { call(i) })
			}
		}
	})
	during()
	close(stop)
	pace.Wait()
	over := make(chan struct{})
	go func() {
		calls.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(patience):
		t.Fatalf("calls go on:\n%s", strings.Join(stacks(), "\n\n"))
	}
}

// Network faults leave nothing behind: every call has ended, every body is closed, each
// layer has counted each outcome, and the process uses no more than before.
func TestFaults(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // the runtime opens its own files now
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	before := measure()

	in := newDoors()
	server, conns := faultyServer(t, in)
	network := newNetwork(server.Listener.Addr().String())
	first := network.up(t) // no connection bypasses it
	clients := []*faulty{newFaulty("HTTP/1", network), newFaulty("h2c", network)}

	var proxy *toxiproxy.Proxy
	load(t, func(i int) { clients[i%len(clients)].call(t.Context(), i/len(clients)) }, func() {
		first.Stop()
		proxy = network.suffer(t, duration(t, 30*time.Second, 5*time.Second))
	})

	for _, c := range clients {
		c.recovers(t)
		c.account(t)
	}
	free(t, in.slots)
	eventually(t, "the server has no connection", func() bool {
		for _, c := range clients {
			c.CloseIdleConnections() // the last connections may have been busy before
		}
		open, _ := conns.count()
		return open == 0
	})
	proxy.Stop()
	_, all := conns.count()
	t.Logf("%d connections", all)
	server.Close()
	settle(t, before)
	runtime.KeepAlive(clients)
	runtime.KeepAlive(network)
}

// recovers waits until calls succeed again.
func (c *faulty) recovers(t *testing.T) {
	t.Helper()
	eventually(t, c.name+" has recovered", func() bool {
		before := c.tally.ok.Load()
		c.call(t.Context(), 0)
		return c.tally.ok.Load() > before
	})
}
