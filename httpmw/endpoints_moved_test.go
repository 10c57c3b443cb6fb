package httpmw_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience/endpoint"
	"github.com/resilience-go/resilience/httpmw"
)

// If the addresses of a host have changed, and an old one cannot be connected, the request
// goes to a new one. While none can be connected, the host is looked up once a second.
func TestEndpoints_addressMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := memory(t, map[string]http.HandlerFunc{"10.0.0.1:80": func(http.ResponseWriter, *http.Request) {}})
		var lookups atomic.Int32
		var now atomic.Value
		now.Store("10.0.0.9:80") // has no listener
		e := choose(t, base, func(context.Context, string, string) ([]string, error) {
			lookups.Add(1)
			return []string{now.Load().(string)}, nil
		})
		for range 5 {
			if _, err := roundTrip(t, e, "POST", "http://service/", "1 EUR"); err == nil {
				t.Fatal("a request without a server succeeded")
			}
		}
		if n := lookups.Load(); n != 2 {
			t.Errorf("%d lookups for five requests at once, want the first and one more", n)
		}
		now.Store("10.0.0.1:80")
		time.Sleep(2 * time.Second)
		if _, err := roundTrip(t, e, "POST", "http://service/", "1 EUR"); err != nil || lookups.Load() != 3 {
			t.Errorf("after the move: %v, %d lookups", err, lookups.Load())
		}
	})
}

// A host that is not looked up again is not after a failed dial either.
func TestEndpoints_addressNeverMoves(t *testing.T) {
	var lookups atomic.Int32
	e := choose(t, nil, func(context.Context, string, string) ([]string, error) {
		lookups.Add(1)
		return []string{closedAddress(t)}, nil
	})
	e.Every = httpmw.NoRefresh
	_, _ = roundTrip(t, e, "GET", "http://service/", "")
	if n := lookups.Load(); n != 1 {
		t.Errorf("%d lookups", n)
	}
}

// closedAddress returns an address without a listener.
func closedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// http.Client reports a request by HTTPS to a server that speaks HTTP as ErrSchemeMismatch.
func TestEndpoints_schemeMismatch(t *testing.T) {
	base := memory(t, map[string]http.HandlerFunc{"10.0.0.1:443": func(http.ResponseWriter, *http.Request) {}})
	base.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	client := &http.Client{Transport: choose(t, base, fixed("10.0.0.1:443"))}
	if _, err := client.Get("https://service/"); !errors.Is(err, http.ErrSchemeMismatch) {
		t.Errorf("got %v", err)
	}
}

// dialing is a body whose reader cannot reach its own source.
type dialing struct{}

func (dialing) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("the source of the body is down")}
}

// A dial that fails in the body of a request is not the endpoint's: the request is not sent
// to another one, which is then not ejected.
func TestEndpoints_bodyDials(t *testing.T) {
	var requests atomic.Int32
	count := func(_ http.ResponseWriter, r *http.Request) { requests.Add(1) }
	base := memory(t, map[string]http.HandlerFunc{"10.0.0.1:80": count, "10.0.0.2:80": count, "10.0.0.3:80": count})
	e := choose(t, base, fixed("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"))
	req := newRequest(t, "POST", "http://service/", dialing{})
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(dialing{}), nil }
	if _, err := e.RoundTrip(req); err == nil || !strings.Contains(err.Error(), "source of the body") {
		t.Errorf("got %v", err)
	}
	st := setOf(t, e).Stats()
	if st.Picks != 1 || st.Unreachable != 0 {
		t.Errorf("%+v", st)
	}
	for _, one := range st.Endpoints {
		if one.State != endpoint.In {
			t.Errorf("%+v", one)
		}
	}
}
