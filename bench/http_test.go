package bench_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
)

// Types of the sizes of the per-call structs of httpmw and grpcmw. Like these
// structs they are full of pointers, which the garbage collector has to follow.
// TestDemand_callSizes compares the sizes.
type (
	clientCall [320 / 8]*byte
	serverCall [128 / 8]*byte
	grpcCall   [240 / 8]*byte
)

// client sends a request to a stub that answers with body, no body if that is
// nil, and reads the answer. Nothing guards it if p is nil.
func client(p resilience.Policy, body io.ReadCloser) func(n int) {
	return func(n int) {
		// Each goroutine has its own, and allocates it once for many calls.
		stub := &stubTransport{body: body}
		if body == nil {
			stub.body = http.NoBody
		}
		var transport http.RoundTripper = stub
		if p != nil {
			transport = &httpmw.Transport{Base: stub, Policy: p}
		}
		req := httptest.NewRequest(http.MethodGet, "https://payments.example.com/", nil)
		var buf [16]byte
		for range n {
			resp, err := transport.RoundTrip(req)
			if err != nil {
				panic(err)
			}
			if _, err := resp.Body.Read(buf[:]); err != io.EOF {
				panic(err)
			}
			resp.Body.Close()
		}
	}
}

// stubTransport answers with the same response again and again: in this way the
// bare row allocates nothing.
type stubTransport struct {
	resp http.Response
	body io.ReadCloser
}

func (s *stubTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	s.resp.StatusCode, s.resp.Body, s.resp.Request = http.StatusOK, s.body, req
	return &s.resp, nil
}

// body is a response body that is at its end, but cannot be known to be.
type body struct{}

func (body) Read([]byte) (int, error) { return 0, io.EOF }
func (body) Close() error             { return nil }

// server serves a request with a handler that answers. Nothing guards it if p is
// nil.
func server(p resilience.Policy) func(n int) {
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
	})
	if p != nil {
		h = httpmw.Server{Policy: p}.Wrap(h)
	}
	return served(h)
}

// refusal serves a request that a limit refuses, as it does in an overload.
func refusal() func(n int) {
	return served(httpmw.Server{Policy: refusing{}}.Wrap(http.NotFoundHandler()))
}

func served(h http.Handler) func(n int) {
	return func(n int) {
		var w http.ResponseWriter = &stubWriter{header: make(http.Header)}
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		for range n {
			h.ServeHTTP(w, req)
		}
	}
}

// stubWriter can do what the http.ResponseWriter of HTTP/1 can.
type stubWriter struct{ header http.Header }

func (w *stubWriter) Header() http.Header         { return w.header }
func (w *stubWriter) WriteHeader(int)             {}
func (w *stubWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *stubWriter) Flush()                      {}

func (w *stubWriter) ReadFrom(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }

func (w *stubWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}
