package httpmw_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/resilience-go/resilience/httpmw"
)

// sights is how many requests a server sees for one call that it always fails: on a new
// connection, and on one that was used before. The three numbers are for requests that
// net/http replays by itself, for others that are idempotent, and for all others.
type sights struct{ fresh, used [3]int }

var (
	maybeHandled = sights{[3]int{3, 3, 1}, [3]int{3, 3, 1}}
	// On a used connection, net/http takes the loss for a keep-alive timeout of the server.
	lostEarly   = sights{[3]int{3, 3, 1}, [3]int{4, 3, 1}}
	unprocessed = sights{[3]int{3, 3, 3}, [3]int{4, 4, 4}}
)

// kinds are methods, with an index in the arrays of sights.
var kinds = map[string]int{
	"GET": 0, "HEAD": 0, "OPTIONS": 0, "POST with a key": 0, "PUT": 1, "DELETE": 1, "POST": 2, "PATCH": 2, "SEARCH": 2,
}

// counted serves requests on real sockets. If primed is not set, it answers the first
// request well, so that the connection is used again. seen counts the other requests.
type counted struct {
	seen   atomic.Int32
	primed atomic.Bool
}

// prime reports whether a request is the one with a good answer.
func (c *counted) prime() bool { return c.primed.CompareAndSwap(false, true) }

// prime makes a request of base that the server answers well, and returns when its
// connection can be used again.
func prime(t *testing.T, base *http.Transport, version byte, url string) {
	t.Helper()
	idle := make(chan struct{})
	req := newRequest(t, "GET", url, nil)
	req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{PutIdleConn: func(error) { close(idle) }}))
	resp, err := base.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if version == 1 { // net/http does not call PutIdleConn over HTTP/2
		<-idle
	}
}

// reset closes conn with a RST.
func reset(conn net.Conn) {
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// faults1 are the ways in which an HTTP/1 server fails a request.
var faults1 = map[string]struct {
	want sights
	fail func(conn net.Conn, body io.Reader)
}{
	"reset after headers": {lostEarly, func(conn net.Conn, _ io.Reader) { reset(conn) }},
	"close after headers": {lostEarly, func(conn net.Conn, _ io.Reader) { conn.Close() }},
	"reset after body":    {lostEarly, func(conn net.Conn, body io.Reader) { io.Copy(io.Discard, body); reset(conn) }},
	"close after body":    {lostEarly, func(conn net.Conn, body io.Reader) { io.Copy(io.Discard, body); conn.Close() }},
	"in the status line":  {maybeHandled, answering("HTTP/1.1 2")},
	"in the headers":      {maybeHandled, answering("HTTP/1.1 200 OK\r\nA: ")},
	"after 100":           {maybeHandled, answering("HTTP/1.1 100 Continue\r\n\r\n")},
	"after 103":           {maybeHandled, answering("HTTP/1.1 103 Early Hints\r\n\r\n")},
	"no HTTP":             {maybeHandled, answering("hello\r\n\r\n")},
	"408":                 {maybeHandled, answering("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")},
	"503":                 {maybeHandled, answering("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")},
}

// answering reads the request, sends text and closes the connection.
func answering(text string) func(net.Conn, io.Reader) {
	return func(conn net.Conn, body io.Reader) {
		io.Copy(io.Discard, body)
		io.WriteString(conn, text)
	}
}

func (c *counted) http1(t *testing.T, fail func(net.Conn, io.Reader)) string {
	return "http://" + listen(t, func(conn net.Conn) {
		defer conn.Close()
		for r := bufio.NewReader(conn); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if c.prime() {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			c.seen.Add(1)
			fail(conn, req.Body)
			return
		}
	})
}

// The types of frames and their flags (RFC 9113, section 6).
const (
	frameHeaders, frameRST, frameSettings, framePing, frameGOAWAY = 1, 3, 4, 6, 7

	flagEndStream, flagAck, flagEndHeaders = 1, 1, 4
)

// frameOf returns a frame.
func frameOf(kind, flags byte, stream uint32, payload ...byte) []byte {
	b := []byte{0, byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

func words(words ...uint32) (b []byte) {
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

// A stream is a request as an HTTP/2 server sees it. last is the stream before it on the
// connection.
type stream struct {
	conn     io.Writer
	id, last uint32
}

func (s stream) rst(code uint32) { s.conn.Write(frameOf(frameRST, 0, s.id, words(code)...)) }

func (s stream) goAway(last, code uint32) {
	s.conn.Write(frameOf(frameGOAWAY, 0, 0, words(last, code)...))
}

// status sends headers with a status of three digits, as a literal without an index (RFC
// 7541, section 6.2.2). 8 is the index of the name :status.
func (s stream) status(code string, flags byte) {
	s.conn.Write(frameOf(frameHeaders, flags|flagEndHeaders, s.id, append([]byte{8, 3}, code...)...))
}

func (c *counted) http2(t *testing.T, fail func(s stream) (open bool)) string {
	return "http://" + listen(t, func(conn net.Conn) {
		defer conn.Close()
		r := bufio.NewReader(conn)
		if _, err := io.CopyN(io.Discard, r, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
			return
		}
		conn.Write(frameOf(frameSettings, 0, 0))
		for last := uint32(0); ; {
			head := make([]byte, 9)
			if _, err := io.ReadFull(r, head); err != nil {
				return
			}
			payload := make([]byte, int(head[1])<<8|int(head[2]))
			if _, err := io.ReadFull(r, payload); err != nil {
				return
			}
			id := binary.BigEndian.Uint32(head[5:])
			switch {
			case head[3] == frameSettings && head[4]&flagAck == 0:
				conn.Write(frameOf(frameSettings, flagAck, 0))
			case head[3] == framePing && head[4]&flagAck == 0:
				conn.Write(frameOf(framePing, flagAck, 0, payload...))
			case head[3] == frameHeaders:
				s := stream{conn, id, last}
				last = id
				if c.prime() {
					s.status("200", flagEndStream)
					continue
				}
				c.seen.Add(1)
				if !fail(s) {
					return
				}
			}
		}
	})
}

// faults2 are the ways in which an HTTP/2 server fails a request (RFC 9113, section 8.7).
var faults2 = map[string]struct {
	want sights
	fail func(s stream) (open bool)
}{
	"close":                 {maybeHandled, func(stream) bool { return false }},
	"RST NO_ERROR":          {maybeHandled, func(s stream) bool { s.rst(0); return true }},
	"RST INTERNAL_ERROR":    {maybeHandled, func(s stream) bool { s.rst(2); return true }},
	"RST CANCEL":            {maybeHandled, func(s stream) bool { s.rst(8); return true }},
	"RST ENHANCE_YOUR_CALM": {maybeHandled, func(s stream) bool { s.rst(11); return true }},
	"RST CANCEL after 103":  {maybeHandled, func(s stream) bool { s.status("103", 0); s.rst(8); return true }},
	"close after 103":       {maybeHandled, func(s stream) bool { s.status("103", 0); return false }},
	"graceful GOAWAY, seen": {maybeHandled, func(s stream) bool { s.goAway(s.id, 0); return false }},
	"GOAWAY, seen":          {maybeHandled, func(s stream) bool { s.goAway(s.id, 2); return false }},
	"GOAWAY, not seen":      {unprocessed, func(s stream) bool { s.goAway(s.last, 2); return false }},
	"503":                   {maybeHandled, func(s stream) bool { s.status("503", flagEndStream); return true }},
	"408":                   {maybeHandled, func(s stream) bool { s.status("408", flagEndStream); return true }},
}

// A server that fails each request sees a request again only if that is safe: it is
// idempotent, or the server has reported that it did not process it.
func TestTransport_repeatsOnlyWhatIsSafe(t *testing.T) {
	type server struct {
		version byte
		want    sights
		start   func(c *counted) (url string)
	}
	servers := map[string]server{}
	for name, f := range faults1 {
		servers["HTTP/1, "+name] = server{1, f.want, func(c *counted) string { return c.http1(t, f.fail) }}
	}
	for name, f := range faults2 {
		servers["HTTP/2, "+name] = server{2, f.want, func(c *counted) string { return c.http2(t, f.fail) }}
	}
	for name, s := range servers {
		for kind, i := range kinds {
			for _, content := range []string{"", "content"} {
				for _, used := range []bool{false, true} {
					c, want := &counted{}, s.want.fresh[i]
					if used {
						want = s.want.used[i]
					}
					c.primed.Store(!used)
					url := s.start(c)
					base := &http.Transport{Protocols: new(http.Protocols)}
					base.Protocols.SetHTTP1(s.version == 1)
					base.Protocols.SetUnencryptedHTTP2(s.version == 2)
					if used {
						prime(t, base, s.version, url)
					}
					method, key, _ := strings.Cut(kind, " with a key")
					req := newRequest(t, method, url, strings.NewReader(content))
					if method != kind {
						req.Header.Set("Idempotency-Key", key)
					}
					_, outcome, err := attempt(t, base, req)
					if n := int(c.seen.Load()); n != want {
						t.Errorf("%s, %s, body %q, used connection %v: seen %d times, want %d, counted as a %v, error %v",
							name, kind, content, used, n, want, outcome, err)
					}
					base.CloseIdleConnections()
				}
			}
		}
	}
}

// net/http repeats a request by itself, whatever its method, after these answers of an
// HTTP/2 server. After PROTOCOL_ERROR the server may have processed it.
func TestTransport_repeatsOfNetHTTP(t *testing.T) {
	for name, fail := range map[string]func(s stream) bool{
		"RST REFUSED_STREAM":        func(s stream) bool { s.rst(7); return true },
		"RST PROTOCOL_ERROR":        func(s stream) bool { s.rst(1); return true },
		"graceful GOAWAY, not seen": func(s stream) bool { s.goAway(s.last, 0); return false },
	} {
		for _, method := range []string{"GET", "POST"} {
			c := &counted{}
			c.primed.Store(true)
			url := c.http2(t, func(s stream) bool {
				if c.seen.Load() == 1 {
					return fail(s)
				}
				s.status("200", flagEndStream)
				return true
			})
			base := &http.Transport{Protocols: new(http.Protocols)}
			base.Protocols.SetUnencryptedHTTP2(true)
			attempts, outcome, err := attempt(t, base, newRequest(t, method, url, strings.NewReader("content")))
			if n := c.seen.Load(); n != 2 || attempts != 1 || err != nil {
				t.Errorf("%s, %s: seen %d times in %d attempts, counted as a %v, error %v", name, method, n, attempts, outcome, err)
			}
			base.CloseIdleConnections()
		}
	}
}

// A connection that ends without a byte may have carried the request.
func TestTransport_hangUpProvesNothing(t *testing.T) {
	for method, want := range map[string]int{"GET": 3, "PUT": 3, "POST": 1, "PATCH": 1} {
		base := &http.Transport{}
		n, _, err := attempt(t, base, newRequest(t, method, "http://"+listen(t, hangsUp), strings.NewReader("content")))
		if n != want || err == nil {
			t.Errorf("%s: %d attempts, want %d, error %v", method, n, want, err)
		}
	}
}

// brokenConn is a connection on which, after it has been broken, no byte can be written.
type brokenConn struct {
	net.Conn
	broken *atomic.Bool
}

func (c brokenConn) Write(p []byte) (int, error) {
	if c.broken.Load() {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

// A POST is retried if nothing could be written on a used connection, and there was no
// other connection. A Base around net/http could have sent it on the first one.
func TestDefaultRetryable_postOnStaleConn(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	dead := listen(t, hangsUp)
	for want, wrap := range map[int32]func(base *http.Transport) http.RoundTripper{
		3: func(base *http.Transport) http.RoundTripper { return base },
		1: func(base *http.Transport) http.RoundTripper { return roundTripper(base.RoundTrip) },
	} {
		var broken atomic.Bool
		var dials atomic.Int32
		dialer := net.Dialer{}
		base := s.Client().Transport.(*http.Transport).Clone()
		base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if broken.Load() {
				dials.Add(1)
				return dialer.DialContext(ctx, network, dead)
			}
			conn, err := dialer.DialContext(ctx, network, addr)
			return brokenConn{conn, &broken}, err
		}
		resp, err := base.RoundTrip(newRequest(t, "GET", s.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp)
		broken.Store(true)
		tr := &httpmw.Transport{Base: wrap(base), Policy: again(3)}
		_, err = tr.RoundTrip(newRequest(t, "POST", s.URL, strings.NewReader("content")))
		if n := dials.Load(); n != want || err == nil {
			t.Errorf("dialed %d times, want %d, error %v", n, want, err)
		}
		base.CloseIdleConnections()
	}
}
