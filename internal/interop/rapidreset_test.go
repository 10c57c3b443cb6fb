package interop_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/limit"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Streams that clients reset at once (CVE-2023-44487) leave no slot taken and no goroutine
// behind.
func TestServer_rapidReset(t *testing.T) {
	front := resilience.Must(limit.New(limit.Config{Name: "orders"}))
	workers := make(chan struct{}, 4)
	s := httptest.NewUnstartedServer(httpmw.Server{Policy: front}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		workers <- struct{}{}
		defer func() { <-workers }()
		time.Sleep(2 * time.Millisecond) // does not watch its context
	})))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	defer s.Close()
	before := runtime.NumGoroutine()
	var attackers sync.WaitGroup
	for range 4 {
		attackers.Go(func() {
			for range 3 {
				resetStreams(t, s.Listener.Addr().String(), 200)
			}
		})
	}
	attackers.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) && (front.Stats().InFlight > 0 || runtime.NumGoroutine() > before+4) {
		time.Sleep(10 * time.Millisecond)
	}
	if st := front.Stats(); st.InFlight != 0 || st.Queued != 0 {
		t.Errorf("left behind: %+v", st.Gauges)
	}
	if n := runtime.NumGoroutine(); n > before+4 {
		t.Errorf("%d goroutines, and %d before", n, before)
	}
	if st := front.Stats(); st.Useful+st.Abandoned+st.Canceled+st.Shed+st.QueueFull == 0 {
		t.Error("no request arrived")
	}
}

// resetStreams opens n streams on one connection and resets each after a moment.
func resetStreams(t *testing.T, addr string, n uint32) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Error(err)
		return
	}
	frames := http2.NewFramer(c, nil)
	if err := frames.WriteSettings(); err != nil {
		t.Error(err)
		return
	}
	drained := make(chan struct{})
	go func() { defer close(drained); _, _ = io.Copy(io.Discard, c) }()
	defer func() { c.Close(); <-drained }()
	var headers bytes.Buffer
	encoder := hpack.NewEncoder(&headers)
	for id := uint32(1); id < 2*n; id += 2 {
		headers.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "x"}} {
			_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // into memory
		}
		err := frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: headers.Bytes(), EndHeaders: true, EndStream: true})
		if err != nil {
			return // the server may close the connection
		}
		time.Sleep(100 * time.Microsecond)
		if frames.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			return
		}
	}
}
