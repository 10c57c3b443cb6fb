package httpmw_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/timeout"
)

// endings are ways in which a request's context ends while its client waits for the
// response. Each serves h and returns the response to one request.
var endings = map[string]func(t *testing.T, h http.Handler) *http.Response{
	"a half-closed connection": func(t *testing.T, h http.Handler) *http.Response {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return halfClosed(t, s.Listener.Addr().String(), "")
	},
	"half-closed with a body": func(t *testing.T, h http.Handler) *http.Response {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			h.ServeHTTP(w, r)
		}))
		t.Cleanup(s.Close)
		return halfClosed(t, s.Listener.Addr().String(), "body")
	},
	"a read deadline": func(t *testing.T, h http.Handler) *http.Response {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
				t.Error(err)
			}
			h.ServeHTTP(w, r)
		}))
		t.Cleanup(s.Close)
		return get(t, s)
	},
	"a read timeout of the body": func(t *testing.T, h http.Handler) *http.Response {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the body ended with %v", err)
			}
			h.ServeHTTP(w, r)
		}))
		s.Config.ReadTimeout = 20 * time.Millisecond
		s.Start()
		t.Cleanup(s.Close)
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	},
	"a base context": func(t *testing.T, h http.Handler) *http.Response {
		base, stop := context.WithCancel(t.Context())
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			stop()
			h.ServeHTTP(w, r)
		}))
		s.Config.BaseContext = func(net.Listener) context.Context { return base }
		s.Start()
		t.Cleanup(s.Close)
		return get(t, s)
	},
	"middleware that cancels": func(t *testing.T, h http.Handler) *http.Response {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancelCause(r.Context())
			time.AfterFunc(10*time.Millisecond, func() { cancel(errors.New("shutdown")) })
			h.ServeHTTP(w, r.WithContext(ctx))
		}))
		t.Cleanup(s.Close)
		return get(t, s)
	},
	"middleware with a deadline": func(t *testing.T, h http.Handler) *http.Response {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), 10*time.Millisecond)
			defer cancel()
			h.ServeHTTP(w, r.WithContext(ctx))
		}))
		t.Cleanup(s.Close)
		return get(t, s)
	},
}

// halfClosed sends a request, closes the sending side of its connection, and returns the
// response.
func halfClosed(t *testing.T, addr, body string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	r, err := http.NewRequest("POST", "http://"+addr, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func get(t *testing.T, s *httptest.Server) *http.Response {
	t.Helper()
	resp, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// A handler that returns has answered, also if its context has ended: net/http sends 200
// if the handler has written nothing.
func TestServer_endOfContextIsNoAnswer(t *testing.T) {
	for how, serve := range endings {
		for what, test := range map[string]struct {
			answer func(w http.ResponseWriter)
			code   int
		}{
			"writes nothing": {func(w http.ResponseWriter) {}, 200},
			"sends 202":      {func(w http.ResponseWriter) { w.WriteHeader(202) }, 202},
			"sends 500":      {func(w http.ResponseWriter) { w.WriteHeader(500) }, 500},
		} {
			for name, policy := range map[string]resilience.Policy{
				"nothing":    resilience.Compose(),
				"a bulkhead": newBulkhead(1),
				"a limit":    resilience.Must(limit.New(limit.Config{})),
				"a timeout":  newTimeout(time.Hour, 0),
			} {
				t.Run(how+", "+what+", "+name, func(t *testing.T) {
					outcomes := make(chan resilience.Outcome, 1)
					h := httpmw.Server{
						Policy: resilience.Compose(judged(outcomes), policy),
						ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
							t.Errorf("not answered: %v", err)
						},
					}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						<-r.Context().Done()
						test.answer(w)
					}))
					resp := serve(t, h)
					if got := read(t, resp); resp.StatusCode != test.code || got != "" {
						t.Errorf("got %d %q, want %d", resp.StatusCode, got, test.code)
					}
					want := resilience.Ignored // the client may have left
					if how == "middleware with a deadline" {
						want = resilience.Failure // the handler took too long
						if what == "sends 202" {
							want = resilience.Success
						}
					}
					if got := <-outcomes; got != want {
						t.Errorf("counted as a %v, want a %v", got, want)
					}
				})
			}
		}
	}
}

// A response whose status was sent before its client left counts by its status.
func TestServer_statusBeforeClientLeft(t *testing.T) {
	outcomes := make(chan resilience.Outcome, 1)
	answers := newAnswerSlots()
	leave := make(chan context.CancelFunc, 1)
	h := httpmw.Server{Policy: resilience.Compose(judged(outcomes), answers)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "some of it")
		(<-leave)()
		<-r.Context().Done()
	}))
	serve(t, h.ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
		ctx, cancel := context.WithCancel(t.Context())
		leave <- cancel
		if resp, err := base.RoundTrip(newRequest(t, "GET", url, nil).WithContext(ctx)); err == nil {
			resp.Body.Close()
		}
		if got := <-outcomes; got != resilience.Success {
			t.Errorf("counted as a %v", got)
		}
		// A body is work to its end, and its client did not wait for that.
		if err := <-answers.settled; !errors.Is(err, context.Canceled) {
			t.Errorf("answered with %v", err)
		}
	})
}

// A deadline of middleware outside does not mean that the client left: a limit counts an
// answer.
func TestServer_outerDeadlineHasCaller(t *testing.T) {
	p := resilience.Must(limit.New(limit.Config{}))
	h := httpmw.Server{Policy: p}.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil).WithContext(ctx))
	if s := p.Stats(); w.Code != 200 || s.Abandoned != 0 || s.Useful != 1 {
		t.Errorf("answered with %d, and counted as %+v", w.Code, s)
	}
}

// If a policy ends the context of a handler that writes nothing, ErrorHandler answers,
// whatever else ends the context later.
func TestServer_policyEndsContext(t *testing.T) {
	errStopped := errors.New("stopped")
	stops := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		ctx, cancel := context.WithCancelCause(ctx)
		cancel(errStopped)
		return next.Run(ctx)
	})
	stopsPlainly := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return next.Run(ctx)
	})
	uncomparable := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		ctx, cancel := context.WithCancelCause(ctx)
		cancel(errorList{errStopped})
		return next.Run(ctx)
	})
	for name, test := range map[string]struct {
		policy resilience.Policy
		later  func(ctx context.Context) (context.Context, context.CancelFunc)
		is     error
		judged resilience.Outcome
	}{
		"a timeout":                       {newTimeout(time.Millisecond, 0), nil, context.DeadlineExceeded, resilience.Failure},
		"a timeout, then a deadline":      {newTimeout(time.Millisecond, 0), withDeadline, context.DeadlineExceeded, resilience.Failure},
		"a timeout, then a cancellation":  {newTimeout(time.Millisecond, 0), context.WithCancel, context.DeadlineExceeded, resilience.Ignored},
		"a cancellation":                  {stops, nil, errStopped, resilience.Ignored},
		"a cancellation, the client left": {stopsPlainly, withLeft, context.Canceled, resilience.Ignored},
		"a cancellation, then another":    {stops, context.WithCancel, errStopped, resilience.Ignored},
		"an uncomparable cause":           {uncomparable, nil, errStopped, resilience.Ignored},
	} {
		t.Run(name, func(t *testing.T) {
			outcomes := make(chan resilience.Outcome, 1)
			later, cancel := test.later, func() {}
			var outer context.Context
			var got error
			h := httpmw.Server{
				Policy: resilience.Compose(judged(outcomes), test.policy),
				ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
					got = err
					w.WriteHeader(503)
				},
			}.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				if later != nil {
					cancel()
					<-outer.Done()
				}
			}))
			outer = t.Context()
			if later != nil {
				outer, cancel = later(outer)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil).WithContext(outer))
			if w.Code != 503 || !errors.Is(got, test.is) {
				t.Errorf("answered with %d for %v", w.Code, got)
			}
			if got := <-outcomes; got != test.judged {
				t.Errorf("counted as a %v", got)
			}
		})
	}
}

// The errors of the package show what happened, and why.
func TestServer_errorTexts(t *testing.T) {
	for want, policy := range map[string]testkit.Policy{
		"httpmw: the policy neither ran the handler nor returned an error": func(context.Context, resilience.Next) error { return nil },
		"httpmw: a policy canceled the handler's context: context canceled: stopped": func(ctx context.Context, next resilience.Next) error {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(errors.New("stopped"))
			return next.Run(ctx)
		},
	} {
		httpmw.Server{Policy: policy, ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) {
			if err.Error() != want {
				t.Errorf("got %q, want %q", err, want)
			}
		}}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
}

// A timeout of a Clock is a timeout of the handler: the client gets 503 for it, and a limit
// outside counts an answer.
func TestServer_timeoutOfClock(t *testing.T) {
	now := clock.NewMock()
	short := resilience.Must(timeout.New(timeout.Config{Name: "test", Timeout: time.Second, Clock: now}))
	outcomes, answers := make(chan resilience.Outcome, 1), newAnswerSlots()
	h := httpmw.Server{
		Policy: resilience.Compose(judged(outcomes), answers, short),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if want := `timeout "test": not done within 1s`; err.Error() != want {
				t.Errorf("got %q, want %q", err, want)
			}
			w.WriteHeader(503)
		},
	}.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		now.Add(time.Second)
		<-r.Context().Done()
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if got := <-outcomes; w.Code != 503 || got != resilience.Failure {
		t.Errorf("answered with %d, counted as a %v", w.Code, got)
	}
	if err := answers.free(t); err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("answered with %v", err)
	}
}

// The error of a deadline of middleware outside has the cause of that deadline.
func TestServer_outerDeadlineCause(t *testing.T) {
	errSlow := errors.New("slow")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errSlow)
	defer cancel()
	s := newSlots(resilience.Ended)
	httpmw.Server{Policy: s}.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(ctx))
	if err := <-s.settled; !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errSlow) {
		t.Errorf("got %v", err)
	}
}

// A policy that cancels the handler's context is no client that left.
func TestServer_policyCancelHasCaller(t *testing.T) {
	cancels := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return next.Run(ctx)
	})
	p := resilience.Must(limit.New(limit.Config{}))
	httpmw.Server{Policy: resilience.Compose(p, cancels)}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).
		ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if s := p.Stats(); s.Abandoned != 0 || s.Useful != 1 {
		t.Errorf("counted as %+v", s)
	}
}

// withLeft is a context.WithCancel whose client has left already.
func withLeft(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx, cancel
}

// withDeadline is context.WithTimeout whose deadline has passed when its cancel returns.
func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	return ctx, func() {
		<-ctx.Done()
		cancel()
	}
}

// errorList is an error that cannot be compared.
type errorList []error

func (e errorList) Error() string   { return "errors" }
func (e errorList) Unwrap() []error { return e }

// A request that a policy fails after its handler wrote nothing is answered 503. If the
// handler's own verdict is an error, its answer stays.
func TestServer_silentAnswerStays(t *testing.T) {
	own := errors.New("a policy's error")
	for name, test := range map[string]struct {
		policy   testkit.Policy
		classify resilience.Outcome // of 200
		code     int
	}{
		"a policy fails a success":     {func(ctx context.Context, next resilience.Next) error { _ = next.Run(ctx); return own }, resilience.Success, 503},
		"Classify says failure":        {pass, resilience.Failure, 200},
		"Classify says ignored":        {pass, resilience.Ignored, 200},
		"a policy wraps a failure":     {func(ctx context.Context, next resilience.Next) error { return errors.Join(own, next.Run(ctx)) }, resilience.Failure, 200},
		"a policy drops a failure":     {func(ctx context.Context, next resilience.Next) error { _ = next.Run(ctx); return nil }, resilience.Failure, 200},
		"a policy drops and runs more": {func(ctx context.Context, next resilience.Next) error { _ = next.Run(ctx); return next.Run(ctx) }, resilience.Failure, 200},
	} {
		w := httptest.NewRecorder()
		httpmw.Server{
			Policy: test.policy,
			Classify: func(_ *http.Request, code int) resilience.Outcome {
				if code != 200 {
					t.Errorf("%s: Classify got %d", name, code)
				}
				return test.classify
			},
		}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != test.code {
			t.Errorf("%s: status %d, want %d", name, w.Code, test.code)
		}
	}
}
