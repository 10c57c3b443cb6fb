package httpmw_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/retry"
)

// Fallback answers failed and rejected requests, and no others.
func TestTransport_fallbackForFailures(t *testing.T) {
	refused := errors.New("connection refused")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	leave, gone := context.WithCancel(t.Context())
	fail := func(err error) http.RoundTripper {
		return roundTripper(func(*http.Request) (*http.Response, error) { return nil, err })
	}
	for name, test := range map[string]struct {
		base   http.RoundTripper
		policy resilience.Policy
		ctx    context.Context
		want   string // what Fallback is asked about, "" if it is not
	}{
		"success":                       {base: answer(200)},
		"not found":                     {base: answer(404)},
		"too many requests":             {base: answer(429)},
		"unavailable":                   {base: answer(503), want: "http: status 503 Service Unavailable"},
		"unavailable after retries":     {base: answer(503), policy: resilience.Must(retry.New(retry.Config{MaxAttempts: 2, BaseDelay: time.Millisecond})), want: "http: status 503 Service Unavailable"},
		"not implemented":               {base: answer(501)},
		"no connection":                 {base: fail(refused), want: "connection refused"},
		"rejected by a policy":          {base: answer(200), policy: after(0), want: `breaker "test": rejected: open`},
		"a request that cannot be sent": {base: fail(errors.New("unsupported protocol scheme"))},
		"a policy that drops the error": {base: answer(503), policy: testkit.Policy(func(ctx context.Context, next resilience.Next) error { _ = next.Run(ctx); return nil })},
		"canceled before":               {base: answer(200), ctx: canceled},
		"late before":                   {base: answer(200), ctx: late},
		"canceled meanwhile": {base: roundTripper(func(*http.Request) (*http.Response, error) {
			gone()
			return nil, leave.Err()
		}), ctx: leave},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if test.ctx != nil {
				ctx = test.ctx
			}
			req := newRequest(t, "GET", "http://x", nil).WithContext(ctx)
			tr := &httpmw.Transport{Base: test.base, Policy: resilience.Compose(test.policy)}
			plain, plainErr := tr.RoundTrip(req)
			asked := ""
			tr.Fallback = func(r *http.Request, err error) *http.Response {
				asked = err.Error()
				if r != req {
					t.Error("another request")
				}
				return response(203, "kept")
			}
			resp, err := tr.RoundTrip(req)
			if !strings.Contains(asked, test.want) || (asked == "") != (test.want == "") {
				t.Errorf("asked about %q, want %q", asked, test.want)
			}
			if test.want == "" {
				if fmt.Sprint(err) != fmt.Sprint(plainErr) || (resp == nil) != (plain == nil) || resp != nil && resp.StatusCode != plain.StatusCode {
					t.Errorf("got %v and %v, without Fallback %v and %v", resp, err, plain, plainErr)
				}
				return
			}
			if err != nil || resp.StatusCode != 203 || resp.Request != req || read(t, resp) != "kept" {
				t.Errorf("got %v and %v", resp, err)
			}
		})
	}
}

// Fallback is called if the caller's deadline passes during the call.
func TestTransport_fallbackAfterDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		tr := &httpmw.Transport{
			Policy: resilience.Compose(),
			Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}),
			Fallback: func(_ *http.Request, err error) *http.Response {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("asked about %v", err)
				}
				return response(200, "kept")
			},
		}
		resp, err := tr.RoundTrip(newRequest(t, "GET", "http://x", nil).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp)
	})
}

// If Fallback returns nil, the caller gets the call's own result.
func TestTransport_nilFallbackKeepsResult(t *testing.T) {
	refused := errors.New("connection refused")
	long := strings.Repeat("x", 64<<10+1)
	for name, test := range map[string]struct {
		body   string
		err    error
		status bool // a *StatusError comes back
	}{
		"a response":          {body: "down"},
		"a response too long": {body: long, status: true},
		"an error":            {err: refused},
	} {
		t.Run(name, func(t *testing.T) {
			tr := &httpmw.Transport{
				Policy: resilience.Compose(),
				Base: roundTripper(func(*http.Request) (*http.Response, error) {
					if test.err != nil {
						return nil, test.err
					}
					return response(503, test.body), nil
				}),
				Fallback: func(*http.Request, error) *http.Response { return nil },
			}
			resp, err := tr.RoundTrip(newRequest(t, "GET", "http://x", nil))
			status, ok := errors.AsType[*httpmw.StatusError](err)
			switch {
			case test.status:
				if !ok || status.StatusCode != 503 {
					t.Errorf("error %v", err)
				}
			case test.err != nil:
				if err != test.err {
					t.Errorf("error %v", err)
				}
			case err != nil || resp.StatusCode != 503 || read(t, resp) != test.body:
				t.Errorf("got %v and %v", resp, err)
			}
		})
	}
}

// The slot is free and the body closed before Fallback runs, so that Fallback can send a
// request through the same policy.
func TestTransport_fallbackRunsAfterRelease(t *testing.T) {
	slot := resilience.Must(bulkhead.New(bulkhead.Config{Slots: 1, MaxQueue: bulkhead.NoQueue}))
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/other" {
			w.WriteHeader(503)
		}
		io.WriteString(w, r.URL.Path)
	}, func(t *testing.T, url string, base *http.Transport) {
		other := &httpmw.Transport{Base: base, Policy: slot}
		tr := &httpmw.Transport{Base: base, Policy: slot, Fallback: func(r *http.Request, _ error) *http.Response {
			if n := slot.Stats().InFlight; n != 0 {
				t.Errorf("%d in flight", n)
			}
			resp, err := other.RoundTrip(newRequest(t, "GET", url+"/other", nil))
			if err != nil {
				t.Error(err)
			}
			return resp
		}}
		resp, err := tr.RoundTrip(newRequest(t, "GET", url+"/first", nil))
		if err != nil {
			t.Fatal(err)
		}
		if n := slot.Stats().InFlight; n != 1 {
			t.Errorf("%d in flight while the body of the answer is read", n)
		}
		if got := read(t, resp); got != "/other" {
			t.Errorf("read %q", got)
		}
		if n := slot.Stats().InFlight; n != 0 {
			t.Errorf("%d in flight at the end", n)
		}
	})
}

// A response of Fallback without a body gets an empty one.
func TestTransport_fallbackWithoutBody(t *testing.T) {
	tr := &httpmw.Transport{
		Policy:   after(0),
		Fallback: func(*http.Request, error) *http.Response { return &http.Response{StatusCode: 204} },
	}
	req := newRequest(t, "GET", "http://x", nil)
	resp, err := tr.RoundTrip(req)
	if err != nil || resp.StatusCode != 204 || resp.Request != req || resp.Body == nil {
		t.Fatalf("got %v and %v", resp, err)
	}
	read(t, resp)
}

// However Fallback ends, the request body is closed once and no slot is held.
func TestTransport_fallbackPanicReleases(t *testing.T) {
	for how, end := range testkit.Aborts("boom") {
		t.Run(how, func(t *testing.T) {
			upload := &body{Reader: strings.NewReader("content")}
			req := httptest.NewRequest("PUT", "http://x", upload)
			s := newSlots(resilience.Ended)
			tr := &httpmw.Transport{
				Base: answer(503), Policy: s,
				Fallback: func(*http.Request, error) *http.Response { end.Abort(); return nil },
			}
			got := testkit.Unwind(func() error {
				_, err := tr.RoundTrip(req)
				return err
			})
			if got != end || upload.closed.Load() != 1 || s.held.Load() != 0 {
				t.Errorf("ended %v, body closed %d times, %d held", got, upload.closed.Load(), s.held.Load())
			}
		})
	}
}

// Fallback is not called if the caller canceled, even if a policy rejected the request then.
func TestTransport_fallbackNotAfterCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tr := &httpmw.Transport{
		Base: answer(200),
		Policy: testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			cancel()
			return after(0)(ctx, next)
		}),
		Fallback: func(*http.Request, error) *http.Response { t.Error("Fallback was called"); return nil },
	}
	if _, err := tr.RoundTrip(newRequest(t, "GET", "http://x", nil).WithContext(ctx)); !errors.Is(err, resilience.ErrRejected) {
		t.Errorf("error %v", err)
	}
}
