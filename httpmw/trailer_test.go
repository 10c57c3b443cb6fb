package httpmw_test

import (
	"bufio"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
)

// A client gets the trailers of a handler, announced or not, however the body is written.
func TestServer_trailersArrive(t *testing.T) {
	for name, write := range map[string]func(w http.ResponseWriter){
		"Write":  func(w http.ResponseWriter) { _, _ = w.Write([]byte("body")) },
		"string": func(w http.ResponseWriter) { _, _ = io.WriteString(w, "body") },
		"copy":   func(w http.ResponseWriter) { _, _ = io.Copy(w, source("body")) },
		"flush":  func(w http.ResponseWriter) { _, _ = io.WriteString(w, "body"); w.(http.Flusher).Flush() },
		"control": func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "body")
			_ = http.NewResponseController(w).Flush()
		},
	} {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "Announced")
			write(w)
			w.Header().Set("Announced", "1")
			w.Header().Set(http.TrailerPrefix+"Unannounced", "2")
		})
		for what, policy := range map[string]resilience.Policy{"nothing": resilience.Compose(), "a timeout": newTimeout(time.Hour, 0)} {
			t.Run(name+", "+what, func(t *testing.T) {
				serve(t, httpmw.Server{Policy: policy}.Wrap(h).ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
					for _, client := range []http.RoundTripper{base, &httpmw.Transport{Base: base, Policy: policy}} {
						resp, err := client.RoundTrip(newRequest(t, "GET", url, nil))
						if err != nil {
							t.Fatal(err)
						}
						got := read(t, resp)
						want := http.Header{"Announced": {"1"}, "Unannounced": {"2"}}
						if got != "body" || !maps.EqualFunc(resp.Trailer, want, slices.Equal) {
							t.Errorf("got %q with trailers %v, want %v", got, resp.Trailer, want)
						}
					}
				})
			})
		}
	}
}

// A handler gets the trailers of a request, announced or not.
func TestServer_requestTrailersArrive(t *testing.T) {
	for name, test := range map[string]struct {
		announced string
		policy    resilience.Policy
	}{
		"announced":                {"Trailer: Sum\r\n", resilience.Compose()},
		"announced, a timeout":     {"Trailer: Sum\r\n", newTimeout(time.Hour, 0)},
		"not announced":            {"", resilience.Compose()},
		"not announced, a timeout": {"", newTimeout(time.Hour, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after http.Header
			s := httptest.NewServer(httpmw.Server{Policy: test.policy}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				before = r.Trailer.Clone()
				if b, err := io.ReadAll(r.Body); string(b) != "body" || err != nil {
					t.Errorf("read %q, %v", b, err)
				}
				after = r.Trailer.Clone()
			})))
			defer s.Close()
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"+test.announced+"\r\n4\r\nbody\r\n0\r\nSum: 1\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if _, ok := before["Sum"]; ok != (test.announced != "") || len(before["Sum"]) != 0 || !slices.Equal(after["Sum"], []string{"1"}) {
				t.Errorf("trailers %v, then %v", before, after)
			}
		})
	}
}

// A request without trailers has none under a policy with a context of its own.
func TestServer_requestWithoutTrailers(t *testing.T) {
	httpmw.Server{Policy: newTimeout(time.Hour, 0)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Trailer != nil {
			t.Errorf("trailers %v", r.Trailer)
		}
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", source("body")))
}
