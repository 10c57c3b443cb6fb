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
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/retry"
)

// listen accepts connections on a real socket and calls each for every one of them. A
// connection that each leaves open is closed when the test ends.
func listen(t *testing.T, each func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	ended := make(chan struct{})
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				stop := context.AfterFunc(t.Context(), func() { conn.Close() }) // each may block in Read
				defer stop()
				each(conn)
				<-ended
			})
		}
	})
	t.Cleanup(func() {
		close(ended)
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// refusing returns an address that refuses connections. It is the address of the client's
// side of a connection, so that no listener gets the same port during the test.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); l.Close() })
	return conn.LocalAddr().String()
}

// through returns a transport whose proxy is at addr.
func through(t *testing.T, scheme, addr string) *http.Transport {
	t.Helper()
	base := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: scheme, Host: addr})}
	t.Cleanup(base.CloseIdleConnections)
	return base
}

// connect is a proxy that answers CONNECT with a status line, or not at all.
func connect(status string) func(net.Conn) {
	return func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil && status != "" {
			fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", status)
		}
		conn.Close()
	}
}

// socks is a SOCKS proxy that cannot reach the target (RFC 1928, section 6).
func socks(conn net.Conn) {
	defer conn.Close()
	b := make([]byte, 300)
	_, _ = conn.Read(b)
	conn.Write([]byte{5, 0}) // no authentication
	_, _ = conn.Read(b)
	conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0}) // connection refused
}

func hangsUp(conn net.Conn) { conn.Close() }

// unsentBases fail before they have a connection for a request.
func unsentBases(t *testing.T) map[string]struct {
	base *http.Transport
	url  string
} {
	plain := func() *http.Transport {
		base := &http.Transport{TLSHandshakeTimeout: 50 * time.Millisecond}
		t.Cleanup(base.CloseIdleConnections)
		return base
	}
	return map[string]struct {
		base *http.Transport
		url  string
	}{
		"refused":                     {plain(), "http://" + refusing(t)},
		"refused, TLS":                {plain(), "https://" + refusing(t)},
		"proxy refuses":               {through(t, "http", refusing(t)), "http://example.test"},
		"proxy refuses CONNECT":       {through(t, "http", refusing(t)), "https://example.test"},
		"proxy hangs up":              {through(t, "http", listen(t, connect(""))), "https://example.test"},
		"proxy answers 502":           {through(t, "http", listen(t, connect("502 Bad Gateway"))), "https://example.test"},
		"proxy answers 503":           {through(t, "http", listen(t, connect("503 Service Unavailable"))), "https://example.test"},
		"proxy answers no phrase":     {through(t, "http", listen(t, connect("503"))), "https://example.test"},
		"TLS proxy hangs up":          {through(t, "https", listen(t, hangsUp)), "https://example.test"},
		"SOCKS proxy refuses":         {through(t, "socks5", refusing(t)), "http://example.test"},
		"SOCKS proxy hangs up":        {through(t, "socks5", listen(t, hangsUp)), "http://example.test"},
		"SOCKS proxy cannot connect":  {through(t, "socks5", listen(t, socks)), "http://example.test"},
		"TLS handshake times out":     {plain(), "https://" + listen(t, func(net.Conn) {})},
		"server hangs up a handshake": {plain(), "https://" + listen(t, hangsUp)},
	}
}

// A POST is retried if net/http got no connection for it, whatever the reason.
func TestDefaultRetryable_postUnsent(t *testing.T) {
	traced := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GetConn: func(string) {}})
	for name, test := range unsentBases(t) {
		inside := roundTripper(func(r *http.Request) (*http.Response, error) { return test.base.RoundTrip(r) })
		client := roundTripper(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			return (&http.Client{Transport: test.base}).Do(r)
		})
		for kind, base := range map[string]http.RoundTripper{"net/http": test.base, "inside another": inside, "inside a client": client} {
			for _, ctx := range []context.Context{t.Context(), traced} {
				req := newRequest(t, "POST", test.url, strings.NewReader("content")).WithContext(ctx)
				n, outcome, err := attempt(t, base, req)
				if n != 3 || outcome != resilience.Failure || err == nil {
					t.Errorf("%s, %s: %d attempts, counted as a %v, error %v", name, kind, n, outcome, err)
				}
			}
		}
	}
}

// A POST without a body is retried if it was not sent.
func TestDefaultRetryable_unsentWithoutBody(t *testing.T) {
	base := &http.Transport{}
	addr := "https://" + listen(t, hangsUp)
	for _, body := range []io.Reader{nil, http.NoBody} {
		req := newRequest(t, "POST", addr, body)
		req.GetBody = nil
		if n, _, err := attempt(t, base, req); n != 3 || err == nil {
			t.Errorf("%T: %d attempts, error %v", body, n, err)
		}
	}
}

// A request has no hooks if what they prove is not needed.
func TestTransport_tracesOnlyIfNeeded(t *testing.T) {
	for name, test := range map[string]struct {
		method string
		body   io.Reader
		most   int // of connections
		want   bool
	}{
		"GET":                          {"GET", nil, 0, false},
		"PUT":                          {"PUT", strings.NewReader("a"), 0, false},
		"POST":                         {"POST", strings.NewReader("a"), 0, true},
		"POST that cannot be repeated": {"POST", io.MultiReader(strings.NewReader("a")), 0, false},
		"GET with bounded connections": {"GET", nil, 1, true},
	} {
		traced := false
		base := &http.Transport{MaxConnsPerHost: test.most, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			traced = httptrace.ContextClientTrace(ctx) != nil
			return nil, errors.New("refused")
		}}
		tr := &httpmw.Transport{Base: base, Policy: resilience.Compose()}
		if _, err := tr.RoundTrip(newRequest(t, test.method, "http://x", test.body)); err == nil || traced != test.want {
			t.Errorf("%s: traced %v, error %v", name, traced, err)
		}
	}
}

// A POST without GetBody is not retried, even if nothing was sent.
func TestDefaultRetryable_unsentWithoutGetBody(t *testing.T) {
	base := &http.Transport{}
	req := newRequest(t, "POST", "https://"+listen(t, hangsUp), io.MultiReader(strings.NewReader("content")))
	if n, _, err := attempt(t, base, req); n != 1 || err == nil {
		t.Errorf("%d attempts, error %v", n, err)
	}
}

// A POST that times out while its connection is made is retried.
func TestDefaultRetryable_postTimedOutUnsent(t *testing.T) {
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	addr := listen(t, func(net.Conn) {})
	n := 0
	counting := roundTripper(func(r *http.Request) (*http.Response, error) { n++; return base.RoundTrip(r) })
	policy := resilience.Compose(again(3), newTimeout(20*time.Millisecond, resilience.Answered))
	req := newRequest(t, "POST", "https://"+addr, strings.NewReader("content"))
	if _, err := (&httpmw.Transport{Base: counting, Policy: policy}).RoundTrip(req); n != 3 || err == nil {
		t.Errorf("%d attempts, error %v", n, err)
	}
}

// A POST is not retried after a redirect to a server that cannot be reached: the server
// that redirected it has handled it.
func TestDefaultRetryable_postRedirected(t *testing.T) {
	dead := map[string]string{
		"refused": "http://" + refusing(t), "hangs up a handshake": "https://" + listen(t, hangsUp),
	}
	var orders atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			orders.Add(1)
		}
		http.Redirect(w, r, dead[r.URL.Query().Get("to")], len(r.URL.Query().Get("code"))+300)
	}))
	defer s.Close()
	inner := s.Client().Transport
	for kind, base := range map[string]roundTripper{
		"client": func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			return (&http.Client{Transport: inner}).Do(r)
		},
		"own redirects": func(r *http.Request) (*http.Response, error) {
			resp, err := inner.RoundTrip(r)
			if err != nil {
				return nil, err
			}
			resp.Body.Close()
			r = r.Clone(r.Context())
			r.Method, r.Body = http.MethodGet, nil
			r.URL = resilience.Must(resp.Location())
			return inner.RoundTrip(r)
		},
	} {
		for to := range dead {
			for _, code := range []int{302, 303, 307} {
				orders.Store(0)
				target := fmt.Sprintf("%s/?to=%s&code=%s", s.URL, url.QueryEscape(to), strings.Repeat("x", code-300))
				_, _, err := attempt(t, base, newRequest(t, "POST", target, strings.NewReader("order")))
				if n := orders.Load(); n != 1 || err == nil {
					t.Errorf("%s, %d, %s: %d orders, error %v", kind, code, to, n, err)
				}
			}
		}
	}
}

// Without a proof in the context, a dial error inside a client's error proves nothing: it
// may be about a redirect.
func TestDefaultRetryable_dialErrorOfClient(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")}
	post := &http.Request{Method: "POST"}
	for op, want := range map[string]bool{
		"dial": true, "proxyconnect": true, "socks connect": true, "read": false, "write": false, "readfrom": false, "remote error": false,
	} {
		if got := httpmw.DefaultRetryable(post, nil, &net.OpError{Op: op, Err: errors.New("refused")}); got != want {
			t.Errorf("%s: retried %v", op, got)
		}
	}
	if httpmw.DefaultRetryable(post, nil, &url.Error{Op: "Post", URL: "http://x", Err: dial}) {
		t.Error("a POST that may have been sent is retried")
	}
}

// A Retryable of the user's own that calls DefaultRetryable retries an unsent POST, and is
// called with the errors of Base.
func TestTransport_retryableOfUnsent(t *testing.T) {
	n := 0
	tr := &httpmw.Transport{
		Policy: again(3),
		Retryable: func(req *http.Request, resp *http.Response, err error) bool {
			n++
			if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
				t.Errorf("called with %v", err)
			}
			return httpmw.DefaultRetryable(req, resp, err)
		},
		Base: &http.Transport{},
	}
	if _, err := tr.RoundTrip(newRequest(t, "POST", "https://"+listen(t, hangsUp), strings.NewReader("a"))); n != 3 || err == nil {
		t.Errorf("%d attempts, error %v", n, err)
	}
}

// A timeout before there is a connection has the price of a quick failure: a full budget
// pays for two retries. The caller still gets a timeout.
func TestTransport_unsentTimeoutIsCheap(t *testing.T) {
	base := &http.Transport{TLSHandshakeTimeout: 10 * time.Millisecond}
	addr := "https://" + listen(t, func(net.Conn) {})
	for _, method := range []string{"GET", "POST"} {
		n := 0
		counting := roundTripper(func(r *http.Request) (*http.Response, error) { n++; return base.RoundTrip(r) })
		r := resilience.Must(retry.New(retry.Config{BaseDelay: time.Millisecond}))
		client := &http.Client{Transport: &httpmw.Transport{Base: counting, Policy: r}}
		_, err := client.Do(newRequest(t, method, addr, nil))
		if late, ok := err.(net.Error); n != 3 || !ok || !late.Timeout() {
			t.Errorf("%s: %d attempts, error %v", method, n, err)
		}
	}
}

// resolving returns a transport whose name server answers each query with a code (RFC
// 1035, section 4.1.1).
func resolving(t *testing.T, code byte) *http.Transport {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			end := 12 // of the header; then the name that was asked for, its type and its class
			for end < n && b[end] != 0 {
				end += 1 + int(b[end])
			}
			end += 5
			copy(b[2:], []byte{0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0})
			conn.WriteTo(b[:end], from)
		}
	}()
	dialer := &net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}}
	base := &http.Transport{DialContext: dialer.DialContext}
	t.Cleanup(base.CloseIdleConnections)
	return base
}

// A name that does not exist is not looked up again. Other errors of a name server are
// retried, because nothing was sent.
func TestDefaultRetryable_names(t *testing.T) {
	for code, want := range map[byte]int{2: 3, 3: 1} { // SERVFAIL and NXDOMAIN
		base := resolving(t, code)
		for _, method := range []string{"GET", "POST"} {
			for _, target := range []string{"http://nothing.test.", "https://nothing.test."} {
				n, outcome, err := attempt(t, base, newRequest(t, method, target, nil))
				if _, ok := errors.AsType[*net.DNSError](err); !ok || n != want || outcome != resilience.Failure {
					t.Errorf("code %d, %s %s: %d attempts, want %d, counted as a %v, error %v", code, method, target, n, want, outcome, err)
				}
			}
		}
	}
	proxied := resolving(t, 3)
	proxied.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.test."})
	if n, _, err := attempt(t, proxied, newRequest(t, "GET", "http://example.test", nil)); n != 1 || err == nil {
		t.Errorf("proxy: %d attempts, error %v", n, err)
	}
}

// An answer of a proxy to CONNECT that blames the client is no failure of the server and is
// not retried. If the proxy could not reach the server, it is, and nothing was sent.
func TestTransport_proxyAnswersConnect(t *testing.T) {
	for status, want := range map[string]struct {
		outcome  resilience.Outcome
		attempts int
	}{
		"302 Found":                           {resilience.Ignored, 1}, // a login page
		"400 Bad Request":                     {resilience.Ignored, 1},
		"403 Forbidden":                       {resilience.Ignored, 1},
		"403 FORBIDDEN":                       {resilience.Ignored, 1},
		"405 Method Not Allowed":              {resilience.Ignored, 1},
		"407 Proxy Authentication Required":   {resilience.Ignored, 1},
		"429 Too Many Requests":               {resilience.Ignored, 3},
		"501 Not Implemented":                 {resilience.Ignored, 1},
		"500 Internal Server Error":           {resilience.Failure, 3},
		"502 Bad Gateway":                     {resilience.Failure, 3},
		"503 Service Unavailable":             {resilience.Failure, 3},
		"504 Gateway Timeout":                 {resilience.Failure, 3},
		"511 Network Authentication Required": {resilience.Failure, 1},
		"407 who are you":                     {resilience.Failure, 3}, // net/http keeps only the phrase
	} {
		for _, scheme := range []string{"http", "https"} {
			for _, method := range []string{"GET", "POST"} {
				base := through(t, "http", listen(t, connect(status)))
				if scheme == "https" {
					s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
						conn, _, err := http.NewResponseController(w).Hijack()
						if err != nil {
							t.Error(err)
							return
						}
						fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", status)
						conn.Close()
					}))
					s.StartTLS()
					defer s.Close()
					base = through(t, "https", s.Listener.Addr().String())
					base.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
				}
				n, outcome, err := attempt(t, base, newRequest(t, method, "https://example.test", nil))
				if n != want.attempts || outcome != want.outcome || err == nil {
					t.Errorf("%s, %s by %s: %d attempts, want %d, counted as a %v, want %v, error %v",
						status, method, scheme, n, want.attempts, outcome, want.outcome, err)
				}
			}
		}
	}
}

// The text of a status without a proxy in its place is an error like any other.
func TestTransport_textOfStatusWithoutConnect(t *testing.T) {
	base := roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("Forbidden") })
	if n, outcome, _ := attempt(t, base, newRequest(t, "GET", "http://x", nil)); n != 3 || outcome != resilience.Failure {
		t.Errorf("%d attempts, counted as a %v", n, outcome)
	}
	if !httpmw.DefaultRetryable(&http.Request{Method: "GET"}, nil, errors.New("Forbidden")) {
		t.Error("a request without a URL is not retried")
	}
}
