package metrics_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/metrics"
	table "github.com/resilience-go/resilience/metrics/internal/series"
	"github.com/resilience-go/resilience/stack"
)

// checkLabels checks that every label has a value of the table, one of names or one of
// rules.
func checkLabels(t *testing.T, g prometheus.Gatherer, names, rules []string) {
	t.Helper()
	closed := map[string][]string{table.NameLabel: names, "rule": rules}
	for _, s := range transitions {
		closed["rule"] = append(closed["rule"], strings.SplitN(s, " ", 3)[2])
	}
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		i := slices.IndexFunc(table.All, func(m *table.Metric) bool { return m.Name == f.GetName() })
		if i < 0 {
			t.Errorf("%s is not in the table", f.GetName())
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				values := closed[l.GetName()]
				for _, of := range table.All[i].Labels {
					if of.Name == l.GetName() && of.Values != nil {
						values = of.Values
					}
				}
				if !slices.Contains(values, l.GetValue()) {
					t.Errorf("%s has the label %s=%q, want one of %q", f.GetName(), l.GetName(), l.GetValue(), values)
				}
			}
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// No label contains a host, a path, the text of an error, a status or a header.
func TestCollector_labelsFromClosedSets(t *testing.T) {
	const secret = "s3cret"
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			r.Body.Close()
		}
		if len(r.URL.Host)%2 == 0 {
			return nil, fmt.Errorf("dial %s: %w", r.URL, errors.New(secret+"\n\xff{}\""))
		}
		return &http.Response{
			StatusCode: 503, Status: "503 " + secret, Request: r, Body: io.NopCloser(strings.NewReader(secret)),
			Header: http.Header{"Retry-After": {secret}},
		}, nil
	})
	c := stack.DefaultClient("mine")
	c.Retry.BaseDelay = -1
	c.Breaker.Trip = []breaker.Rule{breaker.Consecutive{Failures: 2}}
	client := resilience.Compose(
		resilience.Must(metrics.NewHistogram(metrics.HistogramConfig{Name: "mine"})), resilience.Must(c.New()),
	)
	server := stack.Server("served")
	reg, _ := register(t, client, server)
	transport := &httpmw.Transport{Base: base, Policy: client}
	handler := httpmw.Server{Policy: server, Key: func(r *http.Request) string { return r.URL.Path }}.Wrap(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, r.URL.Path, http.StatusTeapot) }))
	for i, host := range []string{
		"tenant.example", "TENANT.example:443", "user:" + secret + "@h", "[::1%25eth0]:80", "a\"b", "a\nb", "a\xffb",
		"{name=\"x\"}", strings.Repeat("long.", 100), "", "mine",
	} {
		req := &http.Request{Method: "GET", URL: &url.URL{Scheme: "https", Host: host, Path: "/" + secret, User: url.UserPassword("u", secret)}, Header: http.Header{}}
		for range 3 {
			if resp, err := transport.RoundTrip(req); err == nil {
				resp.Body.Close()
			}
		}
		in := httptest.NewRequest("GET", "/", nil)
		in.URL.Path, in.Host = fmt.Sprintf("/%s/%d/%s", secret, i, host), host
		handler.ServeHTTP(httptest.NewRecorder(), in)
	}
	checkLabels(t, reg, []string{"mine", "served"}, []string{"Consecutive{Failures: 2}"})
	got := scrape(t, reg)
	if got[series("keyed_keys", "mine")] < 9 || got.sum("breaker_transitions_total", "mine") < 9 || got.sum("limit_calls_total", "served") != 11 {
		t.Errorf("nothing was tested: %v", got)
	}
	for s := range got {
		if strings.Contains(s, secret) || strings.Contains(s, "://") {
			t.Errorf("%s contains text of a peer", s)
		}
	}
}
