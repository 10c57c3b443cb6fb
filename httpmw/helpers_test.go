package httpmw_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/internal/testkit"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pass is a policy that does nothing.
var pass = testkit.Policy(func(ctx context.Context, next resilience.Next) error { return next.Run(ctx) })

// again is a retry without a wait, of at most n attempts, that retries what is retryable.
func again(n int) testkit.Policy {
	return func(ctx context.Context, next resilience.Next) error {
		err := next.Run(ctx)
		for i := 2; i <= n && retryable(err); i++ {
			next.Discard()
			refused := next.Run(resilience.WithAttempt(ctx, i))
			if errors.Is(refused, resilience.ErrRejected) {
				return err
			}
			err = refused
		}
		return err
	}
}

func retryable(err error) bool {
	r, ok := errors.AsType[interface {
		error
		Retryable() bool
	}](err)
	return ok && r.Retryable()
}

// stubborn is a retry that does not listen.
func stubborn(n int) testkit.Policy {
	return func(ctx context.Context, next resilience.Next) error {
		err := next.Run(ctx)
		for i := 1; i < n && err != nil; i++ {
			next.Discard()
			err = next.Run(ctx)
		}
		return err
	}
}

// after lets n runs through and rejects the others, as a breaker does.
func after(n int32) testkit.Policy {
	var count atomic.Int32
	return func(ctx context.Context, next resilience.Next) error {
		if count.Add(1) > n {
			return &resilience.Rejection{Policy: "breaker", Name: "test", Reason: resilience.Open}
		}
		return next.Run(ctx)
	}
}

// slots holds something of each operation until a moment and remembers how each
// one was settled.
type slots struct {
	at      resilience.Moment
	held    atomic.Int32
	settled chan error
}

func newSlots(at resilience.Moment) *slots { return &slots{at: at, settled: make(chan error, 100)} }

func (s *slots) Apply(ctx context.Context, next resilience.Next) (err error) {
	s.held.Add(1)
	err = resilience.ErrAborted
	defer func() { next.Settle(s.at, err, (*slot)(s), 0) }()
	err = next.Run(ctx)
	return err
}

type slot slots

func (s *slot) Settle(_ uint64, err error) {
	s.held.Add(-1)
	s.settled <- err
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer is a Base that closes request bodies and answers with the codes, one
// after another, the last one again and again.
func answer(codes ...int) roundTripper {
	var n atomic.Int32
	return func(r *http.Request) (*http.Response, error) {
		consume(r)
		i := min(int(n.Add(1)), len(codes)) - 1
		return response(codes[i], "body"), nil
	}
}

func consume(r *http.Request) {
	if r.Body != nil {
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
}

func response(code int, body string) *http.Response {
	return &http.Response{
		StatusCode: code, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// body is a body that counts how often it is closed.
type body struct {
	io.Reader
	closed atomic.Int32
}

func (b *body) Close() error {
	b.closed.Add(1)
	return nil
}

func newRequest(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// upgrade returns a request for a handler that calls echo.
func upgrade(t testing.TB, url string) *http.Request {
	t.Helper()
	req := newRequest(t, "GET", url, nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	return req
}

// echo answers an upgrade on a connection that was hijacked, and a line with itself.
func echo(conn *bufio.ReadWriter) {
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	conn.Flush()
	line, _ := conn.ReadString('\n')
	io.WriteString(conn, line)
	conn.Flush()
}

func read(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read the body: %v", err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatalf("close the body: %v", err)
	}
	return string(b)
}

// serve runs f on a server of HTTP/1 and on one of HTTP/2.
func serve(t *testing.T, h http.HandlerFunc, f func(t *testing.T, url string, base *http.Transport)) {
	for _, name := range []string{"HTTP/1", "HTTP/2"} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(h)
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.EnableHTTP2 = name == "HTTP/2"
			s.StartTLS()
			defer s.Close()
			base := s.Client().Transport.(*http.Transport)
			defer base.CloseIdleConnections()
			f(t, s.URL, base)
		})
	}
}

func replayable(b *body, content string, made *[]*body) func() (io.ReadCloser, error) {
	b.Reader = strings.NewReader(content)
	*made = append(*made, b)
	return func() (io.ReadCloser, error) {
		again := &body{Reader: bytes.NewReader([]byte(content))}
		*made = append(*made, again)
		return again, nil
	}
}
