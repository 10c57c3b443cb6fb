package migrating_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
	"github.com/sony/gobreaker/v2"
)

// show makes a GET and a POST to a server that always answers with 503. Each uses a new
// client. It prints the number of requests and the result of the call.
func show(name string, newClient func() *http.Client) {
	var n atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	for _, method := range []string{"GET", "POST"} {
		req, err := http.NewRequest(method, server.URL, strings.NewReader("content"))
		if err != nil {
			panic(err)
		}
		n.Store(0)
		client := newClient()
		resp, err := client.Do(req)
		got := "an error"
		if err == nil {
			resp.Body.Close()
			got = resp.Status
		}
		client.CloseIdleConnections()
		fmt.Printf("%s: %s, %d requests, %s\n", name, method, n.Load(), got)
	}
}

func Example_retryablehttp() {
	show("before", retryableBefore)
	show("after", retryableAfter)
	show("nearest", retryableNearest)
	// Output:
	// before: GET, 3 requests, an error
	// before: POST, 3 requests, an error
	// after: GET, 3 requests, 503 Service Unavailable
	// after: POST, 1 requests, 503 Service Unavailable
	// nearest: GET, 3 requests, 503 Service Unavailable
	// nearest: POST, 3 requests, 503 Service Unavailable
}

func retryableBefore() *http.Client {
	c := retryablehttp.NewClient()
	c.RetryMax = 2
	c.RetryWaitMin, c.RetryWaitMax = 50*time.Millisecond, 2*time.Second
	c.HTTPClient.Timeout = 3 * time.Second // per attempt, with its body
	c.Logger = slog.New(slog.DiscardHandler)
	client := c.StandardClient()
	return client
}

func retryableAfter() *http.Client {
	c := stack.DefaultClient("payments")
	c.Retry.MaxAttempts = 3 // RetryMax plus the first
	c.Retry.BaseDelay, c.Retry.MaxDelay = 50*time.Millisecond, 2*time.Second
	c.Attempt.Timeout = 3 * time.Second // per attempt, until answered
	c.Observer = resilience.LogObserver(slog.New(slog.DiscardHandler))
	policy := resilience.Must(c.New())
	client := &http.Client{Transport: &httpmw.Transport{Policy: policy}}
	return client
}

func retryableNearest() *http.Client {
	c := stack.DefaultClient("payments")
	c.Without = stack.Breaker | stack.Bulkhead
	c.Retry.MaxAttempts = 3
	c.Retry.Budget = retry.NoBudget // retry while everything fails, too
	c.Retry.MaxDelay = 2 * time.Second
	c.Retry.Backoff = retry.Exponential(50*time.Millisecond, 2*time.Second, 0) // no jitter
	c.Attempt.Timeout = 3 * time.Second
	client := &http.Client{Transport: &httpmw.Transport{
		Policy: resilience.Must(c.New()),
		Retryable: func(_ *http.Request, resp *http.Response, err error) bool {
			get := &http.Request{Method: http.MethodGet} // treat each request as a GET
			return httpmw.DefaultRetryable(get, resp, err)
		},
	}}
	return client
}

// signed is a Base that signs each attempt.
type signed struct {
	base http.RoundTripper
	sign func(*http.Request) string
}

func (s *signed) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context()) // a RoundTripper must not change the request
	req.Header.Set("Signature", s.sign(req))
	resp, err := s.base.RoundTrip(req)
	n := resilience.Attempt(req.Context())
	slog.DebugContext(req.Context(), "attempt", "number", n, "error", err)
	return resp, err
}

// A RoundTripper inside the transport is a hook for each attempt.
func Example_base() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Header.Get("Signature"))
		if r.Header.Get("Retry-Attempt") == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	n := 0
	policy := stack.Client("payments")
	client := &http.Client{Transport: &httpmw.Transport{
		Base:   &signed{base: http.DefaultTransport, sign: func(*http.Request) string { n++; return fmt.Sprint("signature ", n) }},
		Policy: policy,
	}}
	resp, err := client.Get(server.URL)
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	// Output:
	// signature 1
	// signature 2
	// 200 OK
}

func Example_failsafehttp() {
	show("before", failsafeBefore)
	show("after", failsafeAfter)
	show("nearest", failsafeNearest)
	// Output:
	// before: GET, 3 requests, an error
	// before: POST, 3 requests, an error
	// after: GET, 3 requests, 503 Service Unavailable
	// after: POST, 1 requests, 503 Service Unavailable
	// nearest: GET, 3 requests, 503 Service Unavailable
	// nearest: POST, 3 requests, 503 Service Unavailable
}

func failsafeBefore() *http.Client {
	again := failsafehttp.NewRetryPolicyBuilder().
		WithBackoff(50*time.Millisecond, time.Second).
		Build()
	circuit := circuitbreaker.NewBuilder[*http.Response]().
		HandleIf(func(resp *http.Response, err error) bool {
			return err != nil || resp.StatusCode >= 500
		}).
		WithFailureThreshold(7).
		WithDelay(5 * time.Second).
		Build()
	limit := timeout.New[*http.Response](3 * time.Second)
	client := &http.Client{Transport: failsafehttp.NewRoundTripper(nil, again, circuit, limit)}
	return client
}

func failsafeAfter() *http.Client {
	c := stack.DefaultClient("payments")
	c.Attempt.Timeout = 3 * time.Second // per attempt, until answered, as before
	policy := resilience.Must(c.New())
	client := &http.Client{Transport: &httpmw.Transport{Policy: policy}}
	return client
}

func failsafeNearest() *http.Client {
	c := stack.DefaultClient("payments")
	c.Without = stack.Keyed | stack.Bulkhead // one state for all hosts
	c.Retry.Budget = retry.NoBudget
	c.Retry.Backoff = retry.Exponential(50*time.Millisecond, time.Second, 0)
	c.Breaker.Trip = []breaker.Rule{breaker.Consecutive{Failures: 7}}
	c.Breaker.OpenFor = 5 * time.Second
	c.Breaker.CloseAfter = 1
	c.Attempt.Timeout = 3 * time.Second
	client := &http.Client{Transport: &httpmw.Transport{
		Policy: resilience.Must(c.New()),
		Retryable: func(_ *http.Request, resp *http.Response, err error) bool {
			get := &http.Request{Method: http.MethodGet}
			return httpmw.DefaultRetryable(get, resp, err)
		},
	}}
	return client
}

// guarded is a RoundTripper around a breaker.
type guarded struct {
	base    http.RoundTripper
	breaker *gobreaker.CircuitBreaker[*http.Response]
}

var errStatus = errors.New("the server failed")

func (g *guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.breaker.Execute(func() (*http.Response, error) {
		resp, err := g.base.RoundTrip(req)
		if err == nil && resp.StatusCode >= 500 {
			err = errStatus // for the breaker; the caller gets the response
		}
		return resp, err
	})
	if errors.Is(err, errStatus) {
		return resp, nil
	}
	return resp, err
}

func Example_gobreaker() {
	show("before", gobreakerBefore)
	show("after", gobreakerAfter)
	show("nearest", gobreakerNearest)
	// Output:
	// before: GET, 1 requests, 503 Service Unavailable
	// before: POST, 1 requests, 503 Service Unavailable
	// after: GET, 3 requests, 503 Service Unavailable
	// after: POST, 1 requests, 503 Service Unavailable
	// nearest: GET, 1 requests, 503 Service Unavailable
	// nearest: POST, 1 requests, 503 Service Unavailable
}

func gobreakerBefore() *http.Client {
	circuit := gobreaker.NewCircuitBreaker[*http.Response](gobreaker.Settings{Name: "payments"})
	client := &http.Client{Transport: &guarded{http.DefaultTransport, circuit}}
	return client
}

func gobreakerAfter() *http.Client {
	c := stack.DefaultClient("payments")
	c.Attempt.Timeout = 3 * time.Second // before: none, or http.Client.Timeout
	policy := resilience.Must(c.New())
	client := &http.Client{Transport: &httpmw.Transport{Policy: policy}}
	return client
}

func gobreakerNearest() *http.Client {
	c := stack.DefaultClient("payments")
	c.Without = stack.Keyed | stack.Retry | stack.Bulkhead | stack.Attempt // the breaker alone
	c.Breaker = breaker.Config{
		Trip:       []breaker.Rule{breaker.Consecutive{Failures: 6}},
		OpenFor:    time.Minute,
		CloseAfter: 1,
	}
	client := &http.Client{Transport: &httpmw.Transport{Policy: resilience.Must(c.New())}}
	return client
}

// In MetricsOnly the breakers count what they would reject, and reject nothing.
func Example_trial() {
	policy := stack.Client("payments")
	for n := range resilience.Walk(policy) {
		if b, ok := n.Policy.(*breaker.Breaker); ok {
			b.SetMode(breaker.MetricsOnly) // counts what it would reject
		}
	}
	client := &http.Client{Transport: &httpmw.Transport{Policy: policy}}
	show("trial", func() *http.Client { return client })
	// Output:
	// trial: GET, 3 requests, 503 Service Unavailable
	// trial: POST, 1 requests, 503 Service Unavailable
}
