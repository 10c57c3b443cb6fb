// Command http calls a flaky HTTP server through the default client stack. The
// server has the default server stack in front of its handler.
//
//	go run ./examples/http
//
// Its output shows that a 503 and an attempt that takes too long are retried if the
// request is safe to retry, and that a POST is sent once.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/stack"
)

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "http:", err)
		os.Exit(1)
	}
}

func run(w io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	orders := &shop{attempts: map[string]int{}}
	server := &http.Server{Handler: newHandler(orders)}
	go func() { _ = server.Serve(listener) }() // until Close
	defer server.Close()

	client := newClient()
	defer client.CloseIdleConnections()
	url := "http://" + listener.Addr().String()
	for _, request := range []string{"GET /orders/ready", "GET /orders/busy", "GET /orders/slow", "POST /orders/busy", "POST /orders/slow"} {
		method, path, _ := strings.Cut(request, " ")
		req, err := http.NewRequest(method, url+path, nil)
		if err != nil {
			return err
		}
		result := ""
		if resp, err := client.Do(req); err == nil {
			result = resp.Status
			resp.Body.Close()
		} else {
			result = "error: " + err.Error()
		}
		fmt.Fprintf(w, "%-18s attempts: %d, %s\n", request, orders.count(request), result)
	}
	return nil
}

// newClient returns a client that has a breaker, a bulkhead and a retry budget for
// each host. The timeout is for one attempt.
func newClient() *http.Client {
	c := stack.DefaultClient("orders")
	c.Attempt.Timeout = 100 * time.Millisecond
	client := &http.Client{Transport: &httpmw.Transport{Policy: resilience.Must(c.New())}}
	return client
}

// newHandler returns a handler with a limit in front of the orders, but not in front
// of the health check.
func newHandler(orders http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/orders/", httpmw.Server{Policy: stack.Server("orders")}.Wrap(orders))
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	return mux
}

// shop fails the first attempt of each request, except for /orders/ready.
type shop struct {
	mu       sync.Mutex
	attempts map[string]int // guarded by mu; by method and path
}

func (s *shop) add(request string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts[request]++
	return s.attempts[request]
}

func (s *shop) count(request string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts[request]
}

// ServeHTTP implements http.Handler.
func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	first := s.add(r.Method+" "+r.URL.Path) == 1
	switch {
	case first && r.URL.Path == "/orders/busy":
		http.Error(w, "busy", http.StatusServiceUnavailable)
	case first && r.URL.Path == "/orders/slow":
		<-r.Context().Done() // the client has left
	default:
		_, _ = io.WriteString(w, "shipped")
	}
}
