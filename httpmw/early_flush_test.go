package httpmw_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// broken is a writer whose client cannot be reached.
type broken struct{ http.ResponseWriter }

func (broken) FlushError() error { return io.ErrClosedPipe }

func (broken) Flush() {}

func (broken) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}

// A flush that fails is not an answer.
func TestServer_failedFlushIsNoAnswer(t *testing.T) {
	p := newAnswerSlots()
	httpmw.Server{Policy: p}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		if err := http.NewResponseController(w).Flush(); err != io.ErrClosedPipe {
			t.Errorf("the flush says %v", err)
		}
		if _, _, err := w.(http.Hijacker).Hijack(); err != http.ErrNotSupported {
			t.Errorf("the hijack says %v", err)
		}
		if p.held.Load() != 1 {
			t.Error("the slot was released")
		}
	})).ServeHTTP(broken{httptest.NewRecorder()}, httptest.NewRequest("GET", "/", nil))
	p.free(t)
}

// A flush reaches a writer that has Flush only.
func TestServer_flushWithoutError(t *testing.T) {
	w := httptest.NewRecorder()
	httpmw.Server{Policy: pass}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if !w.Flushed {
		t.Error("not flushed")
	}
}

// unflushable is a writer whose Flush fails.
type unflushable struct {
	http.ResponseWriter
	err error
}

func (w unflushable) FlushError() error {
	if w.err != http.ErrNotSupported {
		w.WriteHeader(200) // as net/http does
	}
	return w.err
}

// A flush that fails has begun the response, as in net/http. A flush that the server's
// writer does not support has not.
func TestServer_failedFlushBegins(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		code int // the status that the policies see after a 500
	}{"fails": {io.ErrClosedPipe, 200}, "not supported": {http.ErrNotSupported, 500}} {
		for how, outside := range map[string]func(http.ResponseWriter) http.ResponseWriter{
			"by itself":      func(w http.ResponseWriter) http.ResponseWriter { return w },
			"by Unwrap":      func(w http.ResponseWriter) http.ResponseWriter { return wrapped{w} },
			"as a Flusher":   func(w http.ResponseWriter) http.ResponseWriter { return flusherOf{w.(unflushable)} },
			"around another": func(w http.ResponseWriter) http.ResponseWriter { return wrapped{flusherOf{w.(unflushable)}} },
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				code := 200
				policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
					err := next.Run(ctx)
					if s, ok := errors.AsType[*httpmw.StatusError](err); ok {
						code = s.StatusCode
					}
					return err
				})
				w := httptest.NewRecorder()
				httpmw.Server{Policy: policy}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if err := http.NewResponseController(w).Flush(); !errors.Is(err, test.err) {
						t.Errorf("the flush returned %v", err)
					}
					w.WriteHeader(500)
				})).ServeHTTP(outside(unflushable{w, test.err}), httptest.NewRequest("GET", "/", nil))
				if code != test.code || w.Code != test.code {
					t.Errorf("the client got %d, the policies %d, want %d", w.Code, code, test.code)
				}
			})
		}
	}
}
