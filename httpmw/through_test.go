package httpmw_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// bothWays serves a handler bare and guarded, over both protocols, and reports a
// difference between what f finds.
func bothWays(t *testing.T, h http.HandlerFunc, f func(t *testing.T, url string, rt http.RoundTripper) string) {
	t.Helper()
	policy := resilience.Compose(newBreaker(1_000), newBulkhead(9), newTimeout(time.Minute, resilience.Ended))
	guarded := httpmw.Server{Policy: policy}.Wrap(h)
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Guarded") != "" {
			guarded.ServeHTTP(w, r)
			return
		}
		h(w, r)
	}, func(t *testing.T, url string, base *http.Transport) {
		bare := f(t, url, base)
		got := f(t, url, roundTripper(func(r *http.Request) (*http.Response, error) {
			r.Header.Set("Guarded", "yes")
			return base.RoundTrip(r)
		}))
		if got != bare {
			t.Errorf("got %s\nbare %s", got, bare)
		}
	})
}

// http.ResponseController can do what it can without a Server.
func TestServer_responseController(t *testing.T) {
	bothWays(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		full := rc.EnableFullDuplex()
		write := rc.SetWriteDeadline(time.Now().Add(time.Hour))
		flush := rc.Flush()
		deadline := rc.SetReadDeadline(time.Now().Add(-time.Hour))
		_, err := io.ReadAll(r.Body)
		var push error
		if p, ok := w.(http.Pusher); ok {
			push = p.Push("/pushed", nil)
		}
		fmt.Fprint(w, full, write, flush, deadline, errors.Is(err, os.ErrDeadlineExceeded), push)
		if r.ProtoMajor != 1 {
			_, _, err := rc.Hijack()
			fmt.Fprint(w, err)
		}
	}, func(t *testing.T, url string, rt http.RoundTripper) string {
		pr, pw := io.Pipe()
		defer pw.Close()
		resp, err := rt.RoundTrip(newRequest(t, "POST", url, pr))
		if err != nil {
			t.Fatal(err)
		}
		got := read(t, resp)
		if !strings.Contains(got, "<nil> <nil> <nil> true") {
			t.Errorf("got %s", got)
		}
		return got
	})
}

// A write deadline that passed ends the response.
func TestServer_writeDeadline(t *testing.T) {
	bothWays(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := errors.Join(rc.Flush(), rc.SetWriteDeadline(time.Now().Add(-time.Hour))); err != nil {
			t.Error(err)
		}
		io.WriteString(w, strings.Repeat("x", 1<<20))
	}, func(t *testing.T, url string, rt http.RoundTripper) string {
		resp, err := rt.RoundTrip(newRequest(t, "GET", url, nil))
		if err == nil { // it is not over HTTP/2 if the end overtakes the headers
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		return fmt.Sprint("whole: ", err == nil)
	})
}

// net/http's own answers are the same with a Server.
func TestServer_sameAnswersAsNetHTTP(t *testing.T) {
	page := strings.NewReader(strings.Repeat("0123456789", 1000))
	mux := http.NewServeMux()
	mux.HandleFunc("/too/large", func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 3))
		if _, ok := errors.AsType[*http.MaxBytesError](err); !ok {
			t.Errorf("got %v", err)
		}
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
	})
	mux.HandleFunc("/content", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "page.txt", time.Unix(1e9, 0), page)
	})
	mux.HandleFunc("/no/body", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(204)
		if _, err := io.WriteString(w, "body"); !errors.Is(err, http.ErrBodyNotAllowed) {
			t.Errorf("got %v", err)
		}
	})
	mux.HandleFunc("/length", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "4")
		io.WriteString(w, "body and more")
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		io.WriteString(w, "body")
		w.Header().Set("Sum", "4")
		w.Header().Set(http.TrailerPrefix+"Late", "5")
	})
	mux.HandleFunc("/nothing", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/twice", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(202); w.WriteHeader(500) })
	mux.HandleFunc("/caught", func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if recover() == nil {
				t.Error("a status that there is not")
			}
			w.WriteHeader(418)
		}()
		w.WriteHeader(1000)
	})
	for _, path := range []string{"/too/large", "/content", "/no/body", "/length", "/trailers", "/nothing", "/twice", "/caught", "/nowhere"} {
		for _, method := range []string{"GET", "POST", "HEAD"} {
			if path == "/too/large" && method != "POST" || path == "/no/body" && method == "HEAD" {
				continue
			}
			t.Run(method+path, func(t *testing.T) {
				bothWays(t, mux.ServeHTTP, func(t *testing.T, url string, rt http.RoundTripper) string {
					var body io.Reader
					if method == "POST" {
						body = strings.NewReader("content")
					}
					req := newRequest(t, method, url+path, body)
					req.Header.Set("Range", "bytes=5-9,20-29")
					resp, err := rt.RoundTrip(req)
					if err != nil {
						return "no response"
					}
					defer resp.Body.Close()
					b, err := io.ReadAll(resp.Body)
					_, form, multi := strings.Cut(resp.Header.Get("Content-Type"), "boundary=")
					if resp.Header.Del("Date"); multi {
						resp.Header.Del("Content-Type")
						b = []byte(strings.ReplaceAll(string(b), form, "boundary"))
					}
					if path == "/too/large" {
						resp.Close = true // as Wrap says
					}
					return fmt.Sprint(resp.Status, resp.Header, resp.ContentLength, resp.Trailer, resp.Close, string(b), err)
				})
			})
		}
	}
}

// http.MaxBytesHandler around a Server closes the connection.
func TestServer_maxBytesHandlerOutside(t *testing.T) {
	h := http.MaxBytesHandler(httpmw.Server{Policy: newBulkhead(9)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		}
	})), 3)
	serve(t, h.ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
		resp, err := base.RoundTrip(newRequest(t, "POST", url, strings.NewReader("content")))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 413 || resp.Close != (resp.ProtoMajor == 1) {
			t.Errorf("status %d, close %v", resp.StatusCode, resp.Close)
		}
	})
}

// A status that net/http does not accept is not the handler's status.
func TestServer_invalidStatus(t *testing.T) {
	outcomes := make(chan resilience.Outcome, 1)
	h := httpmw.Server{Policy: judged(outcomes)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		func() {
			defer func() { _ = recover() }()
			w.WriteHeader(1000)
		}()
		w.WriteHeader(418)
	}))
	serve(t, h.ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
		resp, err := base.RoundTrip(newRequest(t, "GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := <-outcomes; got != resilience.Success || resp.StatusCode != 418 {
			t.Errorf("status %d counted as a %v", resp.StatusCode, got)
		}
	})
}

// A rejection is answered while the client still sends.
func TestServer_rejectsDuringUpload(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request, error){
		"default": nil,
		"own": func(w http.ResponseWriter, _ *http.Request, err error) {
			if !errors.Is(err, breaker.ErrOpen) {
				t.Errorf("got %v", err)
			}
			w.Header().Set("Retry-After", "1")
			http.Error(w, "later", http.StatusServiceUnavailable)
		},
	} {
		h := httpmw.Server{Policy: after(0), ErrorHandler: answer}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			t.Error("the handler ran")
		}))
		serve(t, h.ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
			proceed := make(chan struct{})
			sent := newUpload(strings.Repeat("x", 1<<20), proceed)
			req := newRequest(t, "PUT", url, sent)
			req.ContentLength = 1 << 20
			resp, err := base.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"default": "Service Unavailable\n", "own": "later\n"}[name]
			b, err := io.ReadAll(resp.Body)
			if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || string(b) != want || err != nil {
				t.Errorf("%s: got %d %q %v, %v", name, resp.StatusCode, b, resp.Header, err)
			}
			close(proceed)
			resp.Body.Close()
			<-sent.closed

			resp, err = base.RoundTrip(newRequest(t, "HEAD", url, nil))
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, resp); resp.StatusCode != 503 || got != "" || resp.Header.Get("Retry-After") != "1" {
				t.Errorf("%s, HEAD: got %d %q", name, resp.StatusCode, got)
			}
		})
	}
}

// A handler that panics is a failure over HTTP/1 and HTTP/2.
func TestServer_unwindOverBothProtocols(t *testing.T) {
	outcomes := make(chan resilience.Outcome, 1)
	for name, how := range testkit.Aborts("boom") {
		h := httpmw.Server{Policy: judged(outcomes)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/begun" {
				io.WriteString(w, "begun")
				w.(http.Flusher).Flush()
			}
			how.Abort()
		}))
		serve(t, h.ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
			for _, path := range []string{"/", "/begun"} {
				resp, err := base.RoundTrip(newRequest(t, "POST", url+path, nil))
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if err == nil {
					t.Errorf("%s, %s: the response is whole", name, path)
				}
				if got := <-outcomes; got != resilience.Failure {
					t.Errorf("%s, %s: counted as a %v", name, path, got)
				}
			}
		})
	}
}

// A panic after a hijack leaves the connection to its owner.
func TestServer_panicAfterHijack(t *testing.T) {
	for value, want := range map[any]resilience.Outcome{"boom": resilience.Failure, http.ErrAbortHandler: resilience.Ignored} {
		outcomes := make(chan resilience.Outcome, 1)
		judged := judged(outcomes)
		s := httptest.NewUnstartedServer(httpmw.Server{Policy: judged}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			go func() {
				defer conn.Close()
				echo(rw)
			}()
			panic(value)
		})))
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.Start()
		resp, err := s.Client().Transport.RoundTrip(upgrade(t, s.URL))
		if err != nil {
			t.Fatal(err)
		}
		if got := <-outcomes; got != want {
			t.Errorf("%v: counted as a %v", value, got)
		}
		io.WriteString(resp.Body.(io.Writer), "hello\n")
		if got := read(t, resp); got != "hello\n" {
			t.Errorf("%v: got %q", value, got)
		}
		s.Close()
	}
}

// A hijacked connection is a success, however long it lasts.
func TestServer_hijackIsSuccess(t *testing.T) {
	outcomes := make(chan resilience.Outcome, 1)
	h := httpmw.Server{
		Policy: resilience.Compose(judged(outcomes), cutOff(time.Millisecond)),
		Classify: func(_ *http.Request, code int) resilience.Outcome {
			t.Errorf("Classify got %d of a connection without a status", code)
			return resilience.Failure
		},
	}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		<-r.Context().Done()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	}))
	s := httptest.NewServer(h)
	defer s.Close()
	resp, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := <-outcomes; got != resilience.Success {
		t.Errorf("counted as a %v", got)
	}
}
