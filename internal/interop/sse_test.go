package interop_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

// A stream of server-sent events outlives every timeout. Each timeout ends when the
// stream has begun, or the handler extends it through the writer.
func TestSSE_outlivesTimeouts(t *testing.T) {
	for _, kind := range []string{"HTTP/1", "HTTP/2"} {
		t.Run(kind, func(t *testing.T) {
			in := newDoors()
			s := httptest.NewUnstartedServer(in.Wrap(http.HandlerFunc(events)))
			s.Config.WriteTimeout = attemptLimit
			s.Config.ReadHeaderTimeout = attemptLimit
			s.EnableHTTP2 = kind == "HTTP/2"
			s.StartTLS()
			defer s.Close()
			base := s.Client().Transport.(*http.Transport)
			base.ResponseHeaderTimeout = attemptLimit
			defer base.CloseIdleConnections()
			out := newGuardOf(base, func(c *stack.ClientConfig) {
				c.Total = timeout.Config{Name: "total", Timeout: attemptLimit, Until: resilience.Answered}
			})

			start := time.Now()
			resp, err := out.client().Do(request(t, "GET", s.URL, nil))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			lines := bufio.NewScanner(resp.Body)
			n := 0
			for lines.Scan() {
				data, ok := strings.CutPrefix(lines.Text(), "data: ")
				if !ok {
					continue
				}
				if data != fmt.Sprint(n) {
					t.Fatalf("event %q, want %d", data, n)
				}
				n++
				if a, b := out.slots.Stats().InFlight, in.slots.Stats().InFlight; n < lastEvent && (a != 1 || b != 1) {
					t.Errorf("%d and %d slots are held in the stream, want 1 and 1", a, b)
				}
			}
			if err := lines.Err(); err != nil || n != lastEvent {
				t.Errorf("%d events and %v", n, err)
			}
			if took := time.Since(start); took < 2*attemptLimit {
				t.Errorf("the stream was over after %v", took)
			}
			free(t, out.slots, in.slots)
		})
	}
}

const lastEvent = 30

// events sends events for streamTime, each at its time.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	c := http.NewResponseController(w)
	for i := range lastEvent {
		if err := c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return
		}
		fmt.Fprintf(w, "data: %d\n\n", i)
		if err := c.Flush(); err != nil {
			return
		}
		time.Sleep(streamTime / lastEvent)
	}
}

// A reader that closes the stream ends the handler.
func TestSSE_readerCloses(t *testing.T) {
	in := newDoors()
	ended := make(chan struct{}, len(kinds))
	each(t, in.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { ended <- struct{}{} }()
		io.WriteString(w, "data: 0\n\n")
		w.(http.Flusher).Flush()
		hang(w, r)
	})), func(t *testing.T, url string, base *http.Transport) {
		out := newGuard(base)
		resp, err := out.client().Do(request(t, "GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		select {
		case <-ended:
		case <-time.After(patience / 2):
			t.Error("the handler goes on")
		}
		free(t, out.slots, in.slots)
	})
}
