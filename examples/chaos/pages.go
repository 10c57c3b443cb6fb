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
<li><a href="/debug/resilience">/debug/resilience</a>, why is it open?
</ul>
`

// newPages is all that an operator needs of the policies of a program.
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

// openPages serves them and returns the address.
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

// browse returns what a browser on this machine is to open to see what is served at
// an address, be that all interfaces.
func browse(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && net.ParseIP(host).IsUnspecified() {
		addr = net.JoinHostPort("localhost", port)
	}
	return "http://" + addr + "/"
}
