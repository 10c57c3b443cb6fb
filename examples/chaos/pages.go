package main

import (
	"fmt"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/debug"
	"github.com/resilience-go/resilience/examples/internal/demo"
	"github.com/resilience-go/resilience/metrics"
)

const index = `<!doctype html>
<title>chaos</title>
<p>The protected system of <code>examples/chaos</code>:
<ul>
<li><a href="/metrics">/metrics</a>, for Prometheus
<li><a href="/debug/resilience">/debug/resilience</a>, why a breaker is open
</ul>
`

// newPages returns a handler of /metrics and /debug/resilience for some policies.
func newPages(policies []resilience.Policy) (http.Handler, error) {
	collector, err := metrics.NewCollector(policies...)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(collector); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("/debug/resilience", debug.Handler(policies...))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(index))
	})
	return mux, nil
}

// openPages serves the pages and returns their address.
func openPages(addr string, policies []resilience.Policy, l *link) (string, error) {
	h, err := newPages(policies)
	if err != nil {
		return "", err
	}
	s, err := demo.Serve(addr, h, l.fail)
	if err != nil {
		return "", fmt.Errorf("no pages for -listen: %w: choose another address", err)
	}
	return s.Addr.String(), nil
}

// browse returns the URL with which a browser on this machine opens an address, which
// may be all interfaces.
func browse(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && net.ParseIP(host).IsUnspecified() {
		addr = net.JoinHostPort("localhost", port)
	}
	return "http://" + addr + "/"
}
