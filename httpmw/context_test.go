package httpmw_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/keyed"
)

// WithoutRetry and WithIdempotent override the method, the policies and Retryable.
func TestWithoutRetry_andWithIdempotent(t *testing.T) {
	always := func(*http.Request, *http.Response, error) bool { return true }
	for name, test := range map[string]struct {
		method    string
		ctx       func(context.Context) context.Context
		retryable func(*http.Request, *http.Response, error) bool
		policy    resilience.Policy
		attempts  int32
	}{
		"GET":                                 {"GET", nil, nil, again(3), 3},
		"GET once":                            {"GET", httpmw.WithoutRetry, nil, again(3), 1},
		"once, though Retryable says more":    {"GET", httpmw.WithoutRetry, always, again(3), 1},
		"once, though the policy insists":     {"GET", httpmw.WithoutRetry, nil, stubborn(3), 1},
		"POST":                                {"POST", nil, nil, again(3), 1},
		"POST that is idempotent":             {"POST", httpmw.WithIdempotent, nil, again(3), 3},
		"idempotent, but once":                {"POST", both(httpmw.WithIdempotent, httpmw.WithoutRetry), nil, again(3), 1},
		"once, but idempotent":                {"POST", both(httpmw.WithoutRetry, httpmw.WithIdempotent), nil, again(3), 1},
		"idempotent stays so under a key":     {"POST", both(httpmw.WithIdempotent, tenant), nil, again(3), 3},
		"idempotent, but Retryable says no":   {"POST", httpmw.WithIdempotent, func(*http.Request, *http.Response, error) bool { return false }, again(3), 1},
		"idempotent, which Retryable can use": {"POST", httpmw.WithIdempotent, httpmw.DefaultRetryable, again(3), 3},
	} {
		t.Run(name, func(t *testing.T) {
			var attempts atomic.Int32
			base := roundTripper(func(r *http.Request) (*http.Response, error) {
				attempts.Add(1)
				consume(r)
				if len(r.Header["Idempotency-Key"]) > 0 {
					t.Error("the header was sent")
				}
				return response(503, "down"), nil
			})
			req := newRequest(t, test.method, "http://x", strings.NewReader("content"))
			if test.ctx != nil {
				req = req.WithContext(test.ctx(req.Context()))
			}
			tr := &httpmw.Transport{Base: base, Policy: test.policy, Retryable: test.retryable}
			resp, err := tr.RoundTrip(req)
			if attempts.Load() != test.attempts {
				t.Errorf("%d attempts, want %d", attempts.Load(), test.attempts)
			}
			if err == nil && (resp.StatusCode != 503 || read(t, resp) != "down") {
				t.Errorf("got %s", resp.Status)
			}
			var status *httpmw.StatusError
			if err != nil && !errors.As(err, &status) {
				t.Errorf("the last failure was lost: %v", err)
			}
		})
	}
}

func both(f, g func(context.Context) context.Context) func(context.Context) context.Context {
	return func(ctx context.Context) context.Context { return g(f(ctx)) }
}

func tenant(ctx context.Context) context.Context { return httpmw.WithKey(ctx, "tenant") }

// WithKey overrides Transport.Key.
func TestWithKey_overridesTransportKey(t *testing.T) {
	var got []string
	tr := &httpmw.Transport{Base: answer(200), Policy: testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		got = append(got, next.Key())
		return next.Run(ctx)
	})}
	ctx := t.Context()
	for _, ctx := range []context.Context{ctx, tenant(ctx), httpmw.WithKey(tenant(ctx), ""), both(tenant, httpmw.WithoutRetry)(ctx)} {
		for _, key := range []func(*http.Request) string{nil, func(*http.Request) string { return "route" }} {
			tr.Key = key
			resp, err := tr.RoundTrip(newRequest(t, "GET", "http://x", nil).WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
	}
	if want := "http://x:80 route tenant tenant   tenant tenant"; strings.Join(got, " ") != want {
		t.Errorf("keys %q, want %q", got, want)
	}
}

// A tenant that fails opens its own breaker and no other.
func TestWithKey_selectsPolicy(t *testing.T) {
	group := resilience.Must(keyed.New(resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}})), keyed.Config{}))
	tr := &httpmw.Transport{Base: answer(503, 200), Policy: group}
	for _, step := range []struct {
		tenant string
		open   bool
	}{{"a", false}, {"a", true}, {"b", false}} {
		resp, err := tr.RoundTrip(newRequest(t, "GET", "http://x", nil).WithContext(httpmw.WithKey(t.Context(), step.tenant)))
		if errors.Is(err, breaker.ErrOpen) != step.open {
			t.Errorf("tenant %s: %v", step.tenant, err)
		}
		if resp != nil {
			resp.Body.Close()
		}
	}
}

// The settings of a context hold for the requests that follow a redirect.
func TestWithKey_followsRedirect(t *testing.T) {
	var attempts atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			http.Redirect(w, r, "/next", http.StatusTemporaryRedirect)
			return
		}
		attempts.Add(1)
		w.WriteHeader(503)
	}))
	defer s.Close()
	client := &http.Client{Transport: &httpmw.Transport{Base: s.Client().Transport, Policy: again(3)}}
	for name, test := range map[string]struct {
		ctx  context.Context
		want int32
	}{"default": {t.Context(), 3}, "once": {httpmw.WithoutRetry(t.Context()), 1}} {
		attempts.Store(0)
		resp, err := client.Do(newRequest(t, "GET", s.URL, nil).WithContext(test.ctx))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if attempts.Load() != test.want {
			t.Errorf("%s: %d attempts", name, attempts.Load())
		}
	}
}
