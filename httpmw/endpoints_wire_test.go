package httpmw_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience/httpmw"
)

// serveThrough runs f on a server of HTTP/1 with TLS, of HTTP/2 and of h2c, with an Endpoints
// that finds it behind the URL, whose host is example.com. The certificate is for that name.
func serveThrough(t *testing.T, h http.HandlerFunc, f func(t *testing.T, url string, e *httpmw.Endpoints, s *httptest.Server)) {
	for _, name := range []string{"HTTP/1.1", "HTTP/2.0", "h2c"} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(h)
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			base, scheme := &http.Transport{}, "https"
			if name == "h2c" {
				scheme = "http"
				s.Config.Protocols = new(http.Protocols)
				s.Config.Protocols.SetUnencryptedHTTP2(true)
				base.Protocols = s.Config.Protocols
				s.Start()
			} else {
				s.EnableHTTP2 = name == "HTTP/2.0"
				s.StartTLS()
				base = s.Client().Transport.(*http.Transport).Clone()
				base.DialContext = nil // httptest leads example.com to the server
			}
			defer s.Close()
			e := choose(t, base, fixed(s.Listener.Addr().String()))
			defer e.CloseIdleConnections()
			f(t, scheme+"://example.com/path", e, s)
		})
	}
}

// Host header, server name, protocol and the request of the response are as without
// Endpoints.
func TestEndpoints_names(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		sni := ""
		if r.TLS != nil {
			sni = r.TLS.ServerName
		}
		fmt.Fprintf(w, "%s %s %s %s", r.Host, r.URL, sni, r.Proto)
	}
	serveThrough(t, handler, func(t *testing.T, url string, e *httpmw.Endpoints, s *httptest.Server) {
		want := "example.com /path example.com HTTP/1.1"
		switch {
		case strings.HasPrefix(url, "http:"):
			want = "example.com /path  HTTP/2.0"
		case s.EnableHTTP2:
			want = "example.com /path example.com HTTP/2.0"
		}
		for range 2 {
			req := newRequest(t, "GET", url, nil)
			resp, err := e.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, resp); got != want {
				t.Errorf("the server saw %q, want %q", got, want)
			}
			if resp.Request != req {
				t.Error("the request of the response is another one")
			}
		}
		req := newRequest(t, "GET", url, nil)
		req.Host = "virtual"
		resp, err := e.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); !strings.HasPrefix(got, "virtual ") {
			t.Errorf("the server saw %q, want the Host of the request", got)
		}
	})
}

// A certificate is checked against the name in the URL. A wrong one is an error that has the
// address, is not retried, and ejects no endpoint at once.
func TestEndpoints_certificate(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	base := s.Client().Transport.(*http.Transport).Clone()
	base.DialContext = nil
	e := choose(t, base, fixed(s.Listener.Addr().String(), refusing(t)))
	tr := &httpmw.Transport{Base: e, Policy: again(3)}
	_, err := tr.RoundTrip(newRequest(t, "GET", "https://other.test", nil))
	if _, ok := errors.AsType[x509.HostnameError](err); !ok {
		t.Fatalf("error %v, want a HostnameError", err)
	}
	if !strings.Contains(err.Error(), s.Listener.Addr().String()) {
		t.Errorf("error %q, want the address in it", err)
	}
	if st := setOf(t, e).Stats(); st.Failures != 0 || st.Timeouts != 0 || st.Picks > 2 {
		t.Errorf("%+v: there were retries or ejections", st)
	}
}

// A clone speaks HTTP/2 exactly if Base does, although it has a DialContext.
func TestEndpoints_HTTP2(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that are not needed are closed
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	dialer := new(net.Dialer).DialContext
	off := func() map[string]func(string, *tls.Conn) http.RoundTripper {
		return map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	both, one := new(http.Protocols), new(http.Protocols)
	both.SetHTTP1(true)
	both.SetHTTP2(true)
	one.SetHTTP1(true)
	for name, base := range map[string]*http.Transport{
		"zero":                {},
		"default":             http.DefaultTransport.(*http.Transport).Clone(),
		"TLS configuration":   {TLSClientConfig: &tls.Config{}},
		"dialer":              {DialContext: dialer},
		"dialer and HTTP/2":   {DialContext: dialer, ForceAttemptHTTP2: true},
		"HTTP/2 off":          {TLSNextProto: off()},
		"HTTP/2 forced off":   {TLSNextProto: off(), ForceAttemptHTTP2: true},
		"HTTP/1 and HTTP/2":   {DialContext: dialer, Protocols: both},
		"only HTTP/1":         {Protocols: one},
		"only HTTP/1, forced": {Protocols: one, ForceAttemptHTTP2: true},
	} {
		base.CloseIdleConnections() // net/http now decides about HTTP/2, so the roots do not matter for that
		if base.TLSClientConfig == nil {
			base.TLSClientConfig = &tls.Config{}
		}
		base.TLSClientConfig.RootCAs = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		e := choose(t, base, fixed(s.Listener.Addr().String()))
		if got, want := fetch(t, e, s.URL), fetch(t, base, s.URL); got != want {
			t.Errorf("%s: an Endpoints speaks %s, want %s as Base does", name, got, want)
		}
		if name == "zero" && fetch(t, e, s.URL) != "HTTP/2.0" {
			t.Error("a zero Base does not speak HTTP/2")
		}
	}
}

// Trailers arrive.
func TestEndpoints_trailers(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "Sum")
		io.WriteString(w, "content")
		w.Header().Set("Sum", r.Trailer.Get("Sum"))
	}
	serveThrough(t, handler, func(t *testing.T, url string, e *httpmw.Endpoints, _ *httptest.Server) {
		req := newRequest(t, "POST", url, io.NopCloser(strings.NewReader("content")))
		req.Trailer = http.Header{"Sum": {"42"}}
		resp, err := e.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp)
		if sum := resp.Trailer.Get("Sum"); sum != "42" {
			t.Errorf("the trailer is %q, want 42", sum)
		}
	})
}

// The body of an upgrade can be written, and its sending side can be closed. It is in flight
// until it is closed.
func TestEndpoints_upgrade(t *testing.T) {
	one := serveReplicas(t, 1)[0]
	one.handle(func(w http.ResponseWriter, _ *http.Request) {
		conn, buffer, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		echo(bufio.NewReadWriter(buffer.Reader, buffer.Writer))
		rest, _ := io.ReadAll(conn) // until CloseWrite
		conn.Write(bytes.ToUpper(rest))
	})
	e := choose(t, nil, fixed(one.address()))
	for name, rt := range map[string]http.RoundTripper{
		"alone":               e,
		"inside a Transport":  &httpmw.Transport{Base: e, Policy: pass},
		"with a held body":    &httpmw.Transport{Base: e, Policy: newBulkhead(10)},
		"hidden by a wrapper": &httpmw.Transport{Base: roundTripper(e.RoundTrip), Policy: pass},
	} {
		resp, err := rt.RoundTrip(upgrade(t, "http://service"))
		if err != nil {
			t.Fatal(err)
		}
		stream, ok := resp.Body.(io.ReadWriteCloser)
		if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: status %d with a body of %T", name, resp.StatusCode, resp.Body)
		}
		fmt.Fprintln(stream, "line")
		line := make([]byte, 5)
		if _, err := io.ReadFull(stream, line); err != nil || string(line) != "line\n" {
			t.Errorf("%s: read %q, %v", name, line, err)
		}
		if n := inFlight(e); n != 1 {
			t.Errorf("%s: %d in flight while the stream is open, want 1", name, n)
		}
		io.WriteString(stream, "rest")
		if err := stream.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Errorf("%s: close the sending side: %v", name, err)
		}
		if rest, err := io.ReadAll(stream); string(rest) != "REST" || err != nil {
			t.Errorf("%s: read %q, %v after CloseWrite", name, rest, err)
		}
		stream.Close()
		if n := inFlight(e); n != 0 {
			t.Errorf("%s: %d in flight after Close", name, n)
		}
	}
}

// Cookies go to all replicas.
func TestEndpoints_cookies(t *testing.T) {
	all := serveReplicas(t, 2)
	for _, r := range all {
		r.handle(func(w http.ResponseWriter, r *http.Request) {
			if _, err := r.Cookie("session"); err != nil {
				http.SetCookie(w, &http.Cookie{Name: "session", Value: "1"})
				w.WriteHeader(http.StatusUnauthorized)
			}
		})
	}
	jar, _ := cookiejar.New(nil)
	client := &http.Client{Transport: choose(t, nil, fixed(all.addresses()...)), Jar: jar}
	for i := range 10 {
		resp, err := client.Get("http://service")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if (resp.StatusCode == http.StatusOK) != (i > 0) {
			t.Errorf("call %d has status %d", i, resp.StatusCode)
		}
	}
}

// A request for which Base has a proxy goes to Base. So does one that Base would not look up
// by DNS as it is written, or that it rejects.
func TestEndpoints_proxy(t *testing.T) {
	one := serveReplicas(t, 1)[0]
	var seen atomic.Pointer[string]
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target := r.URL.String()
		seen.Store(&target)
	}))
	defer proxy.Close()
	proxyURL, _ := url.Parse(proxy.URL)
	broken := errors.New("broken")
	var resolved sync.Map
	base := &http.Transport{Proxy: func(r *http.Request) (*url.URL, error) {
		switch r.URL.Hostname() {
		case "proxied":
			return proxyURL, nil
		case "broken":
			return nil, broken
		}
		return nil, nil
	}}
	base.RegisterProtocol("own", answer(http.StatusTeapot))
	e := choose(t, base, func(_ context.Context, host, _ string) ([]string, error) {
		resolved.Store(host, true)
		return []string{one.address()}, nil
	})
	fetch(t, e, "http://proxied/path")
	if target := seen.Load(); target == nil || *target != "http://proxied/path" {
		t.Errorf("the proxy saw %v", target)
	}
	if content := fetch(t, e, "http://service"); content != "0" {
		t.Errorf("without a proxy: %q", content)
	}
	if _, err := roundTrip(t, e, "GET", "http://broken", ""); !errors.Is(err, broken) {
		t.Errorf("error %v, want the one of Proxy", err)
	}
	resp, err := e.RoundTrip(newRequest(t, "GET", "own://service", nil))
	if err != nil || resp.StatusCode != http.StatusTeapot {
		t.Errorf("a registered protocol: %v, %v", resp, err)
	}
	for _, invalid := range []*http.Request{{}, {URL: &url.URL{Scheme: "http"}, Header: http.Header{}}, {URL: &url.URL{Scheme: "ftp", Host: "service"}, Header: http.Header{}}} {
		_, want := base.RoundTrip(invalid)
		if _, err := e.RoundTrip(invalid); err == nil || err.Error() != want.Error() {
			t.Errorf("error %v, want %v as from Base", err, want)
		}
	}
	if _, ok := resolved.Load("proxied"); ok {
		t.Error("the host of a request for the proxy was resolved")
	}
	base.CloseIdleConnections()
}
