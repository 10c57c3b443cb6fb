package httpmw_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// readerFunc is a reader without WriteTo: with WriteTo, io.Copy does not call ReadFrom.
type readerFunc func(p []byte) (int, error)

// reads is a reader whose reads return one element each.
type reads []struct {
	text string
	err  error
}

func (r *reads) Read(p []byte) (int, error) {
	if len(*r) == 0 {
		return 0, io.EOF
	}
	next := (*r)[0]
	*r = (*r)[1:]
	return copy(p, next.text), next.err
}

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// source is a reader of text without WriteTo.
func source(text string) io.Reader { return struct{ io.Reader }{strings.NewReader(text)} }

// unread stands for a body that breaks off.
const unread = "unread"

// copying are handlers that copy, and what their client gets from net/http.
var copying = map[string]struct {
	handler http.HandlerFunc
	code    int
	body    string
}{
	"a source that fails at once, then a status": {func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, iotest.ErrReader(errors.New("broken"))); err == nil {
			panic("copied")
		}
		http.Error(w, "no file", 500)
	}, 500, "no file\n"},
	"an empty source, then a status": {func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, source("")); err != nil {
			panic(err)
		}
		w.WriteHeader(404)
	}, 404, ""},
	"an empty source": {func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, source(""))
	}, 200, ""},
	"a source, then a status": {func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(w, source("body")); n != 4 || err != nil {
			panic(err)
		}
		w.WriteHeader(500)
	}, 200, "body"},
	"a source that fails later, then a status": {func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, io.MultiReader(source("body"), iotest.ErrReader(errors.New("broken")))); err == nil {
			panic("copied")
		}
		w.WriteHeader(500)
	}, 200, "body"},
	"more than Content-Length, then a status": {func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1")
		_, _ = io.Copy(w, source("body")) // fails over HTTP/1
		w.WriteHeader(500)
	}, 200, unread},
	"a write that fails, then a status": {func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1")
		_, _ = w.Write([]byte("body")) // fails over HTTP/1
		w.WriteHeader(500)
	}, 200, unread},
	"a string that fails, then a status": {func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1")
		_, _ = io.WriteString(w, "body") // fails over HTTP/1
		w.WriteHeader(500)
	}, 200, unread},
	"an empty write, then a status": {func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(nil)
		w.WriteHeader(500)
	}, 200, ""},
}

// The policies see the status that the client gets: a copy begins the response with the
// first byte of its source, a write when it is called.
func TestServer_begunAsNetHTTP(t *testing.T) {
	for name, test := range copying {
		t.Run(name, func(t *testing.T) {
			seen := make(chan error, 1)
			policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
				err := next.Run(ctx)
				seen <- err
				return err
			})
			everyServer(t, httpmw.Server{Policy: policy}.Wrap(test.handler).ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
				resp, err := base.RoundTrip(newRequest(t, "GET", url, nil))
				switch {
				case err != nil && test.body == unread: // HTTP/2 resets the stream
				case err != nil:
					t.Fatal(err)
				case resp.StatusCode != test.code:
					t.Errorf("the client got %d, want %d", resp.StatusCode, test.code)
				case test.body == unread:
					resp.Body.Close()
				default:
					if got := read(t, resp); got != test.body {
						t.Errorf("the client got %q", got)
					}
				}
				err, code := <-seen, 200
				if s, ok := errors.AsType[*httpmw.StatusError](err); ok {
					code = s.StatusCode
				} else if test.code == 404 {
					code = 404 // a success has no error
				}
				if code != test.code {
					t.Errorf("the policies got %v, want status %d", err, test.code)
				}
			})
		})
	}
}

// everyServer is serve, and runs f on a server of HTTP/1 without TLS, too.
func everyServer(t *testing.T, h http.HandlerFunc, f func(t *testing.T, url string, base *http.Transport)) {
	t.Run("HTTP/1, plain", func(t *testing.T) {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.Start()
		defer s.Close()
		base := s.Client().Transport.(*http.Transport)
		defer base.CloseIdleConnections()
		f(t, s.URL, base)
	})
	serve(t, h, f)
}

// A timeout is answered 503 if the handler has copied nothing. If it has copied
// something, nothing is added to that.
func TestServer_timeoutOfCopy(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		code int
		body string
	}{
		"nothing copied":   {"", 503, "Service Unavailable\n"},
		"something copied": {"the body\n", 200, "the body\n"},
	} {
		t.Run(name, func(t *testing.T) {
			h := httpmw.Server{Policy: newTimeout(20*time.Millisecond, 0)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, err := io.Copy(w, io.MultiReader(source(test.text), readerFunc(func([]byte) (int, error) {
					<-r.Context().Done()
					return 0, r.Context().Err()
				})))
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the copy returned %v", err)
				}
			}))
			everyServer(t, h.ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
				resp, err := base.RoundTrip(newRequest(t, "GET", url, nil))
				if err != nil {
					t.Fatal(err)
				}
				if got := read(t, resp); resp.StatusCode != test.code || got != test.body {
					t.Errorf("got %d %q", resp.StatusCode, got)
				}
			})
		})
	}
}

// copier is a writer with ReadFrom, which begins the response when it is called, as some
// middleware does.
type copier struct {
	http.ResponseWriter
	sources []io.Reader
	fails   bool
	short   bool
}

func (w *copier) Write(p []byte) (int, error) {
	switch {
	case w.fails:
		return 0, io.ErrClosedPipe
	case w.short:
		return w.ResponseWriter.Write(p[:1])
	}
	return w.ResponseWriter.Write(p)
}

func (w *copier) ReadFrom(src io.Reader) (int64, error) {
	w.WriteHeader(200)
	w.sources = append(w.sources, src)
	return io.Copy(w.ResponseWriter, struct{ io.Reader }{src})
}

// ReadFrom of the server's writer is called after the first byte, with the source itself.
func TestServer_readFromGetsSource(t *testing.T) {
	long := strings.Repeat("0123456789", 1000)
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		src    io.Reader
		status bool // a status is sent before
		inner  copier
		body   string
		err    error
		calls  int // of ReadFrom of the server's writer
	}{
		"a file":                    {src: file, body: long, calls: 1},
		"a long text":               {src: source(long), body: long, calls: 1},
		"one byte at a time":        {src: iotest.OneByteReader(source("body")), body: "body", calls: 1},
		"data with the end":         {src: iotest.DataErrReader(source("body")), body: "body"},
		"data with an error":        {src: &reads{{"body", broken}}, body: "body", err: broken},
		"nothing at first":          {src: &reads{{"", nil}, {"", nil}, {"body", nil}}, body: "body", calls: 1},
		"the end":                   {src: source("")},
		"an error":                  {src: iotest.ErrReader(broken), err: broken},
		"a status before":           {src: source("body"), status: true, body: "body", calls: 1},
		"the end, a status before":  {src: source(""), status: true, calls: 1},
		"a write that fails":        {src: source("body"), inner: copier{fails: true}, err: io.ErrClosedPipe},
		"a write that is too short": {src: source("body"), inner: copier{short: true}, body: "b", err: io.ErrShortWrite},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			inner := &test.inner
			inner.ResponseWriter = w
			httpmw.Server{Policy: pass}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if test.status {
					w.WriteHeader(200)
				}
				n, err := w.(io.ReaderFrom).ReadFrom(test.src)
				if n != int64(len(test.body)) || err != test.err {
					t.Errorf("copied %d, %v; want %d, %v", n, err, len(test.body), test.err)
				}
			})).ServeHTTP(inner, httptest.NewRequest("GET", "/", nil))
			if got := w.Body.String(); got != test.body {
				t.Errorf("got %q", got)
			}
			if len(inner.sources) != test.calls {
				t.Fatalf("ReadFrom was called %d times, want %d", len(inner.sources), test.calls)
			}
			if test.calls > 0 && test.src == io.Reader(file) && inner.sources[0] != test.src {
				t.Errorf("ReadFrom got a %T", inner.sources[0])
			}
		})
	}
}

// A copy that has copied nothing can be answered 503, although the ReadFrom of middleware
// outside begins the response.
func TestServer_timeoutOfCopyInMiddleware(t *testing.T) {
	w := &copier{ResponseWriter: httptest.NewRecorder()}
	httpmw.Server{Policy: newTimeout(time.Millisecond, 0)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, iotest.ErrReader(errors.New("broken")))
		<-r.Context().Done()
	})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if rec := w.ResponseWriter.(*httptest.ResponseRecorder); rec.Code != 503 {
		t.Errorf("got %d %q", rec.Code, rec.Body)
	}
}

// A copy allocates no more than a write.
func TestServer_copyAllocatesNothing(t *testing.T) {
	once := reads{{"body", io.EOF}}
	src := once
	var reader io.Reader = &src
	w := &copier{ResponseWriter: httptest.NewRecorder()}
	r := httptest.NewRequest("GET", "/", nil)
	allocs := func(handler http.HandlerFunc) float64 {
		h := httpmw.Server{Policy: pass}.Wrap(handler)
		return testing.AllocsPerRun(100, func() {
			src = once
			w.ResponseWriter.(*httptest.ResponseRecorder).Body.Reset()
			h.ServeHTTP(w, r)
		})
	}
	body := []byte("body")
	write := allocs(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(body) })
	copied := allocs(func(w http.ResponseWriter, r *http.Request) {
		if n, err := w.(io.ReaderFrom).ReadFrom(reader); n != 4 || err != nil {
			t.Errorf("copied %d, %v", n, err)
		}
	})
	if copied != write {
		t.Errorf("a copy costs %v allocations, a write %v", copied, write)
	}
}
