package httpmw_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// writer is an http.ResponseWriter without abilities. The types below add one each.
type writer struct{ http.ResponseWriter }

type (
	flusher  struct{}
	hijacker struct{}
	reader   struct{}
	pusher   struct{}
	notifier struct{}
)

func (flusher) Flush()                                        {}
func (hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, nil }
func (reader) ReadFrom(io.Reader) (int64, error)              { return 0, nil }
func (pusher) Push(string, *http.PushOptions) error           { return nil }

func (notifier) CloseNotify() <-chan bool { return nil }

// A handler's writer has exactly the optional interfaces of the server's writer.
func TestServer_writerHasInnerInterfaces(t *testing.T) {
	for name, inner := range writers(writer{httptest.NewRecorder()}) {
		t.Run(name, func(t *testing.T) {
			httpmw.Server{Policy: pass}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got := offers(w); got != name {
					t.Errorf("offers %q", got)
				}
				if err := http.NewResponseController(w).Flush(); (err == nil) != strings.Contains(name, "F") {
					t.Errorf("flush: %v", err)
				}
				if u, ok := w.(interface{ Unwrap() http.ResponseWriter }); !ok || u.Unwrap() != inner {
					t.Error("does not unwrap")
				}
			})).ServeHTTP(inner, httptest.NewRequest("GET", "/", nil))
		})
	}
}

// offers calls the optional methods of w and returns their letters.
func offers(w http.ResponseWriter) (s string) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
		s += "F"
	}
	if h, ok := w.(http.Hijacker); ok {
		h.Hijack()
		s += "H"
	}
	if f, ok := w.(io.ReaderFrom); ok {
		f.ReadFrom(strings.NewReader(""))
		s += "R"
	}
	if p, ok := w.(http.Pusher); ok {
		p.Push("", nil)
		s += "P"
	}
	if c, ok := w.(interface{ CloseNotify() <-chan bool }); ok {
		c.CloseNotify()
		s += "C"
	}
	return s
}

// Server-sent events arrive one by one.
func TestServer_events(t *testing.T) {
	seen := make(chan struct{})
	wrap := httpmw.Server{Policy: newSlots(resilience.Ended)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Error(err)
		}
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n", i)
			if i == 1 {
				w.(http.Flusher).Flush()
			} else if err := rc.Flush(); err != nil {
				t.Error(err)
			}
			<-seen // the next one is not sent before this one has arrived
		}
	}))
	serve(t, wrap.ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
		resp, err := (&httpmw.Transport{Base: base, Policy: newSlots(resilience.Ended)}).RoundTrip(newRequest(t, "GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for i := range 3 {
			if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) {
				t.Fatalf("got %q and %v", lines.Text(), lines.Err())
			}
			seen <- struct{}{}
		}
	})
}

// A Server does not touch a hijacked connection.
func TestServer_hijackedConnection(t *testing.T) {
	late := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		return errors.Join(next.Run(ctx), errors.New("too late"))
	})
	answer := func(http.ResponseWriter, *http.Request, error) { t.Error("it was answered") }
	h := httpmw.Server{Policy: late, ErrorHandler: answer}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		echo(rw)
	}))
	over := make(chan struct{}) // no server waits for a connection that was taken over
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(over)
		h.ServeHTTP(w, r)
	}))
	defer s.Close()
	defer func() { <-over }()
	resp, err := s.Client().Transport.RoundTrip(upgrade(t, s.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.WriteString(resp.Body.(io.Writer), "hello\n")
	if b, err := io.ReadAll(resp.Body); string(b) != "hello\n" || err != nil {
		t.Errorf("got %q and %v", b, err)
	}
}

// ReadFrom reaches the server's writer.
func TestServer_readFrom(t *testing.T) {
	outcomes := make(chan resilience.Outcome, 1)
	s := httptest.NewServer(httpmw.Server{Policy: judged(outcomes)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(w, strings.NewReader("body")); n != 4 || err != nil {
			t.Errorf("copied %d, %v", n, err)
		}
	})))
	defer s.Close()
	resp, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, resp); got != "body" {
		t.Errorf("got %q", got)
	}
}
