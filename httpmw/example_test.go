package httpmw_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/retry"
)

func ExampleTransport() {
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls++; calls == 1 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "attempt %s", r.Header.Get("Retry-Attempt"))
	}))
	defer server.Close()

	policy := resilience.Compose(
		resilience.Must(retry.New(retry.Config{Name: "payments", BaseDelay: time.Millisecond})),
		resilience.Must(breaker.New(breaker.Config{Name: "payments"})),
	)
	client := &http.Client{Transport: &httpmw.Transport{Policy: policy}}
	defer client.CloseIdleConnections()

	resp, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.Status, string(body))
	// Output: 200 OK attempt 2
}

// A POST that the server is known to handle twice without harm may be tried again.
func ExampleDefaultRetryable() {
	t := &httpmw.Transport{
		Policy: resilience.Must(retry.New(retry.Config{Name: "search"})),
		Retryable: func(req *http.Request, resp *http.Response, err error) bool {
			if req.Method == http.MethodPost && req.URL.Path == "/search" {
				req = &http.Request{Method: http.MethodGet} // judge it as one
			}
			return httpmw.DefaultRetryable(req, resp, err)
		},
	}
	search, _ := http.NewRequest(http.MethodPost, "http://example.com/search", nil)
	order, _ := http.NewRequest(http.MethodPost, "http://example.com/orders", nil)
	unavailable := &http.Response{StatusCode: http.StatusServiceUnavailable}
	fmt.Println(t.Retryable(search, unavailable, nil), t.Retryable(order, unavailable, nil))
	// Output: true false
}

func ExampleServer() {
	policy := resilience.Must(bulkhead.New(bulkhead.Config{Name: "orders", Limit: 1, MaxQueue: -1}))
	busy, done := make(chan bool), make(chan bool)
	orders := httpmw.Server{
		Policy: policy,
		Exempt: func(r *http.Request) bool { return r.URL.Path == "/healthz" },
	}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			busy <- true
			<-done
		}
	}))

	go func() {
		orders.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/slow", nil))
		close(busy)
	}()
	<-busy
	for _, path := range []string{"/orders", "/healthz"} {
		w := httptest.NewRecorder()
		orders.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		fmt.Println(path, w.Code, w.Header().Get("Retry-After"))
	}
	close(done)
	<-busy
	// Output:
	// /orders 503 1
	// /healthz 200
}

func ExampleHostKey() {
	r, _ := http.NewRequest(http.MethodGet, "https://API.example.com/users/7", nil)
	fmt.Println(httpmw.HostKey(r))
	// Output: https://api.example.com:443
}
