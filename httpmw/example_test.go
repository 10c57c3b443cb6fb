package httpmw_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing/fstest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/debug"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
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

	client := &http.Client{Transport: &httpmw.Transport{Policy: stack.Client("payments")}}
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

func ExampleEndpoints() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "paid")
	}))
	defer server.Close()

	c := stack.DefaultClient("payments")
	c.Attempt.Timeout = time.Second // a hang costs a call that much
	client := &http.Client{Transport: &httpmw.Transport{
		Policy: resilience.Must(c.New()),
		Base:   &httpmw.Endpoints{},
	}}
	defer client.CloseIdleConnections()

	resp, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.Status, string(body))
	// Output: 200 OK paid
}

// One of three replicas is down. The addresses come from a list, and the debug page shows
// the state of each.
func ExampleEndpoints_resolve() {
	var addresses []string
	for range 3 {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, r.Host)
		}))
		defer server.Close()
		addresses = append(addresses, server.Listener.Addr().String())
		if len(addresses) == 1 {
			server.Close()
		}
	}

	policy := stack.Client("payments")
	replicas := &httpmw.Endpoints{
		Name:     "payments-http",
		Observer: resilience.LogObserver(nil),
		Every:    httpmw.NoRefresh,
		Resolve: func(ctx context.Context, host, port string) ([]string, error) {
			return addresses, nil // such as "10.0.0.1:8080", "10.0.0.2:8080"
		},
	}
	client := &http.Client{Transport: &httpmw.Transport{Policy: policy, Base: replicas}}
	defer client.CloseIdleConnections()
	http.Handle("/debug/resilience", debug.Handler(policy, replicas.Policy()))

	answered := 0
	for range 100 {
		resp, err := client.Post("http://payments.internal/charge", "text/plain", strings.NewReader("1 EUR"))
		if err != nil {
			fmt.Println(err)
			continue
		}
		if body, _ := io.ReadAll(resp.Body); string(body) == "payments.internal" {
			answered++
		}
		resp.Body.Close()
	}
	fmt.Println(answered, "of 100")
	// Output: 100 of 100
}

// Two hosts that fail: one gets what all get, the other has settings of its own.
func ExampleTransport_hosts() {
	var requests atomic.Int32
	down := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		http.Error(w, "down", http.StatusServiceUnavailable)
	})
	users, reports := httptest.NewServer(down), httptest.NewServer(down)
	defer users.Close()
	defer reports.Close()

	slow := stack.DefaultClient("reports")
	slow.Attempt.Timeout = time.Minute                 // a report takes long
	slow.Without = stack.Retry | stack.Keyed           // too expensive to repeat; a stack for one host
	host := resilience.Must(httpmw.KeyOf(reports.URL)) // such as "https://reports.example.com:443"

	c := stack.DefaultClient("partners") // for all other hosts, each with a state of its own
	c.Attempt.Timeout = 500 * time.Millisecond
	c.Retry.BaseDelay = time.Millisecond
	c.Keyed.Keys = map[string]resilience.Policy{host: resilience.Must(slow.New())}
	client := &http.Client{Transport: &httpmw.Transport{Policy: resilience.Must(c.New())}}

	for _, url := range []string{users.URL + "/7", reports.URL + "/2024"} {
		requests.Store(0)
		resp, err := client.Get(url)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(resp.Status, "after", requests.Load(), "requests")
	}
	// Output:
	// 503 Service Unavailable after 3 requests
	// 503 Service Unavailable after 1 requests
}

// The limit of an attempt is for the time up to the headers. The body may take as
// long as it likes, and so may the caller that reads it.
func ExampleTransport_download() {
	proceed := make(chan bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "the first half, ")
		http.NewResponseController(w).Flush()
		<-proceed
		io.WriteString(w, "the second half")
	}))
	defer server.Close()

	now := clock.NewMock() // an hour shall pass at once here
	c := stack.DefaultClient("files")
	c.Attempt.Timeout = 5 * time.Second
	c.Attempt.Clock = now
	client := &http.Client{Transport: &httpmw.Transport{Policy: resilience.Must(c.New())}}

	resp, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	now.Add(time.Hour)
	close(proceed)
	body, err := io.ReadAll(resp.Body)
	fmt.Println(string(body), err)
	// Output: the first half, the second half <nil>
}

// A body that can be read once more is sent once more. One that is made while it is
// sent is gone after the first attempt, whose response the caller gets.
func ExampleTransport_upload() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Retry-Attempt") == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintf(w, "%q of %d bytes", body, r.ContentLength)
	}))
	defer server.Close()
	policy := resilience.Must(retry.New(retry.Config{Name: "files", BaseDelay: time.Millisecond}))
	client := &http.Client{Transport: &httpmw.Transport{Policy: policy}}
	put := func(req *http.Request) {
		resp, err := client.Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		fmt.Println(resp.StatusCode, string(answer))
	}

	// http.NewRequest sets GetBody for what is in memory: bytes.Reader,
	// bytes.Buffer and strings.Reader.
	text, _ := http.NewRequest(http.MethodPut, server.URL, strings.NewReader("a text"))
	put(text)

	// A file can be opened again.
	files := fstest.MapFS{"report": {Data: []byte("a file")}}
	open := func() (io.ReadCloser, error) { return files.Open("report") }
	file, _ := open()
	upload, _ := http.NewRequest(http.MethodPut, server.URL, file)
	upload.GetBody = open
	upload.ContentLength = 6 // known here, and else unknown
	put(upload)

	r, w := io.Pipe()
	go func() {
		io.WriteString(w, "a stream")
		w.Close()
	}()
	stream, _ := http.NewRequest(http.MethodPut, server.URL, r)
	put(stream)
	// Output:
	// 200 "a text" of 6 bytes
	// 200 "a file" of 6 bytes
	// 503 "a stream" of -1 bytes
}

// Old rates are better than none. For other requests there is no such answer, and the
// caller gets what it would have got.
func ExampleTransport_fallback() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "down", http.StatusServiceUnavailable)
	}))
	defer server.Close()

	const old = `{"EUR": 1.25}`
	client := &http.Client{Transport: &httpmw.Transport{
		Policy: resilience.Must(retry.New(retry.Config{Name: "bank", BaseDelay: time.Millisecond})),
		Fallback: func(req *http.Request, _ error) *http.Response {
			if req.Method != http.MethodGet || req.URL.Path != "/rates" {
				return nil
			}
			return &http.Response{
				Status:        "200 OK",
				StatusCode:    http.StatusOK,
				Header:        http.Header{"Content-Type": {"application/json"}},
				Body:          io.NopCloser(strings.NewReader(old)),
				ContentLength: int64(len(old)),
			}
		},
	}}

	for _, path := range []string{"/rates", "/accounts"} {
		resp, err := client.Get(server.URL + path)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Printf("%s %s\n", resp.Status, body)
	}
	// Output:
	// 200 OK {"EUR": 1.25}
	// 503 Service Unavailable down
}

// send makes one request of a client that retries, to a server that is busy at the
// first attempt, and prints how the server answered.
func send(ctx context.Context, method string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Retry-Attempt") == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	policy := resilience.Must(retry.New(retry.Config{Name: "search", BaseDelay: time.Millisecond}))
	client := &http.Client{Transport: &httpmw.Transport{Policy: policy}}
	req, _ := http.NewRequestWithContext(ctx, method, server.URL, nil)
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
}

// The client waits for each letter that it typed, and types the next one.
func ExampleWithoutRetry() {
	ctx := context.Background()
	send(ctx, http.MethodGet)
	send(httpmw.WithoutRetry(ctx), http.MethodGet)
	// Output:
	// 200 OK
	// 503 Service Unavailable
}

// The caller knows that this POST changes nothing.
func ExampleWithIdempotent() {
	ctx := context.Background()
	send(ctx, http.MethodPost)
	send(httpmw.WithIdempotent(ctx), http.MethodPost)
	// Output:
	// 503 Service Unavailable
	// 200 OK
}

// One host has a part for each region, and they fail apart.
func ExampleWithKey() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/eu" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	one := resilience.Must(breaker.New(breaker.Config{
		Name: "regions", Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Minute,
	}))
	each := resilience.Must(keyed.New(one, keyed.Config{Name: "regions"}))
	client := &http.Client{Transport: &httpmw.Transport{Policy: each}}

	for _, region := range []string{"eu", "eu", "us"} {
		ctx := httpmw.WithKey(context.Background(), region)
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/"+region, nil)
		resp, err := client.Do(req)
		if err != nil {
			fmt.Println(region, "is cut off:", errors.Is(err, breaker.ErrOpen))
			continue
		}
		resp.Body.Close()
		fmt.Println(region, resp.Status)
	}
	// Output:
	// eu 500 Internal Server Error
	// eu is cut off: true
	// us 200 OK
}

// A balancer moves clients to another replica with a cookie in its 503. http.Client stores
// cookies of the response that it gets, so such a response is not tried again.
func ExampleDefaultRetryable_cookies() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := r.Cookie("replica"); err != nil {
			http.SetCookie(w, &http.Cookie{Name: "replica", Value: "2"})
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	client := &http.Client{
		Jar: resilience.Must(cookiejar.New(nil)),
		Transport: &httpmw.Transport{
			Policy: resilience.Must(retry.New(retry.Config{Name: "shop"})),
			Retryable: func(req *http.Request, resp *http.Response, err error) bool {
				if err == nil && len(resp.Header["Set-Cookie"]) > 0 {
					return false // so that http.Client gets this response, and stores its cookies
				}
				return httpmw.DefaultRetryable(req, resp, err)
			},
		},
	}
	for range 2 {
		resp, err := client.Get(server.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	// Output:
	// 503 Service Unavailable
	// 200 OK
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

func ExampleHostKey() {
	r, _ := http.NewRequest(http.MethodGet, "https://API.example.com/users/7", nil)
	fmt.Println(httpmw.HostKey(r))
	// Output: https://api.example.com:443
}
