package httpmw_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// prepare sets the headers of a response, as a handler does before it writes the body.
func prepare(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Encoding", "gzip")
	h.Set("Content-Length", "1000")
	h.Set("Cache-Control", "public, max-age=86400")
	h.Set("Etag", `"v1"`)
	h.Set("Last-Modified", "Tue, 01 Sep 2026 00:00:00 GMT")
	h.Set("Trailer", "Sum")
	h.Set("Vary", "Cookie")
	h.Set("X-Request-Id", "the handler's")
	h.Add("Set-Cookie", "session=secret")
	h.Del("Strict-Transport-Security")
	h.Set(http.TrailerPrefix+"Sum", "1")
}

// A response that replaces the handler's has none of the handler's headers, as with
// http.TimeoutHandler. Headers that middleware outside had set stay.
func TestServer_replacementHeaders(t *testing.T) {
	outside := http.Header{
		"X-Request-Id":              {"7"},
		"Set-Cookie":                {"region=eu"},
		"Strict-Transport-Security": {"max-age=1"},
	}
	for name, test := range map[string]struct {
		outside http.Header
		handle  func(w http.ResponseWriter)
	}{
		"nothing outside":            {nil, prepare},
		"headers outside":            {outside, prepare},
		"headers outside and inside": {outside, func(w http.ResponseWriter) { w.WriteHeader(103); prepare(w); prepare(w) }},
		"no headers inside":          {outside, func(w http.ResponseWriter) {}},
	} {
		for what, s := range map[string]httpmw.Server{
			"a timeout": {Policy: newTimeout(time.Millisecond, 0)},
			"a policy that fails a success": {Policy: testkit.Policy(func(ctx context.Context, next resilience.Next) error {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(time.Millisecond, cancel)
				return errors.Join(next.Run(ctx), errors.New("no"))
			})},
			"an ErrorHandler": {
				Policy: newTimeout(time.Millisecond, 0),
				ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
					http.Error(w, "Service Unavailable", http.StatusServiceUnavailable)
				},
			},
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				guarded := s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					test.handle(w)
					<-r.Context().Done()
				}))
				serve(t, func(w http.ResponseWriter, r *http.Request) {
					for key, values := range test.outside {
						w.Header()[key] = slices.Clone(values)
					}
					guarded.ServeHTTP(w, r)
				}, func(t *testing.T, url string, base *http.Transport) {
					resp, err := base.RoundTrip(newRequest(t, "GET", url, nil))
					if err != nil {
						t.Fatal(err)
					}
					if got := read(t, resp); resp.StatusCode != 503 || got != "Service Unavailable\n" {
						t.Errorf("got %d %q", resp.StatusCode, got)
					}
					got := resp.Header.Clone()
					for _, key := range []string{"Date", "Content-Type", "Content-Length", "X-Content-Type-Options"} {
						got.Del(key) // of the 503
					}
					if want := test.outside; !maps.EqualFunc(got, want, slices.Equal) || len(resp.Trailer) != 0 {
						t.Errorf("headers %v, trailers %v; want headers %v", got, resp.Trailer, want)
					}
				})
			})
		}
	}
}

// The headers of one request do not get into the response to another, also if they run at
// the same time.
func TestServer_headersOfOneRequest(t *testing.T) {
	var inside func() // called in the handler, unless nil
	h := httpmw.Server{Policy: newTimeout(time.Millisecond, 0)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		prepare(w)
		if f := inside; f != nil {
			inside = nil
			f()
		}
		<-r.Context().Done()
	}))
	serve := func(outside http.Header) {
		w := httptest.NewRecorder()
		maps.Copy(w.Header(), outside)
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		for _, key := range []string{"Content-Type", "X-Content-Type-Options"} {
			w.Header().Del(key) // of the 503
		}
		if got := w.Header(); w.Code != 503 || !maps.EqualFunc(got, outside, slices.Equal) {
			t.Errorf("%d with %v, want %v", w.Code, got, outside)
		}
	}
	all := []http.Header{{}, {"A": {"1"}, "B": {"2"}}, {"C": {"3"}}, {}}
	for range 3 {
		for _, outer := range all {
			serve(outer)
			for _, inner := range all {
				inside = func() { serve(inner) }
				serve(outer)
			}
		}
	}
}

// A response of the handler keeps all headers.
func TestServer_answerKeepsHeaders(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("X-Request-Id", "7")
	httpmw.Server{Policy: pass}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		w.WriteHeader(200)
		w.Header().Set("Late", "1")
	})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if want := (http.Header{"X-Request-Id": {"7"}, "Etag": {`"v1"`}, "Late": {"1"}}); !maps.EqualFunc(w.Header(), want, slices.Equal) {
		t.Errorf("headers %v, want %v", w.Header(), want)
	}
}

// The headers of middleware outside cost no allocation.
func TestServer_outerHeadersAllocateNothing(t *testing.T) {
	etag := []string{`"v1"`}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Etag"] = etag
		w.WriteHeader(200)
	})
	wrapped := httpmw.Server{Policy: pass}.Wrap(h)
	w := httptest.NewRecorder()
	for _, key := range []string{"A", "B", "C", "D", "E"} {
		w.Header().Set(key, "value")
	}
	w.WriteHeader(200)
	r := httptest.NewRequest("GET", "/", nil)
	bare := testing.AllocsPerRun(100, func() { h.ServeHTTP(w, r) })
	if got := testing.AllocsPerRun(100, func() { wrapped.ServeHTTP(w, r) }) - bare; got != 1 {
		t.Errorf("%v allocations more", got)
	}
}
