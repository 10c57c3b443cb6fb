package httpmw_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// several is an error that cannot be compared.
type several []error

func (s several) Error() string { return fmt.Sprint([]error(s)) }

// A cause of an uncomparable type does not panic.
func TestTransport_uncomparableCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	base := roundTripper(func(*http.Request) (*http.Response, error) {
		cause := several{errors.New("gone")}
		cancel(cause)
		return nil, cause
	})
	req := newRequest(t, "GET", "http://x", nil).WithContext(ctx)
	if _, err := (&httpmw.Transport{Base: base, Policy: resilience.Compose()}).RoundTrip(req); err == nil || err.Error() != "[gone]" {
		t.Errorf("got %v", err)
	}
}

// hidden is a writer of a middleware that offers nothing but the way to the inner
// one.
type hidden struct{ inner http.ResponseWriter }

func (h hidden) Header() http.Header         { return h.inner.Header() }
func (h hidden) Write(p []byte) (int, error) { return h.inner.Write(p) }
func (h hidden) WriteHeader(code int)        { h.inner.WriteHeader(code) }
func (h hidden) Unwrap() http.ResponseWriter { return h.inner }

// A response that begins with a flush through Unwrap stays as it is.
func TestServer_flushThroughUnwrap(t *testing.T) {
	late := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		_ = next.Run(ctx)
		return context.DeadlineExceeded
	})
	h := httpmw.Server{Policy: late}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, ok := w.(http.Flusher); ok {
			t.Error("a Flusher that the inner writer is not")
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	}))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(hidden{w}, r) }))
	defer s.Close()
	resp, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || len(b) != 0 || err != nil {
		t.Errorf("status %d, body %q, error %v", resp.StatusCode, b, err)
	}
}

// Retry-After does not overflow for a rejection without an end.
func TestUnavailable_retryAtFarAhead(t *testing.T) {
	w := httptest.NewRecorder()
	httpmw.Unavailable(w, nil, &resilience.Rejection{RetryAt: time.Now().Add(math.MaxInt64)})
	if got := w.Header().Get("Retry-After"); len(got) < 9 {
		t.Errorf("Retry-After is %s", got)
	}
}
