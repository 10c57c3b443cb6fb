package httpmw_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// ownError is an error of the caller that has an outcome.
type ownError struct{}

func (ownError) Error() string               { return "the disk is broken" }
func (ownError) Outcome() resilience.Outcome { return resilience.Failure }

// readErrors are errors of a request body. Most of them look like errors of a server.
var readErrors = map[string]error{
	"plain":          errors.New("broken"),
	"own outcome":    ownError{},
	"too large":      &http.MaxBytesError{Limit: 1000},
	"cut off":        io.ErrUnexpectedEOF,
	"timeout":        os.ErrDeadlineExceeded,
	"other deadline": context.DeadlineExceeded,
	"other cancel":   context.Canceled,
	"other dial":     &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED},
	"other reset":    &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET},
	"file":           &fs.PathError{Op: "read", Path: "report", Err: syscall.EIO},
	"other response": &httpmw.StatusError{StatusCode: 503},
}

// breaking returns a body with some content that then fails with err.
func breaking(err error) io.ReadCloser {
	return io.NopCloser(io.MultiReader(strings.NewReader("content"), &failing{err}))
}

// receive reads a request body in a handler, which does not answer if the body breaks off.
func receive(r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// judging is a policy that stores the outcome of each run.
func judging(outcome *resilience.Outcome) testkit.Policy {
	return func(ctx context.Context, next resilience.Next) error {
		err := next.Run(ctx)
		*outcome = resilience.OutcomeOf(ctx, err, nil)
		return err
	}
}

// attempt sends req under a retry. It returns how often Base was called, the outcome of
// the last attempt and the error of RoundTrip.
func attempt(t *testing.T, base http.RoundTripper, req *http.Request) (n int, outcome resilience.Outcome, err error) {
	t.Helper()
	counting := roundTripper(func(r *http.Request) (*http.Response, error) { n++; return base.RoundTrip(r) })
	resp, err := (&httpmw.Transport{Base: counting, Policy: resilience.Compose(again(3), judging(&outcome))}).RoundTrip(req)
	if err == nil {
		resp.Body.Close()
	}
	return n, outcome, err
}

// An error of the request body is ignored, whatever its type, and is not retried.
func TestTransport_bodyErrorIsIgnored(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		receive(r)
	}, func(t *testing.T, addr string, base *http.Transport) {
		for name, want := range readErrors {
			for _, method := range []string{"PUT", "POST"} {
				req := newRequest(t, method, addr, breaking(want))
				req.GetBody = func() (io.ReadCloser, error) { return breaking(want), nil }
				n, outcome, err := attempt(t, base, req)
				if n != 1 || outcome != resilience.Ignored || !errors.Is(err, want) {
					t.Errorf("%s, %s: %d attempts, counted as a %v, error %v", method, name, n, outcome, err)
				}
			}
		}
	})
}

// An error of the body of a later attempt is ignored.
func TestTransport_laterBodyErrorIsIgnored(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		receive(r)
		w.WriteHeader(503)
	}, func(t *testing.T, addr string, base *http.Transport) {
		want := errors.New("broken")
		req := newRequest(t, "PUT", addr, strings.NewReader("content"))
		req.GetBody = func() (io.ReadCloser, error) { return breaking(want), nil }
		n, outcome, err := attempt(t, base, req)
		if n != 2 || outcome != resilience.Ignored || !errors.Is(err, want) {
			t.Errorf("%d attempts, counted as a %v, error %v", n, outcome, err)
		}
	})
}

// An error of the body is ignored if net/http replays the request inside an attempt.
func TestTransport_replayedBodyErrorIsIgnored(t *testing.T) {
	want := errors.New("broken")
	for name, get := range map[string]func() (io.ReadCloser, error){
		"Read":    func() (io.ReadCloser, error) { return breaking(want), nil },
		"GetBody": func() (io.ReadCloser, error) { return nil, want },
	} {
		var requests atomic.Int32
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			if requests.Add(1) == 2 { // on a connection that was used before
				panic(http.ErrAbortHandler)
			}
		}))
		base := s.Client().Transport
		resp, err := base.RoundTrip(newRequest(t, "GET", s.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		req := newRequest(t, "PUT", s.URL, io.MultiReader(strings.NewReader("content")))
		gets := 0
		req.GetBody = func() (io.ReadCloser, error) { gets++; return get() }
		req.Header.Set("Idempotency-Key", "1") // net/http replays it
		n, outcome, err := attempt(t, base, req)
		if n != 1 || gets != 1 || outcome != resilience.Ignored || !errors.Is(err, want) {
			t.Errorf("%s: %d attempts, %d calls of GetBody, counted as a %v, error %v", name, n, gets, outcome, err)
		}
		s.Close()
	}
}

// badClose is a body whose Close returns an error.
type badClose struct {
	io.Reader
	err error
}

func (c badClose) Close() error { return c.err }

// An error of the body's Close is ignored if net/http returns it.
func TestTransport_bodyCloseErrorIsIgnored(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done() // until net/http closes the connection
	}))
	defer s.Close()
	want := errors.New("broken")
	req := newRequest(t, "PUT", s.URL, badClose{strings.NewReader("content"), want})
	req.ContentLength = 7
	n, outcome, err := attempt(t, s.Client().Transport, req)
	if n != 1 || outcome != resilience.Ignored || err == nil {
		t.Errorf("%d attempts, counted as a %v, error %v", n, outcome, err)
	}
	for err, expect := range map[error]resilience.Outcome{
		want: resilience.Ignored, net.ErrClosed: resilience.Ignored, errors.New("refused"): resilience.Failure,
	} {
		base := roundTripper(func(r *http.Request) (*http.Response, error) { consume(r); return nil, err })
		if _, outcome, _ = attempt(t, base, newRequest(t, "PUT", s.URL, badClose{strings.NewReader("a"), want})); outcome != expect {
			t.Errorf("%v: counted as a %v", err, outcome)
		}
	}
	base := roundTripper(func(r *http.Request) (*http.Response, error) { consume(r); return nil, net.ErrClosed })
	if _, outcome, _ = attempt(t, base, newRequest(t, "PUT", s.URL, &body{Reader: strings.NewReader("a")})); outcome != resilience.Failure {
		t.Errorf("without an error of the body: counted as a %v", outcome)
	}
}

// The caller gets the error of Base itself, also if its own body is the reason.
func TestTransport_bodyErrorIsErrorOfBase(t *testing.T) {
	reset := errors.New("connection closed")
	base := roundTripper(func(r *http.Request) (*http.Response, error) { consume(r); return nil, reset })
	if _, outcome, err := attempt(t, base, newRequest(t, "PUT", "http://x", breaking(errors.New("broken")))); err != reset || outcome != resilience.Ignored {
		t.Errorf("counted as a %v, error %v", outcome, err)
	}
}

// Without a response, a body of another length than Content-Length is the reason.
func TestTransport_lengthOfBody(t *testing.T) {
	base := roundTripper(func(r *http.Request) (*http.Response, error) { consume(r); return nil, errors.New("connection closed") })
	for length, want := range map[int64]resilience.Outcome{
		-1: resilience.Failure, 0: resilience.Failure, 6: resilience.Ignored, 7: resilience.Failure, 8: resilience.Ignored,
	} {
		for name, r := range map[string]io.Reader{
			"one Read": strings.NewReader("content"), "bytes": iotest.OneByteReader(strings.NewReader("content")),
			"EOF with the data": iotest.DataErrReader(strings.NewReader("content")),
		} {
			req := newRequest(t, "PUT", "http://x", &body{Reader: r})
			req.ContentLength = length
			if _, outcome, _ := attempt(t, base, req); outcome != want {
				t.Errorf("length %d, %s: counted as a %v, want %v", length, name, outcome, want)
			}
		}
	}
}

// A Read that fails because the attempt is over is not the cause of the failure.
func TestTransport_readAfterCloseIsNoCause(t *testing.T) {
	reset := errors.New("connection reset")
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		r.Body.Close()
		if _, err := r.Body.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Read returned %v", err)
		}
		return nil, reset
	})
	pr, _ := io.Pipe()
	if _, outcome, err := attempt(t, base, newRequest(t, "PUT", "http://x", pr)); outcome != resilience.Failure || err != reset {
		t.Errorf("counted as a %v, error %v", outcome, err)
	}
}

// An error of the body that cuts the response off is ignored.
func TestTransport_bodyErrorAfterHeaders(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 need not be asked
		w.(http.Flusher).Flush()
		io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler) // or the response may end properly
	}, func(t *testing.T, addr string, base *http.Transport) {
		for _, discard := range []bool{false, true} {
			pr, pw := io.Pipe()
			s := newSlots(resilience.Ended)
			inside := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
				err := next.Run(ctx)
				pw.CloseWithError(errors.New("broken"))
				return err
			})
			policy := resilience.Compose(s, inside)
			if discard {
				policy = resilience.Compose(testkit.Policy(func(ctx context.Context, next resilience.Next) error {
					_ = next.Run(ctx)
					next.Discard()
					return errors.New("discarded")
				}), s, inside)
			}
			resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(newRequest(t, "PUT", addr, pr))
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			settled := <-s.settled
			if outcome := resilience.OutcomeOf(t.Context(), settled, nil); err == nil || outcome != resilience.Ignored {
				t.Errorf("discarded %v: counted as a %v, settled with %v, error %v", discard, outcome, settled, err)
			}
		}
	})
}

// A body that differs from its Content-Length is ignored each time, also if net/http
// reports only that the connection was closed.
func TestTransport_wrongLengthIsIgnored(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		receive(r)
	}, func(t *testing.T, addr string, base *http.Transport) {
		for _, length := range []int64{3, 9} {
			for range 50 {
				req := newRequest(t, "PUT", addr, io.MultiReader(strings.NewReader("content")))
				req.ContentLength = length
				if n, outcome, err := attempt(t, base, req); err != nil && (n != 1 || outcome != resilience.Ignored) {
					t.Fatalf("length %d: %d attempts, counted as a %v, error %v", length, n, outcome, err)
				}
			}
		}
	})
}

// An error of a file as the body is ignored.
func TestTransport_fileErrorIsIgnored(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		receive(r)
	}, func(t *testing.T, addr string, base *http.Transport) {
		for name, open := range map[string]func() *os.File{
			"a folder": func() *os.File { return resilience.Must(os.Open(t.TempDir())) },
			"closed": func() *os.File {
				f := resilience.Must(os.Create(filepath.Join(t.TempDir(), "report")))
				f.Close()
				return f
			},
			"only for writing": func() *os.File {
				return resilience.Must(os.OpenFile(filepath.Join(t.TempDir(), "report"), os.O_WRONLY|os.O_CREATE, 0o600))
			},
		} {
			for _, length := range []int64{-1, 100} {
				req := newRequest(t, "PUT", addr, open())
				req.ContentLength = length
				req.GetBody = func() (io.ReadCloser, error) { return open(), nil }
				n, outcome, err := attempt(t, base, req)
				if n != 1 || outcome != resilience.Ignored || err == nil {
					t.Errorf("%s, length %d: %d attempts, counted as a %v, error %v", name, length, n, outcome, err)
				}
			}
		}
	})
}

// A file error that is not about the body is a failure.
func TestTransport_otherFileErrorIsFailure(t *testing.T) {
	for _, err := range []error{&fs.PathError{Op: "open", Path: "certificate", Err: fs.ErrNotExist}, errors.New("refused")} {
		base := roundTripper(func(r *http.Request) (*http.Response, error) { r.Body.Close(); return nil, err })
		file := resilience.Must(os.Create(filepath.Join(t.TempDir(), "report")))
		if _, outcome, _ := attempt(t, base, newRequest(t, "PUT", "http://x", file)); outcome != resilience.Failure {
			t.Errorf("%v: counted as a %v", err, outcome)
		}
	}
}

// Base gets a body in memory and a file as they are: net/http sends them in fewer packets
// and without a copy, but only if it sees their type.
func TestTransport_keepsTypeOfBody(t *testing.T) {
	file := resilience.Must(os.Create(filepath.Join(t.TempDir(), "report")))
	for _, r := range []io.Reader{bytes.NewReader([]byte("a")), strings.NewReader("a"), bytes.NewBufferString("a"), file} {
		req := newRequest(t, "PUT", "http://x", r)
		base := roundTripper(func(sent *http.Request) (*http.Response, error) {
			if sent.Body != req.Body {
				t.Errorf("%T arrives as a %T", r, sent.Body)
			}
			consume(sent)
			return response(200, ""), nil
		})
		if _, _, err := attempt(t, base, req); err != nil {
			t.Error(err)
		}
	}
}

// A body of io.NopCloser(nil) does not panic.
func TestTransport_nopCloserOfNil(t *testing.T) {
	base := roundTripper(func(r *http.Request) (*http.Response, error) { r.Body.Close(); return response(200, ""), nil })
	if _, _, err := attempt(t, base, newRequest(t, "PUT", "http://x", io.NopCloser(nil))); err != nil {
		t.Error(err)
	}
}

// A request whose server does not send 100 Continue does not read its body, so the body is
// not the cause of a failure.
func TestTransport_unreadBodyIsNoCause(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			conn.Close()
		}
	}()
	base := &http.Transport{ExpectContinueTimeout: time.Hour}
	defer base.CloseIdleConnections()
	req := newRequest(t, "POST", fmt.Sprint("http://", l.Addr()), breaking(errors.New("broken")))
	req.Header.Set("Expect", "100-continue")
	if n, outcome, err := attempt(t, base, req); n != 1 || outcome != resilience.Failure {
		t.Errorf("%d attempts, counted as a %v, error %v", n, outcome, err)
	}
}

// A timeout that passes while the caller's reader blocks says nothing about the server,
// which waits for the body. A timeout after the whole body is a failure of the server.
func TestTransport_stalledBodyIsIgnored(t *testing.T) {
	serveStill(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}, func(t *testing.T, addr string, base *http.Transport) {
		for _, stalls := range []bool{true, false} {
			for name, limit := range map[string]resilience.Policy{
				"attempt": newTimeout(time.Second, resilience.Answered), "deadline": slowly(time.Second),
			} {
				pr, pw := io.Pipe()
				var writer sync.WaitGroup
				writer.Go(func() {
					io.WriteString(pw, "content")
					if stalls {
						time.Sleep(time.Minute)
					}
					pw.Close()
				})
				var outcome resilience.Outcome
				tr := &httpmw.Transport{Base: base, Policy: resilience.Compose(judging(&outcome), limit)}
				_, err := tr.RoundTrip(newRequest(t, "PUT", addr, pr))
				writer.Wait()
				if stalled := outcome == resilience.Ignored; stalled != stalls || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s, stalls %v: counted as a %v, error %v", name, stalls, outcome, err)
				}
			}
		}
	})
}

// A server that does not read a long body is a failure.
func TestTransport_unreadBodyIsFailure(t *testing.T) {
	serveStill(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Minute) // net/http does not notice that the client has hung up
	}, func(t *testing.T, addr string, base *http.Transport) {
		var outcome resilience.Outcome
		tr := &httpmw.Transport{Base: base, Policy: resilience.Compose(judging(&outcome), newTimeout(time.Second, resilience.Answered))}
		body := io.MultiReader(strings.NewReader(strings.Repeat("x", 10<<20)))
		if _, err := tr.RoundTrip(newRequest(t, "PUT", addr, body)); outcome != resilience.Failure || err == nil {
			t.Errorf("counted as a %v, error %v", outcome, err)
		}
		time.Sleep(time.Minute)
	})
}

// A body may be closed while another goroutine reads it, as net/http does over HTTP/2.
func TestTransport_closeDuringRead(t *testing.T) {
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		var reader sync.WaitGroup
		reader.Go(func() { io.Copy(io.Discard, r.Body) })
		r.Body.Close()
		reader.Wait()
		return nil, errors.New("reset")
	})
	for range 20 {
		req := newRequest(t, "PUT", "http://x", badClose{strings.NewReader("content"), errors.New("broken")})
		if _, _, err := attempt(t, base, req); err == nil {
			t.Error("no error")
		}
	}
}
