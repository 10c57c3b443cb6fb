package interop_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
)

// keys is a policy that records the keys of its calls.
type keys struct {
	mu   sync.Mutex
	seen []string
}

func (k *keys) Apply(ctx context.Context, next resilience.Next) error {
	k.mu.Lock()
	k.seen = append(k.seen, next.Key())
	k.mu.Unlock()
	return next.Run(context.WithValue(ctx, k, true)) // so that the request is a copy
}

func (k *keys) server() httpmw.Server { return httpmw.Server{Policy: k} }

// user answers with the part of the path that the router found.
func user(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.PathValue("id")) }

// pattern records the request's pattern after its handler has returned.
func pattern(seen *string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r)
			*seen = r.Pattern
		})
	}
}

// The route is the key of a server inside a router.
func TestServer_routeIsKey(t *testing.T) {
	for name, test := range map[string]struct {
		router func(srv httpmw.Server) http.Handler
		key    string
	}{
		"mux": {func(srv httpmw.Server) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("GET /users/{id}", srv.Wrap(http.HandlerFunc(user)))
			return mux
		}, "GET /users/{id}"},
		"chi, of a group": {func(srv httpmw.Server) http.Handler {
			r := chi.NewRouter()
			r.Group(func(r chi.Router) {
				r.Use(srv.Wrap)
				r.Get("/users/{id}", user)
			})
			return r
		}, "/users/{id}"},
		"chi, of a route": {func(srv httpmw.Server) http.Handler {
			r := chi.NewRouter()
			r.Route("/users", func(r chi.Router) { r.With(srv.Wrap).Get("/{id}", user) })
			return r
		}, "/users/{id}"},
		"chi, a handler": {func(srv httpmw.Server) http.Handler {
			r := chi.NewRouter()
			r.Method("GET", "/users/{id}", srv.Wrap(http.HandlerFunc(user)))
			return r
		}, "/users/{id}"},
	} {
		t.Run(name, func(t *testing.T) {
			var k keys
			h := test.router(k.server())
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/users/7", nil))
			if w.Code != 200 || w.Body.String() != "7" {
				t.Errorf("got %d %q", w.Code, w.Body)
			}
			if !slices.Equal(k.seen, []string{test.key}) {
				t.Errorf("keys %q, want %q", k.seen, test.key)
			}
		})
	}
}

// A server around a router has no route before the router has run. Afterwards the
// pattern is on the outer request too, where loggers and metrics read it.
func TestServer_patternAfterRouter(t *testing.T) {
	for name, test := range map[string]struct {
		router  func(srv httpmw.Server, seen *string) http.Handler
		pattern string
	}{
		"mux": {func(srv httpmw.Server, seen *string) http.Handler {
			mux := http.NewServeMux()
			mux.HandleFunc("/users/{id}", user)
			return pattern(seen)(srv.Wrap(mux))
		}, "/users/{id}"},
		"chi": {func(srv httpmw.Server, seen *string) http.Handler {
			r := chi.NewRouter()
			r.Use(pattern(seen), srv.Wrap)
			r.Get("/users/{id}", user)
			return r
		}, "/users/{id}"},
	} {
		t.Run(name, func(t *testing.T) {
			var k keys
			var seen string
			w := httptest.NewRecorder()
			test.router(k.server(), &seen).ServeHTTP(w, httptest.NewRequest("GET", "/users/7", nil))
			if w.Code != 200 || w.Body.String() != "7" || seen != test.pattern || !slices.Equal(k.seen, []string{""}) {
				t.Errorf("got %d %q, pattern %q, keys %q", w.Code, w.Body, seen, k.seen)
			}
		})
	}
}

// The middleware of chi works outside and inside a server. Neither hides the other's
// methods of the writer, and chi finds its route in a context derived from its own.
func TestServer_chiMiddleware(t *testing.T) {
	var k keys
	var route string
	var status, size int
	r := chi.NewRouter()
	r.Use(middleware.RequestID, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			next.ServeHTTP(ww, r)
			status, size = ww.Status(), ww.BytesWritten()
		})
	}, k.server().Wrap, middleware.Compress(5), middleware.Recoverer)
	r.Route("/users/{id}", func(r chi.Router) {
		r.Get("/name", func(w http.ResponseWriter, r *http.Request) {
			route = chi.RouteContext(r.Context()).RoutePattern()
			w.WriteHeader(http.StatusTeapot)
			io.WriteString(w, chi.URLParam(r, "id"))
			w.(http.Flusher).Flush()
		})
		r.Get("/panic", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	})
	each(t, r, func(t *testing.T, url string, base *http.Transport) {
		code, got := fetch(t, &http.Client{Transport: base}, request(t, "GET", url+"/users/7/name", nil))
		if code != http.StatusTeapot || got != "7" || route != "/users/{id}/name" || status != code || size != 1 {
			t.Errorf("got %d %q at %q; outside %d with %d bytes", code, got, route, status, size)
		}
		resp, err := base.RoundTrip(request(t, "GET", url+"/users/7/panic", nil))
		if err == nil {
			resp.Body.Close()
			t.Errorf("status %d of a handler that aborted", resp.StatusCode)
		}
	})
}
