package httpmw_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// A rejected request is answered 503 before its body is read.
func TestServer_rejectsBeforeBody(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		err    error
		header string
	}{
		"full":             {&resilience.Rejection{Policy: "bulkhead", Reason: bulkhead.Full}, "1"},
		"open, over now":   {&resilience.Rejection{Policy: "breaker", Reason: resilience.Open, RetryAt: now.Add(-time.Hour)}, "1"},
		"open for long":    {&resilience.Rejection{Policy: "breaker", Reason: resilience.Open, RetryAt: now.Add(time.Hour)}, "3600"},
		"wrapped":          {fmt.Errorf("wrapped: %w", &resilience.Rejection{RetryAt: now.Add(time.Hour)}), "3600"},
		"only ErrRejected": {resilience.ErrRejected, "1"},
		"no rejection":     {errors.New("other"), ""},
		"a failure, too":   {errors.Join(errors.New("other"), &resilience.Rejection{RetryAt: now.Add(time.Hour)}), ""},
		"two rejections":   {errors.Join(resilience.ErrRejected, &resilience.Rejection{RetryAt: now.Add(time.Hour)}), "3600"},
	} {
		t.Run(name, func(t *testing.T) {
			policy := testkit.Policy(func(context.Context, resilience.Next) error { return test.err })
			h := httpmw.Server{Policy: policy}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") }))
			w := httptest.NewRecorder()
			b := &bounded{left: 10}
			h.ServeHTTP(w, httptest.NewRequest("POST", "/", b))
			if w.Code != 503 || w.Header().Get("Retry-After") != test.header {
				t.Errorf("status %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
			}
			if b.read != 0 {
				t.Error("the body was read")
			}
		})
	}
}

// Retry-After is rounded up to whole seconds, at least 1.
func TestUnavailable_retryAfterRoundsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			after time.Duration
			want  string
		}{{-time.Hour, "1"}, {0, "1"}, {1, "1"}, {time.Second, "1"}, {time.Second + 1, "2"}, {1500 * time.Millisecond, "2"}, {4 * time.Second, "4"}} {
			w := httptest.NewRecorder()
			httpmw.Unavailable(w, nil, &resilience.Rejection{RetryAt: time.Now().Add(test.after)})
			if got := w.Header().Get("Retry-After"); got != test.want {
				t.Errorf("%v: %s", test.after, got)
			}
		}
	})
}

// The response of Unavailable has nothing of a rejection but the time and the reason.
func TestUnavailable_hidesText(t *testing.T) {
	w := httptest.NewRecorder()
	httpmw.Unavailable(w, nil, &resilience.Rejection{
		Policy: "secret policy", Name: "secret name", Key: "secret key", Reason: resilience.Limited,
		Detail: "secret detail", Cause: errors.New("secret cause"),
	})
	if got := fmt.Sprint(w.Header(), w.Body); strings.Contains(got, "secret") {
		t.Error(got)
	}
}

// ErrorHandler replaces Unavailable.
func TestServer_errorHandler(t *testing.T) {
	h := httpmw.Server{
		Policy: after(0),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if !errors.Is(err, breaker.ErrOpen) {
				t.Errorf("got %v", err)
			}
			w.WriteHeader(http.StatusTeapot)
		},
	}.Wrap(http.NotFoundHandler())
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != http.StatusTeapot {
		t.Errorf("status %d", w.Code)
	}
}

// Exempt requests skip the policy.
func TestServer_exempt(t *testing.T) {
	h := httpmw.Server{
		Policy: after(0),
		Exempt: func(r *http.Request) bool { return r.URL.Path == "/healthz" },
	}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for path, want := range map[string]int{"/healthz": 200, "/": 503} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want {
			t.Errorf("%s: status %d", path, w.Code)
		}
	}
}

// judged is a policy that sends what a breaker would make of each operation.
func judged(outcomes chan resilience.Outcome) testkit.Policy {
	return func(ctx context.Context, next resilience.Next) error {
		err := resilience.ErrAborted
		defer func() { outcomes <- resilience.OutcomeOf(ctx, err, nil) }()
		err = next.Run(ctx)
		return err
	}
}

// The outcome of a handler is StatusOutcome's, or Classify's.
func TestServer_classify(t *testing.T) {
	outcomes := make(chan resilience.Outcome, 1)
	s := httpmw.Server{Policy: judged(outcomes)}
	for code := 200; code < 1000; code++ {
		want := resilience.Success
		if code >= 500 && code != 501 && code != 505 {
			want = resilience.Failure
		}
		s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(103)
			w.WriteHeader(code)
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		if got := <-outcomes; got != want {
			t.Errorf("%d: %v", code, got)
		}
	}
	s.Classify = func(r *http.Request, code int) resilience.Outcome {
		if code == 200 {
			return resilience.Failure
		}
		return resilience.Success
	}
	for _, body := range []string{"", "body"} {
		s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, body)
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		if got := <-outcomes; got != resilience.Failure {
			t.Errorf("implicit 200 was not shown to Status: %v", got)
		}
	}
}

// http.ErrAbortHandler is Ignored and continues.
func TestServer_errAbortHandlerIsIgnored(t *testing.T) {
	outcomes := make(chan resilience.Outcome, 10)
	wrap := httpmw.Server{Policy: judged(outcomes)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		panic(http.ErrAbortHandler)
	}))
	serve(t, wrap.ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
		if _, err := base.RoundTrip(newRequest(t, "POST", url, nil)); err == nil {
			t.Error("the client got a response")
		}
		if got := <-outcomes; got != resilience.Ignored {
			t.Errorf("counted as a %v", got)
		}
	})
}

// A request whose client left is Ignored.
func TestServer_leftClientIsIgnored(t *testing.T) {
	outcomes := make(chan resilience.Outcome, 10)
	started, left := make(chan struct{}), make(chan struct{})
	wrap := httpmw.Server{Policy: judged(outcomes)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		<-r.Context().Done()
		<-left // over TLS the client says goodbye before it closes, and would hear an answer to that
		w.WriteHeader(500)
	}))
	serve(t, wrap.ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-started
			cancel()
		}()
		if _, err := base.RoundTrip(newRequest(t, "GET", url, nil).WithContext(ctx)); err == nil {
			t.Error("the client got a response")
		}
		left <- struct{}{}
		if got := <-outcomes; got != resilience.Ignored {
			t.Errorf("counted as a %v", got)
		}
	})
	gone, cancel := context.WithCancel(t.Context())
	httpmw.Server{Policy: judged(outcomes)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		w.WriteHeader(200)
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(gone))
	if got := <-outcomes; got != resilience.Ignored {
		t.Errorf("answered 200 to a left client: counted as a %v", got)
	}
}

// A request whose client closed its sending side is handled, as net/http does.
func TestServer_halfClosedClientIsHandled(t *testing.T) {
	why := errors.New("reset")
	left, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	late, cancelLate := context.WithTimeout(t.Context(), -1)
	defer cancelLate()
	for name, test := range map[string]struct {
		ctx    context.Context
		policy resilience.Policy
		code   int
	}{
		"left":                  {left, nil, 202},
		"left, with a limit":    {left, newTimeout(time.Hour, 0), 202},
		"left, and rejected":    {left, after(0), 503},
		"its deadline has gone": {late, nil, 503},
	} {
		t.Run(name, func(t *testing.T) {
			outcomes := make(chan resilience.Outcome, 10)
			s := newSlots(resilience.Ended)
			h := httpmw.Server{Policy: resilience.Compose(test.policy, judged(outcomes), s)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Context().Err() != context.Canceled || context.Cause(r.Context()) != why || s.held.Load() != 1 {
					t.Errorf("the context says %v, for %v; %d held", r.Context().Err(), context.Cause(r.Context()), s.held.Load())
				}
				w.WriteHeader(202)
			}))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil).WithContext(test.ctx))
			if w.Code != test.code {
				t.Errorf("status %d", w.Code)
			}
			if test.code == 202 && <-outcomes != resilience.Ignored {
				t.Error("it was counted")
			}
		})
	}
}

// The handler's context has the number of Retry-Attempt.
func TestServer_readsRetryAttempt(t *testing.T) {
	for header, want := range map[string]int{
		"": 1, "1": 1, "2": 2, "3": 3, "999": 999, "1000": 1, "99999999999999999999": 1,
		"0": 1, "-2": 1, "+2": 1, "02": 1, " 2": 1, "2 ": 1, "2,3": 1, "٢": 1, "0x2": 1, "2.0": 1,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if header != "" {
			r.Header["Retry-Attempt"] = []string{header}
		}
		check := func(ctx context.Context) {
			if got := resilience.Attempt(ctx); got != want {
				t.Errorf("%q: attempt %d, want %d", header, got, want)
			}
		}
		policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error { check(ctx); return next.Run(ctx) })
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { check(r.Context()) })
		httpmw.Server{Policy: policy}.Wrap(h).ServeHTTP(httptest.NewRecorder(), r)
		all := func(*http.Request) bool { return true }
		httpmw.Server{Policy: after(0), Exempt: all}.Wrap(h).ServeHTTP(httptest.NewRecorder(), r)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header["Retry-Attempt"] = []string{"2", "3"}
	httpmw.Server{Policy: resilience.Compose()}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := resilience.Attempt(r.Context()); got != 1 {
			t.Errorf("two values: attempt %d", got)
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
}

// Three hops of three attempts do not turn one call into 27.
func TestServer_hopsDoNotMultiply(t *testing.T) {
	// once is a retry that obeys the mark of an upstream call.
	once := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		if resilience.Attempt(ctx) >= 2 {
			return next.Run(ctx)
		}
		return again(3)(ctx, next)
	})
	var calls atomic.Int32
	leaf := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.WriteHeader(503)
	}))
	defer leaf.Close()
	client := &http.Client{Transport: &httpmw.Transport{Base: leaf.Client().Transport, Policy: once}}
	hop := func(to string) *httptest.Server {
		return httptest.NewServer(httpmw.Server{Policy: resilience.Compose()}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			resp, err := client.Do(newRequest(t, "GET", to, nil).WithContext(r.Context()))
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			w.WriteHeader(resp.StatusCode)
		})))
	}
	near := hop(leaf.URL)
	defer near.Close()
	far := hop(near.URL)
	defer far.Close()
	resp, err := client.Get(far.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	// The first attempt of each hop makes three; the marked ones make one: 27 without.
	if got := calls.Load(); got != 7 {
		t.Errorf("%d calls", got)
	}
}

// A timeout is answered 503 if the handler has written nothing.
func TestServer_timeoutIs503(t *testing.T) {
	policy := cutOff(time.Millisecond)
	for name, test := range map[string]struct {
		begin func(w http.ResponseWriter)
		code  int
		body  string
	}{
		"nothing written": {func(http.ResponseWriter) {}, 503, "Service Unavailable\n"},
		"header set":      {func(w http.ResponseWriter) { w.Header().Set("A", "b") }, 503, "Service Unavailable\n"},
		"informational":   {func(w http.ResponseWriter) { w.WriteHeader(103) }, 503, "Service Unavailable\n"},
		"status":          {func(w http.ResponseWriter) { w.WriteHeader(202) }, 202, ""},
		"body":            {func(w http.ResponseWriter) { io.WriteString(w, "begun") }, 200, "begun"},
	} {
		t.Run(name, func(t *testing.T) {
			wrap := httpmw.Server{Policy: policy}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				test.begin(w)
				<-r.Context().Done()
			}))
			serve(t, wrap.ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
				resp, err := base.RoundTrip(newRequest(t, "GET", url, nil))
				if err != nil {
					t.Fatal(err)
				}
				if got := read(t, resp); resp.StatusCode != test.code || got != test.body {
					t.Errorf("got %d %q", resp.StatusCode, got)
				}
				if h := resp.Header.Get("Retry-After"); h != "" {
					t.Errorf("Retry-After: %s", h)
				}
			})
		})
	}
}

// A handler runs once, whatever the policy does.
func TestServer_handlerRunsOnce(t *testing.T) {
	n := 0
	var errs []error
	policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		for range 3 {
			errs = append(errs, next.Run(ctx))
		}
		return errs[2]
	})
	w := httptest.NewRecorder()
	httpmw.Server{Policy: policy}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		w.WriteHeader(500)
		io.WriteString(w, "body")
	})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if n != 1 || w.Code != 500 || w.Body.String() != "body" {
		t.Errorf("ran %d times, status %d, body %q", n, w.Code, w.Body)
	}
	for i, err := range errs {
		if err == nil || retryable(err) {
			t.Errorf("run %d: %v", i+1, err)
		}
	}
}

// If a policy neither runs the handler nor returns an error, the answer is 503.
func TestServer_policyWithoutRunIs503(t *testing.T) {
	for name, policy := range map[string]testkit.Policy{
		"not run":         func(context.Context, resilience.Next) error { return nil },
		"drops the error": func(ctx context.Context, next resilience.Next) error { _ = cutOff(0)(ctx, next); return nil },
		"fails success": func(ctx context.Context, next resilience.Next) error {
			return errors.Join(next.Run(ctx), errors.New("no"))
		},
	} {
		w := httptest.NewRecorder()
		httpmw.Server{Policy: policy}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if name == "drops the error" {
				<-r.Context().Done()
			}
		})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != 503 {
			t.Errorf("%s: status %d", name, w.Code)
		}
	}
}

// Pattern and form that the handler sets are on the server's request, too.
func TestServer_copiesRequestBack(t *testing.T) {
	type key struct{}
	policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		return next.Run(context.WithValue(ctx, key{}, 1))
	})
	var content strings.Builder
	form := multipart.NewWriter(&content)
	file, _ := form.CreateFormFile("file", "name")
	io.WriteString(file, "content")
	form.Close()
	for name, s := range map[string]httpmw.Server{
		"guarded": {Policy: policy},
		"exempt":  {Policy: after(0), Exempt: func(*http.Request) bool { return true }},
	} {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("/items/{id}", func(w http.ResponseWriter, r *http.Request) {
				if guarded := r.Context().Value(key{}) != nil; guarded != (name == "guarded") || r.PathValue("id") != "7" {
					t.Errorf("guarded %t, path value %q", guarded, r.PathValue("id"))
				}
				if err := r.ParseMultipartForm(1); err != nil {
					t.Error(err)
				}
			})
			r := httptest.NewRequest("POST", "/items/7", strings.NewReader(content.String()))
			r.Header.Set("Content-Type", form.FormDataContentType())
			r.Header.Set("Retry-Attempt", "2")
			s.Wrap(mux).ServeHTTP(httptest.NewRecorder(), r)
			if r.Pattern != "/items/{id}" {
				t.Errorf("pattern %q", r.Pattern)
			}
			if r.MultipartForm == nil {
				t.Fatal("the form is lost: net/http would leave its files behind")
			}
			r.MultipartForm.RemoveAll()
		})
	}
}

// A rejected client does not send a body that waits for 100 Continue.
func TestServer_rejectsBeforeContinue(t *testing.T) {
	s := httptest.NewUnstartedServer(httpmw.Server{Policy: after(0)}.Wrap(http.NotFoundHandler()))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
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
	if resp.StatusCode != 503 {
		t.Errorf("status %d", resp.StatusCode)
	}
}
