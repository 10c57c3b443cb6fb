package httpmw_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// upload is a request body whose first Read waits. One Read runs at a time, or the
// race detector sees it.
type upload struct {
	io.Reader
	wait   <-chan struct{} // nil: it does not
	reads  int
	closed chan struct{}
	closes atomic.Int32
}

func newUpload(content string, wait <-chan struct{}) *upload {
	return &upload{Reader: strings.NewReader(content), wait: wait, closed: make(chan struct{})}
}

func (u *upload) Read(p []byte) (int, error) {
	if u.reads++; u.wait != nil {
		<-u.wait
	}
	return u.Reader.Read(p)
}

func (u *upload) Close() error {
	if u.closes.Add(1) == 1 {
		close(u.closed)
	}
	return nil
}

// busy answers in several ways to what it does not read.
func busy(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 need not be asked
	size := map[string]int{"/short": 4, "/long": 100_000}[r.URL.Path]
	if size > 0 {
		w.Header().Set("Content-Length", fmt.Sprint(size))
	}
	w.WriteHeader(503)
	io.WriteString(w, strings.Repeat("x", size))
	if r.URL.Path == "/endless" {
		w.(http.Flusher).Flush()
		io.Copy(io.Discard, r.Body) // until the client hangs up
	}
}

// A response before the end of an upload is retried while the upload ends.
func TestTransport_earlyResponseIsRetried(t *testing.T) {
	content := strings.Repeat("x", 1<<20) // more than a server reads to be polite
	second := make(chan struct{})
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Retry-Attempt") == "" {
			busy(w, r)
			return
		}
		second <- struct{}{} // the first body is still being read
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	}, func(t *testing.T, addr string, base *http.Transport) {
		for _, path := range []string{"/short", "/long", "/endless"} {
			proceed := make(chan struct{})
			bodies := []*upload{newUpload(content, proceed), newUpload(content, nil)}
			req := newRequest(t, "PUT", addr+path, bodies[0])
			req.ContentLength = int64(len(content))
			req.GetBody = func() (io.ReadCloser, error) { return bodies[1], nil }
			go func() {
				<-second
				close(proceed)
			}()
			policy, slots := everything()
			resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, resp); got != fmt.Sprint(len(content), " <nil>") {
				t.Errorf("%s: the server got %s", path, got)
			}
			free(t, slots)
			for i, b := range bodies {
				<-b.closed // which may be later than the answer
				if n := b.closes.Load(); n != 1 {
					t.Errorf("%s: body %d was closed %d times", path, i+1, n)
				}
			}
		}
	})
}

// A policy that fails does not wait for an upload.
func TestTransport_rejectionSkipsUpload(t *testing.T) {
	boom := errors.New("boom")
	failing := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		_ = next.Run(ctx)
		return boom
	})
	serve(t, busy, func(t *testing.T, addr string, base *http.Transport) {
		proceed := make(chan struct{})
		body := newUpload("content", proceed)
		req := newRequest(t, "PUT", addr+"/endless", body)
		req.ContentLength = 1 << 20
		slots := newBulkhead(1)
		if _, err := (&httpmw.Transport{Base: base, Policy: resilience.Compose(failing, slots)}).RoundTrip(req); !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
		free(t, slots)
		close(proceed)
		<-body.closed
	})
}

// A server that does not send 100 Continue gets no body.
func TestTransport_expectContinue(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Retry-Attempt") == "" {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		b, err := io.ReadAll(r.Body)
		fmt.Fprint(w, string(b), err)
	}, func(t *testing.T, addr string, base *http.Transport) {
		base.ExpectContinueTimeout = time.Hour
		bodies := []*upload{newUpload("content", nil), newUpload("content", nil)}
		req := newRequest(t, "PUT", addr, bodies[0])
		req.Header.Set("Expect", "100-continue")
		req.GetBody = func() (io.ReadCloser, error) { return bodies[1], nil }
		policy, _ := everything()
		resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); got != "content<nil>" {
			t.Errorf("the server got %s", got)
		}
		for i, b := range bodies {
			if <-b.closed; b.closes.Load() != 1 || i == 0 && b.reads != 0 {
				t.Errorf("body %d was read %d times and closed %d times", i+1, b.reads, b.closes.Load())
			}
		}
	})
}

// announcing is a body that sets a trailer at its end.
type announcing struct {
	io.Reader
	set func()
}

func (a announcing) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if err == io.EOF {
		a.set()
	}
	return n, err
}

// The trailers of a request arrive with each attempt.
func TestTransport_requestTrailers(t *testing.T) {
	got := make(chan string, 3)
	h := httpmw.Server{Policy: newTimeout(time.Minute, resilience.Ended)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- string(b) + r.Trailer.Get("Sum")
		if r.Header.Get("Retry-Attempt") == "" {
			w.WriteHeader(503)
		}
	}))
	serve(t, h.ServeHTTP, func(t *testing.T, addr string, base *http.Transport) {
		var req *http.Request
		n := 0
		body := func() (io.ReadCloser, error) {
			n++
			sum := fmt.Sprint(n)
			return io.NopCloser(announcing{strings.NewReader("body "), func() { req.Trailer.Set("Sum", sum) }}), nil
		}
		first, _ := body()
		req = newRequest(t, "PUT", addr, first)
		req.GetBody, req.Trailer = body, http.Header{"Sum": nil}
		policy, _ := everything()
		resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if one, two := <-got, <-got; one != "body 1" || two != "body 2" {
			t.Errorf("the server got %q and %q", one, two)
		}
	})
}

// Bodies are closed once over HTTP/1 and HTTP/2.
func TestTransport_closesBodiesOnce(t *testing.T) {
	hanging := make(chan struct{})
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/busy":
			w.WriteHeader(503)
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/hang":
			close(hanging)
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		}
	}, func(t *testing.T, addr string, base *http.Transport) {
		for path, want := range map[string]int{"/": 1, "/busy": 3, "/abort": 3, "/hang": 1, "/invalid": 1} {
			var made []*upload
			body := func() (io.ReadCloser, error) {
				made = append(made, newUpload("content", nil))
				return made[len(made)-1], nil
			}
			first, _ := body()
			ctx, cancel := context.WithCancel(t.Context())
			req := newRequest(t, "PUT", addr+path, first).WithContext(ctx)
			req.GetBody = body
			switch path {
			case "/hang":
				hanging = make(chan struct{})
				go func() {
					<-hanging
					cancel()
				}()
			case "/invalid":
				req.Header["a b"] = []string{"c"}
			}
			policy, slots := everything()
			resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(req)
			if err == nil {
				read(t, resp)
			}
			cancel()
			if len(made) != want {
				t.Errorf("%s: %d bodies, want %d", path, len(made), want)
			}
			for i, b := range made {
				if <-b.closed; b.closes.Load() != 1 {
					t.Errorf("%s: body %d was closed %d times", path, i+1, b.closes.Load())
				}
			}
			free(t, slots)
		}
	})
}

// A request that net/http finds invalid only when it sends it is no evidence about the
// server.
func TestTransport_lateInvalidRequest(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	}, func(t *testing.T, addr string, base *http.Transport) {
		resp, err := base.RoundTrip(newRequest(t, "GET", addr, nil)) // the client now knows the settings of the server
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		for name, test := range map[string]struct {
			change func(*http.Request)
			only   string // the protocol that minds
		}{
			"shorter than it says":  {func(r *http.Request) { r.ContentLength = 9 }, "HTTP/1"},
			"longer than it says":   {func(r *http.Request) { r.ContentLength = 3 }, ""},
			"length of no body":     {func(r *http.Request) { r.Body, r.ContentLength = nil, 3 }, "HTTP/1"},
			"control character":     {func(r *http.Request) { r.URL.RawQuery = "a=\x01" }, "HTTP/1"},
			"path without a slash":  {func(r *http.Request) { r.URL.Opaque = "path" }, "HTTP/2"},
			"trailer that is none":  {func(r *http.Request) { r.ContentLength, r.Trailer = -1, http.Header{"Content-Length": nil} }, ""},
			"host":                  {func(r *http.Request) { r.Host = "a b" }, "HTTP/2"},
			"upgrade":               {func(r *http.Request) { r.Header.Set("Upgrade", "websocket") }, "HTTP/2"},
			"transfer encoding":     {func(r *http.Request) { r.Header.Set("Transfer-Encoding", "gzip") }, "HTTP/2"},
			"headers too large":     {func(r *http.Request) { r.Header.Set("A", strings.Repeat("a", 2<<20)) }, "HTTP/2"},
			"header for connection": {func(r *http.Request) { r.Header.Set("Connection", "upgrade") }, "HTTP/2"},
		} {
			t.Run(name, func(t *testing.T) {
				if test.only != "" && !strings.Contains(t.Name(), test.only) {
					return
				}
				// net/http closes the connection on which it could not write, and now and
				// then it is that which it reports, from the goroutine that reads.
				err := net.ErrClosed
				for i := 0; i < 10 && errors.Is(err, net.ErrClosed); i++ {
					req := newRequest(t, "PUT", addr, strings.NewReader("content"))
					test.change(req)
					n := 0
					counting := roundTripper(func(r *http.Request) (*http.Response, error) { n++; return base.RoundTrip(r) })
					b := newBreaker(1)
					_, err = (&httpmw.Transport{Base: counting, Policy: resilience.Compose(newRetry(), b)}).RoundTrip(req)
					if !errors.Is(err, net.ErrClosed) && (err == nil || n != 1 || b.State() != breaker.Closed) {
						t.Errorf("%d attempts, the breaker is %v, error %v", n, b.State(), err)
					}
				}
				if errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			})
		}
	})
}

// A host that a proxy cannot accept is no evidence about the server.
func TestTransport_invalidProxyHost(t *testing.T) {
	base := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.test"}), DialContext: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go io.Copy(io.Discard, server)
		return client, nil
	}}
	// As in the test above, net/http now and then reports the connection that it closed.
	var got resilience.Outcome
	err := io.ErrClosedPipe
	for i := 0; i < 10 && errors.Is(err, io.ErrClosedPipe); i++ {
		req := newRequest(t, "GET", "http://example.test", nil)
		req.Host = "a b"
		p := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			err = next.Run(ctx)
			got = resilience.OutcomeOf(ctx, err, nil)
			return err
		})
		_, _ = (&httpmw.Transport{Base: base, Policy: p}).RoundTrip(req)
	}
	if got != resilience.Ignored {
		t.Errorf("counted as a %v: %v", got, err)
	}
}
