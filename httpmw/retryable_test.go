package httpmw_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// DefaultRetryable accepts idempotent requests after the listed statuses.
func TestDefaultRetryable_statuses(t *testing.T) {
	boom := errors.New("boom")
	codes := map[int]bool{408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true}
	methods := map[string]bool{
		"": true, "GET": true, "HEAD": true, "OPTIONS": true, "TRACE": true, "PUT": true, "DELETE": true,
		"POST": false, "PATCH": false, "CONNECT": false, "get": false,
	}
	for method, idempotent := range methods {
		req := &http.Request{Method: method}
		for code := 100; code < 600; code++ {
			if got, want := httpmw.DefaultRetryable(req, &http.Response{StatusCode: code}, nil), idempotent && codes[code]; got != want {
				t.Errorf("%q, %d: %v", method, code, got)
			}
		}
		if got := httpmw.DefaultRetryable(req, nil, boom); got != idempotent {
			t.Errorf("%q, error: %v", method, got)
		}
	}
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		for _, values := range [][]string{{"k"}, {""}, nil} {
			req := &http.Request{Method: "POST", Header: http.Header{name: values}}
			if !httpmw.DefaultRetryable(req, nil, boom) || !httpmw.DefaultRetryable(req, &http.Response{StatusCode: 503}, nil) {
				t.Errorf("not retried with %s: %q", name, values)
			}
		}
	}
}

// attempts sends a request under a retry of three attempts and returns how often
// Base was asked.
func attempts(t *testing.T, base http.RoundTripper, method, url string) (n int, err error) {
	t.Helper()
	counting := roundTripper(func(r *http.Request) (*http.Response, error) {
		n++
		return base.RoundTrip(r)
	})
	client := &http.Client{Transport: &httpmw.Transport{Base: counting, Policy: again(3)}}
	resp, err := client.Do(newRequest(t, method, url, strings.NewReader("content")))
	if err == nil {
		resp.Body.Close()
	}
	return n, err
}

// A POST is retried if no connection can be made.
func TestDefaultRetryable_postNotConnected(t *testing.T) {
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	if n, err := attempts(t, base, "POST", "http://"+refusing(t)); n != 3 || err == nil {
		t.Errorf("%d attempts, error %v", n, err)
	}
	proxied := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: refusing(t)})}
	if n, err := attempts(t, proxied, "POST", "http://example.test"); n != 3 || err == nil {
		t.Errorf("by proxy: %d attempts, error %v", n, err)
	}
}

// A POST is not retried if the server may have seen it.
func TestDefaultRetryable_postMaybeSeen(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }))
	defer s.Close()
	for method, want := range map[string]int{"POST": 1, "PATCH": 1, "PUT": 3} {
		if n, err := attempts(t, s.Client().Transport, method, s.URL); n != want || err == nil {
			t.Errorf("%s: %d attempts, want %d, error %v", method, n, want, err)
		}
	}
}

// A POST is retried after the errors of HTTP/2 for unprocessed requests. net/http retries
// by itself first, for half a minute; after a graceful GOAWAY forever, so x/net/http2
// provokes that error.
func TestDefaultRetryable_postRefusedStream(t *testing.T) {
	const rstStream, goAway = 3, 7
	for name, test := range map[string]struct {
		frame  func(stream uint32) []byte
		unseen bool
	}{
		"REFUSED_STREAM":     {func(id uint32) []byte { return frame(rstStream, id, 7) }, true},
		"CANCEL":             {func(id uint32) []byte { return frame(rstStream, id, 8) }, false},
		"INTERNAL_ERROR":     {func(id uint32) []byte { return frame(rstStream, id, 2) }, false},
		"GOAWAY, be calm":    {func(id uint32) []byte { return append(frame(goAway, 0, 0, 11), hangUp...) }, true},
		"GOAWAY, but it saw": {func(id uint32) []byte { return append(frame(goAway, 0, id, 0), hangUp...) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				protocols := new(http.Protocols)
				protocols.SetUnencryptedHTTP2(true)
				base := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) {
					client, server := net.Pipe()
					go serveFrames(server, test.frame)
					return client, nil
				}}
				defer base.CloseIdleConnections()
				want := 1
				if test.unseen {
					want = 3
				}
				n, err := attempts(t, base, "POST", "http://example.test")
				if n != want || err == nil {
					t.Errorf("%d attempts, want %d, error %v", n, want, err)
				}
				if err != nil {
					t.Log(err)
				}
			})
		})
	}
}

// A POST is retried after a graceful GOAWAY.
func TestDefaultRetryable_postGOAWAY(t *testing.T) {
	for text, want := range map[string]bool{
		"http2: Transport received Server's graceful shutdown GOAWAY":                                     true,
		"http2: client conn not usable":                                                                   true,
		"http2: client conn could not be established":                                                     true,
		"http2: no cached connection was available":                                                       true,
		`http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR, debug=""`: false,
	} {
		err := fmt.Errorf("wrapped: %w", errors.New(text))
		if got := httpmw.DefaultRetryable(&http.Request{Method: "POST"}, nil, err); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

var hangUp = []byte("hang up")

// frame returns an HTTP/2 frame with a payload of 32-bit words.
func frame(kind byte, stream uint32, words ...uint32) []byte {
	b := []byte{0, 0, byte(4 * len(words)), kind, 0}
	for _, w := range append([]uint32{stream}, words...) {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

// serveFrames is as much of an HTTP/2 server as it takes to answer each request
// with one frame.
func serveFrames(conn net.Conn, answer func(stream uint32) []byte) {
	defer conn.Close()
	out := make(chan []byte, 100)
	defer close(out)
	go func() { // a pipe has no buffer, and the client writes too
		for b := range out {
			if b == nil {
				conn.Close()
			}
			conn.Write(b)
		}
	}()
	preface := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	if _, err := io.ReadFull(conn, preface); err != nil {
		return
	}
	out <- frame(4, 0) // SETTINGS
	for {
		head := make([]byte, 9)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		length := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
		if _, err := io.CopyN(io.Discard, conn, length); err != nil {
			return
		}
		if head[4]&1 != 0 && head[3] <= 1 { // END_STREAM
			b, hang := strings.CutSuffix(string(answer(binary.BigEndian.Uint32(head[5:]))), string(hangUp))
			out <- []byte(b)
			if hang {
				out <- nil
			}
		}
	}
}

// DefaultRetryable rejects permanent errors.
func TestDefaultRetryable_permanentErrors(t *testing.T) {
	quiet := log.New(io.Discard, "", 0)
	start := func(configure func(s *httptest.Server)) string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/501" {
				w.WriteHeader(501)
				return
			}
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		}))
		s.Config.ErrorLog = quiet
		if configure == nil {
			s.Start()
		} else {
			configure(s)
			s.StartTLS()
		}
		t.Cleanup(s.Close)
		return s.URL
	}
	plain := start(nil)
	secure := start(func(*httptest.Server) {})
	strict := start(func(s *httptest.Server) { s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert} })
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	lax := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer lax.CloseIdleConnections()
	// http.Client follows redirects above its transport, so only a Base that has
	// one inside can fail for that.
	nested := roundTripper(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.RequestURI = ""
		return (&http.Client{Transport: base}).Do(r)
	})
	rejecting := &httpmw.Transport{Base: base, Policy: after(0)}
	for name, test := range map[string]struct {
		base http.RoundTripper
		url  string
	}{
		"unknown authority":       {base, secure},
		"wrong host":              {&http.Transport{TLSClientConfig: &tls.Config{ServerName: "other.test", InsecureSkipVerify: false}}, secure},
		"client certificate":      {lax, strict},
		"HTTP on the TLS side":    {base, strings.Replace(plain, "http:", "https:", 1)},
		"unsupported scheme":      {base, "gopher://example.test"},
		"invalid method and URL":  {base, "http:///path"},
		"redirects":               {nested, plain},
		"rejected further inside": {rejecting, plain},
		"501":                     {base, plain + "/501"},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := attempts(t, test.base, "GET", test.url)
			if n > 1 {
				t.Errorf("%d attempts", n)
			}
			if (err == nil) != (name == "501") {
				t.Errorf("error %v", err)
			}
			t.Log(err)
		})
	}
}

// An invalid request is no evidence about the server.
func TestTransport_invalidRequestIsIgnored(t *testing.T) {
	base := &http.Transport{}
	for name, change := range map[string]func(*http.Request){
		"scheme":  func(r *http.Request) { r.URL.Scheme = "gopher" },
		"method":  func(r *http.Request) { r.Method = "a b" },
		"host":    func(r *http.Request) { r.URL.Host = "" },
		"URL":     func(r *http.Request) { r.URL = nil },
		"header":  func(r *http.Request) { r.Header = nil },
		"name":    func(r *http.Request) { r.Header["a b"] = []string{"c"} },
		"trailer": func(r *http.Request) { r.Trailer = http.Header{"a b": {"c"}} },
	} {
		t.Run(name, func(t *testing.T) {
			req := newRequest(t, "GET", "http://example.test", nil)
			change(req)
			outcome := judge(t, &httpmw.Transport{Base: base}, req)
			if outcome != resilience.Ignored {
				t.Errorf("counted as a %v", outcome)
			}
		})
	}
}

// judge sends req and returns what a breaker makes of the attempt.
func judge(t *testing.T, tr *httpmw.Transport, req *http.Request) (outcome resilience.Outcome) {
	t.Helper()
	outcome = 255
	tr.Policy = testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		err := next.Run(ctx)
		outcome = resilience.OutcomeOf(ctx, err, nil)
		return err
	})
	resp, err := tr.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
	}
	if (resp == nil) == (err == nil) {
		t.Errorf("response %v and error %v", resp, err)
	}
	return outcome
}

// Retryable replaces DefaultRetryable.
func TestTransport_retryable(t *testing.T) {
	boom := errors.New("boom")
	for name, test := range map[string]struct {
		method string
		base   http.RoundTripper
		want   int
	}{
		"response": {"POST", answer(404), 3},
		"error":    {"POST", roundTripper(func(r *http.Request) (*http.Response, error) { consume(r); return nil, boom }), 3},
		"not":      {"GET", answer(503), 1},
		"success":  {"POST", answer(202), 3},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			tr := &httpmw.Transport{
				Base:   roundTripper(func(r *http.Request) (*http.Response, error) { n++; return test.base.RoundTrip(r) }),
				Policy: again(3),
				Retryable: func(r *http.Request, resp *http.Response, err error) bool {
					if (resp == nil) == (err == nil) {
						t.Errorf("asked about response %v and error %v", resp, err)
					}
					return r.Method == "POST"
				},
			}
			resp, err := tr.RoundTrip(newRequest(t, test.method, "http://x", strings.NewReader("content")))
			if n != test.want {
				t.Errorf("%d attempts, want %d", n, test.want)
			}
			if err == nil && read(t, resp) != "body" {
				t.Error("the body is gone")
			}
			if name == "error" && err != boom { // as bare net/http returns it
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// The caller gets the error of Base itself.
func TestTransport_returnsErrorOfBase(t *testing.T) {
	boom := errors.New("boom")
	base := roundTripper(func(r *http.Request) (*http.Response, error) { return nil, boom })
	if _, err := (&httpmw.Transport{Base: base, Policy: again(3)}).RoundTrip(newRequest(t, "GET", "http://x", nil)); err != boom {
		t.Errorf("got %v", err)
	}
	wrapping := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		return fmt.Errorf("wrapped: %w", next.Run(ctx))
	})
	if _, err := (&httpmw.Transport{Base: base, Policy: wrapping}).RoundTrip(newRequest(t, "GET", "http://x", nil)); !errors.Is(err, boom) || err.Error() != "wrapped: boom" {
		t.Errorf("got %v", err)
	}
}

// notAgain is an error that is not retryable and is no evidence about the server.
type notAgain struct{}

func (notAgain) Error() string               { return "no such tenant" }
func (notAgain) Retryable() bool             { return false }
func (notAgain) Outcome() resilience.Outcome { return resilience.Ignored }

// An error of Base can have the methods Retryable and Outcome.
func TestDefaultRetryable_errorOfBaseDecides(t *testing.T) {
	base := roundTripper(func(*http.Request) (*http.Response, error) { return nil, fmt.Errorf("token: %w", notAgain{}) })
	if n, outcome, _ := attempt(t, base, newRequest(t, "GET", "http://x", nil)); n != 1 || outcome != resilience.Ignored {
		t.Errorf("%d attempts, counted as a %v", n, outcome)
	}
	proxied := through(t, "http", listen(t, connect("407 who are you")))
	proxied.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
		if resp.StatusCode == http.StatusProxyAuthRequired {
			return notAgain{}
		}
		return nil
	}
	if n, outcome, _ := attempt(t, proxied, newRequest(t, "GET", "https://example.test", nil)); n != 1 || outcome != resilience.Ignored {
		t.Errorf("proxy: %d attempts, counted as a %v", n, outcome)
	}
}

// mayRepeat is an error that is retryable.
type mayRepeat struct{ error }

func (mayRepeat) Retryable() bool { return true }

// DefaultRetryable tells permanent errors from similar ones.
func TestDefaultRetryable_similarErrors(t *testing.T) {
	for err, want := range map[error]bool{
		mayRepeat{errors.New("busy")}: true,
		http.ErrSchemeMismatch:        false,
		fmt.Errorf("wrapped: %w", after(0)(t.Context(), resilience.Next{})): false,
		errors.New("stopped after 10 redirects"):                            false,
		errors.New("stopped after lunch"):                                   true,
		errors.New("could not follow 10 redirects"):                         true,
	} {
		if got := httpmw.DefaultRetryable(&http.Request{Method: "GET"}, nil, err); got != want {
			t.Errorf("%v: retried %v", err, got)
		}
	}
}
