package httpmw_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/retry"
	"github.com/resilience-go/resilience/stack"
)

// limited rejects all, as a limit does during an overload.
var limited = testkit.Policy(func(context.Context, resilience.Next) error {
	return &resilience.Rejection{Policy: "limit", Name: "test", Reason: resilience.Limited}
})

// Only a limit's rejection has the header Retry-Attempt: 0.
func TestUnavailable_onlyLimitIsFinal(t *testing.T) {
	later := time.Now().Add(time.Hour)
	for name, test := range map[string]struct {
		err         error
		after, mark string
	}{
		"limited":            {&resilience.Rejection{Reason: resilience.Limited}, "1", "0"},
		"limited for long":   {&resilience.Rejection{Reason: resilience.Limited, RetryAt: later}, "3600", "0"},
		"limited, wrapped":   {fmt.Errorf("wrapped: %w", &resilience.Rejection{Reason: resilience.Limited}), "1", "0"},
		"full":               {&resilience.Rejection{Reason: bulkhead.Full}, "1", ""},
		"open":               {&resilience.Rejection{Reason: resilience.Open, RetryAt: later}, "3600", ""},
		"another rejection":  {resilience.ErrRejected, "1", ""},
		"the end of a limit": {context.DeadlineExceeded, "", ""},
	} {
		w := httptest.NewRecorder()
		httpmw.Unavailable(w, nil, test.err)
		if after, mark := w.Header().Get("Retry-After"), w.Header().Get("Retry-Attempt"); w.Code != 503 || after != test.after || mark != test.mark {
			t.Errorf("%s: status %d, Retry-After %q, Retry-Attempt %q", name, w.Code, after, mark)
		}
	}
}

// A limit rejects a request before the client sends its body.
func TestServer_limitRejectsBeforeContinue(t *testing.T) {
	s := httptest.NewServer(httpmw.Server{Policy: limited}.Wrap(http.NotFoundHandler()))
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-Attempt") != "0" {
		t.Errorf("status %d, Retry-Attempt %q", resp.StatusCode, resp.Header.Get("Retry-Attempt"))
	}
}

// A Transport sends a request once if a limit rejects it.
func TestTransport_limitRejectionIsFinal(t *testing.T) {
	var n atomic.Int32
	h := httpmw.Server{Policy: limited}.Wrap(http.NotFoundHandler())
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		h.ServeHTTP(w, r)
	}, func(t *testing.T, url string, base *http.Transport) {
		client := &http.Client{Transport: &httpmw.Transport{Base: base, Policy: stack.Client("test")}}
		for _, method := range []string{"GET", "HEAD", "PUT", "POST"} {
			n.Store(0)
			var body io.Reader
			if method[0] == 'P' {
				body = strings.NewReader("body")
			}
			req, reused := newRequest(t, method, url, body), false
			req.Header.Set("Idempotency-Key", "7")
			trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }}
			resp, err := client.Do(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
			if err != nil {
				t.Fatal(err)
			}
			want := "Service Unavailable\n"
			if method == "HEAD" {
				want = ""
			}
			if got := read(t, resp); got != want || resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || resp.Header.Get("Retry-Attempt") != "0" {
				t.Errorf("%s: got %d %q %v", method, resp.StatusCode, got, resp.Header)
			}
			if n.Load() != 1 {
				t.Errorf("%s: %d requests", method, n.Load())
			}
			if method == "HEAD" && !reused {
				t.Error("the rejection before it has cost the connection")
			}
		}
	})
}

// A flood of limit rejections opens no breaker and costs no retry budget.
func TestTransport_limitFloodKeepsClient(t *testing.T) {
	var n atomic.Int32
	refuse := httpmw.Server{Policy: limited}.Wrap(http.NotFoundHandler())
	const flood = 50
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch i := n.Add(1); {
		case i <= flood:
			refuse.ServeHTTP(w, r)
		case i == flood+1:
			w.WriteHeader(500)
		}
	}))
	defer s.Close()
	b := newBreaker(2)
	// With a budget and the rule of the run of failures.
	again := resilience.Must(retry.New(retry.Config{Name: "test", BaseDelay: time.Millisecond}))
	client := &http.Client{Transport: &httpmw.Transport{Base: s.Client().Transport, Policy: resilience.Compose(again, b)}}
	get := func() int {
		resp, err := client.Do(newRequest(t, "GET", s.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp)
		return resp.StatusCode
	}
	for range flood {
		if code := get(); code != 503 {
			t.Fatalf("status %d", code)
		}
	}
	if got := again.Stats().Retries; got != 0 || n.Load() != flood {
		t.Errorf("%d retries, %d requests", got, n.Load())
	}
	if got := b.Stats().Failures; got != 0 {
		t.Errorf("the breaker has counted %d failures", got)
	}
	if code := get(); code != 200 || again.Stats().Retries != 1 {
		t.Errorf("what comes after is not tried again: status %d", code)
	}
}

// finally answers with code and Retry-Attempt, and counts.
func finally(n *atomic.Int32, code int, mark ...string) roundTripper {
	return func(r *http.Request) (*http.Response, error) {
		n.Add(1)
		consume(r)
		resp := response(code, "body")
		resp.Header["Retry-Attempt"] = mark
		return resp, nil
	}
}

// Only the value 0, sent once, means that no further attempt is wanted.
func TestTransport_finalInOneFormOnly(t *testing.T) {
	for _, test := range []struct {
		mark     []string
		attempts int32
		outcome  resilience.Outcome
	}{
		{[]string{"0"}, 1, resilience.Success},
		{nil, 3, resilience.Failure},
		{[]string{""}, 3, resilience.Failure},
		{[]string{"00"}, 3, resilience.Failure},
		{[]string{"-0"}, 3, resilience.Failure},
		{[]string{" 0"}, 3, resilience.Failure},
		{[]string{"0;"}, 3, resilience.Failure},
		{[]string{"0x0"}, 3, resilience.Failure},
		{[]string{"٠"}, 3, resilience.Failure},
		{[]string{"1"}, 3, resilience.Failure},
		{[]string{"2"}, 3, resilience.Failure},
		{[]string{"0, 0"}, 3, resilience.Failure},
		{[]string{"0", "0"}, 3, resilience.Failure},
		{[]string{"0", "1"}, 3, resilience.Failure},
	} {
		var n atomic.Int32
		outcomes := make(chan resilience.Outcome, 10)
		tr := &httpmw.Transport{Base: finally(&n, 503, test.mark...), Policy: resilience.Compose(again(3), judged(outcomes))}
		resp, err := tr.RoundTrip(newRequest(t, "GET", "http://example.com", nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); got != "body" || n.Load() != test.attempts {
			t.Errorf("%q: got %q after %d attempts", test.mark, got, n.Load())
		}
		if got := <-outcomes; got != test.outcome {
			t.Errorf("%q: it counts as %v", test.mark, got)
		}
	}
}

// Retry-Attempt: 0 overrides the policies and Retryable.
func TestTransport_finalOverridesPolicies(t *testing.T) {
	always := func(*http.Request, *http.Response, error) bool { return true }
	failure := func(*http.Response) resilience.Outcome { return resilience.Failure }
	eager := func() resilience.Policy {
		return resilience.Must(retry.New(retry.Config{BaseDelay: -1, Budget: -1, Retryable: func(error) bool { return true }}))
	}
	for name, test := range map[string]struct {
		code      int
		policy    resilience.Policy
		retryable func(*http.Request, *http.Response, error) bool
		status    func(*http.Response) resilience.Outcome
		outcome   resilience.Outcome
	}{
		"503":                          {503, again(3), nil, nil, resilience.Success},
		"503, Retryable says more":     {503, again(3), always, nil, resilience.Success},
		"503, the policy insists":      {503, stubborn(3), nil, nil, resilience.Success},
		"503, a retry insists":         {503, eager(), nil, nil, resilience.Success},
		"503, a failure for Status":    {503, again(3), nil, failure, resilience.Failure},
		"429":                          {429, again(3), nil, nil, resilience.Success},
		"500 has failed nevertheless":  {500, again(3), nil, nil, resilience.Failure},
		"500, the policy insists":      {500, stubborn(3), always, nil, resilience.Failure},
		"200, though Retryable is odd": {200, again(3), always, nil, resilience.Success},
	} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			outcomes := make(chan resilience.Outcome, 10)
			tr := &httpmw.Transport{
				Base: finally(&n, test.code, "0"), Policy: resilience.Compose(test.policy, judged(outcomes)),
				Retryable: test.retryable, Classify: test.status,
			}
			resp, err := tr.RoundTrip(newRequest(t, "GET", "http://example.com", nil))
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, resp); got != "body" || resp.StatusCode != test.code || n.Load() != 1 {
				t.Errorf("got %d %q after %d attempts", resp.StatusCode, got, n.Load())
			}
			if got := <-outcomes; got != test.outcome {
				t.Errorf("it counts as %v", got)
			}
		})
	}
}

// Retry-Attempt: 0 in a later attempt's response ends the call.
func TestTransport_finalOnLaterAttempt(t *testing.T) {
	var n atomic.Int32
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		if n.Load() == 0 {
			n.Add(1)
			return nil, errors.New("broken")
		}
		return finally(&n, 503, "0")(r)
	})
	resp, err := (&httpmw.Transport{Base: base, Policy: again(5)}).RoundTrip(newRequest(t, "GET", "http://example.com", nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, resp); got != "body" || n.Load() != 2 {
		t.Errorf("got %q after %d attempts", got, n.Load())
	}
}

// A service that forwards a response forwards Retry-Attempt: 0. Otherwise each hop would
// retry.
func TestTransport_relayForwardsFinal(t *testing.T) {
	var leaf, relay atomic.Int32
	refuse := httpmw.Server{Policy: limited}.Wrap(http.NotFoundHandler())
	end := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaf.Add(1)
		refuse.ServeHTTP(w, r)
	}))
	defer end.Close()
	to, err := url.Parse(end.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: &httpmw.Transport{Base: end.Client().Transport, Policy: stack.Client("leaf")},
	}
	guarded := httpmw.Server{Policy: stack.Server("relay")}.Wrap(proxy)
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		relay.Add(1)
		guarded.ServeHTTP(w, r)
	}, func(t *testing.T, url string, base *http.Transport) {
		leaf.Store(0)
		relay.Store(0)
		client := &http.Client{Transport: &httpmw.Transport{Base: base, Policy: stack.Client("relay")}}
		resp, err := client.Do(newRequest(t, "GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); got != "Service Unavailable\n" || resp.Header.Get("Retry-Attempt") != "0" {
			t.Errorf("got %d %q %v", resp.StatusCode, got, resp.Header)
		}
		if leaf.Load() != 1 || relay.Load() != 1 {
			t.Errorf("the relay had %d requests, the service behind it %d", relay.Load(), leaf.Load())
		}
	})
}

// A limit counts answered requests as useful, and requests of left clients not.
func TestServer_limitCountsAnswers(t *testing.T) {
	gone, leave := context.WithCancel(t.Context())
	leave()
	for name, test := range map[string]struct {
		ctx          context.Context
		flush        bool
		useful, left uint64
	}{
		"a stream":                      {t.Context(), true, 1, 0},
		"a body":                        {t.Context(), false, 1, 0},
		"a stream, the client has left": {gone, true, 0, 1},
		"a body, the client has left":   {gone, false, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := resilience.Must(limit.New(limit.Config{Name: "test"}))
			httpmw.Server{Policy: l}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				want := 1
				io.WriteString(w, "begun")
				if test.flush {
					w.(http.Flusher).Flush()
					want = 0
				}
				if got := l.Stats().InFlight; got != want {
					t.Errorf("%d are in flight", got)
				}
			})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(test.ctx))
			if s := l.Stats(); s.InFlight != 0 || s.Useful != test.useful || s.Abandoned != test.left {
				t.Errorf("in the end: %+v", s)
			}
		})
	}
}

// After a policy's timeout, the client still waits: the limit must not count it as left.
func TestServer_policyTimeoutHasCaller(t *testing.T) {
	p := resilience.Must(limit.New(limit.Config{}))
	h := httpmw.Server{Policy: resilience.Compose(p, newTimeout(time.Millisecond, 0))}.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if s := p.Stats(); w.Code != 503 || s.Abandoned != 0 || s.Useful != 1 {
		t.Errorf("answered with %d, and counted as %+v", w.Code, s)
	}
}
