package httpmw_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/debug"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/metrics"
)

// The zero value works, for an address and for a name. localhost usually has an IPv6 address
// at which the server does not listen.
func TestEndpoints_zeroValue(t *testing.T) {
	one := serveReplicas(t, 1)[0]
	e := &httpmw.Endpoints{}
	defer e.CloseIdleConnections()
	_, port, _ := net.SplitHostPort(one.address())
	for _, host := range []string{"127.0.0.1", "localhost", "LOCALHOST", "[::ffff:127.0.0.1]"} {
		for range 10 {
			if content := fetch(t, e, "http://"+host+":"+port); content != "0" {
				t.Errorf("%s answers %q", host, content)
			}
		}
	}
	if n := inFlight(e); n != 0 {
		t.Errorf("%d are in flight", n)
	}
	if n := len(setsOf(e)); n != 3 { // the spellings of localhost are one origin
		t.Errorf("%d origins, want 3", n)
	}
}

// A setting that cannot work is an error of RoundTrip that has the name of the field and
// says what to change. It does not count against a server, and the body is closed.
func TestEndpoints_badSettings(t *testing.T) {
	own := http.DefaultTransport.(*http.Transport).Clone()
	own.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{"h2": nil}
	own.TLSNextProto["h2"] = func(string, *tls.Conn) http.RoundTripper { return nil }
	dial := func(string, string) (net.Conn, error) { return nil, errors.New("not called") }
	dialContext := func(context.Context, string, string) (net.Conn, error) { return dial("", "") }
	for field, e := range map[string]*httpmw.Endpoints{
		"Endpoints.Base.Dial":           {Base: &http.Transport{Dial: dial}},    //lint:ignore SA1019 net/http calls it
		"Endpoints.Base.DialTLS":        {Base: &http.Transport{DialTLS: dial}}, //lint:ignore SA1019 net/http calls it
		"Endpoints.Base.DialTLSContext": {Base: &http.Transport{DialTLSContext: dialContext}},
		"Endpoints.Base.TLSNextProto":   {Base: own},
		"Endpoints.Every":               {Every: -2},
		"Endpoints.Max":                 {Max: -1},
	} {
		t.Run(field, func(t *testing.T) {
			sent := &body{Reader: strings.NewReader("content")}
			_, err := e.RoundTrip(newRequest(t, "POST", "http://127.0.0.1:1", sent))
			if err == nil || !strings.Contains(err.Error(), field+" ") {
				t.Fatalf("error %v, want one that has the name of the field", err)
			}
			if resilience.OutcomeOf(t.Context(), err, nil) != resilience.Ignored || retryable(err) || sent.closed.Load() != 1 {
				t.Errorf("%v: it counts, is retried, or the body is not closed", err)
			}
			through := &httpmw.Transport{Base: e, Policy: again(3)}
			if _, err := through.RoundTrip(newRequest(t, "GET", "http://127.0.0.1:1", nil)); err == nil || !strings.Contains(err.Error(), field) {
				t.Errorf("through a Transport: %v", err)
			}
			e.CloseIdleConnections()
		})
	}
}

// Without Base, a replaced http.DefaultTransport is an error.
func TestEndpoints_replacedDefault(t *testing.T) {
	before := http.DefaultTransport
	defer func() { http.DefaultTransport = before }()
	http.DefaultTransport = answer(200)
	_, err := new(httpmw.Endpoints).RoundTrip(newRequest(t, "GET", "http://127.0.0.1:1", nil))
	if err == nil || !strings.Contains(err.Error(), "Endpoints.Base is nil") {
		t.Errorf("error %v, want one about Base", err)
	}
}

// The DialContext of Base is called with the address of the endpoint. An error of it is a
// failure to connect, whatever its type.
func TestEndpoints_dialContext(t *testing.T) {
	all := serveReplicas(t, 2)
	broken := errors.New("broken")
	var dialed []string
	base := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		dialed = append(dialed, address)
		if address == all[0].address() {
			return nil, broken
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	e := choose(t, base, fixed(all.addresses()...))
	for range 20 {
		if content := fetch(t, e, "http://service"); content != "1" {
			t.Errorf("the answer is %q", content)
		}
	}
	slices.Sort(dialed)
	if want := all.addresses(); !slices.Equal(slices.Compact(dialed), slices.Sorted(slices.Values(want))) {
		t.Errorf("dialed %v, want %v", dialed, want)
	}
	if n := setOf(t, e).Stats().Unreachable; n != 1 {
		t.Errorf("%d ejections of an unreachable endpoint, want 1", n)
	}
	alone := choose(t, base, fixed(all[0].address()))
	if _, err := alone.RoundTrip(newRequest(t, "GET", "http://service", nil)); !errors.Is(err, broken) {
		t.Errorf("error %v, want the error of DialContext", err)
	}
}

// Policy reports the Set of each origin to the metrics and the debug page, with counters that
// all origins share. It guards nothing.
func TestEndpoints_Policy(t *testing.T) {
	all := serveReplicas(t, 2)
	e := choose(t, nil, fixed(all.addresses()...))
	e.Name = "payments"
	c, err := metrics.NewCollector(e.Policy())
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	for range 4 {
		fetch(t, e, "http://a")
		fetch(t, e, "http://b")
	}
	if keys := slices.Sorted(maps.Keys(setsOf(e))); !slices.Equal(keys, []string{"http://a:80", "http://b:80"}) {
		t.Errorf("the keys are %v", keys)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	picks := 0.
	for _, f := range families {
		if f.GetName() == "resilience_endpoint_picks_total" {
			for _, m := range f.Metric {
				picks += m.Counter.GetValue()
			}
		}
	}
	if picks != 8 {
		t.Errorf("%v picks, want 8", picks)
	}
	page := httptest.NewRecorder()
	debug.Handler(e.Policy()).ServeHTTP(page, httptest.NewRequest("GET", "/", nil))
	for _, want := range append(all.addresses(), "payments", "http://a:80", "http://b:80") {
		if !bytes.Contains(page.Body.Bytes(), []byte(want)) {
			t.Errorf("the debug page does not have %s", want)
		}
	}
	if err := resilience.Run(t.Context(), e.Policy(), func(context.Context) error { return io.EOF }); err != io.EOF {
		t.Errorf("the policy returns %v", err)
	}
	if e.Policy() != e.Policy() {
		t.Error("each call returns another policy")
	}
}

// Max bounds the origins. The connections of a forgotten origin are closed, and an origin
// with a request in flight is not forgotten.
func TestEndpoints_Max(t *testing.T) {
	one := serveReplicas(t, 1)[0]
	long := make(chan struct{})
	one.handle(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		if r.Host == "kept" {
			<-long
		}
	})
	e := choose(t, nil, fixed(one.address()))
	e.Max = 8
	kept, err := e.RoundTrip(newRequest(t, "GET", "http://kept", nil))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		fetch(t, e, "http://host-"+strings.Repeat("x", i))
		if n := len(setsOf(e)); n > e.Max {
			t.Fatalf("%d origins, want at most %d", n, e.Max)
		}
	}
	if setsOf(e)["http://kept:80"] == nil {
		t.Error("an origin was forgotten while a request was in flight")
	}
	var open []*http.Response
	for i := range 20 {
		resp, err := e.RoundTrip(newRequest(t, "GET", "http://open-"+strings.Repeat("x", i), nil))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, resp)
	}
	if n := len(setsOf(e)); n < 21 {
		t.Errorf("%d origins with 21 requests in flight", n)
	}
	for _, resp := range open {
		resp.Body.Close()
	}
	fetch(t, e, "http://one-more")
	for i := range 100 {
		fetch(t, e, "http://then-"+strings.Repeat("x", i))
	}
	if n := len(setsOf(e)); n > e.Max {
		t.Errorf("%d origins, want at most %d", n, e.Max)
	}
	eventually(t, "the connections of forgotten origins are closed", func() bool { return int(one.open.Load()) <= e.Max })
	close(long)
	read(t, kept)
	e.CloseIdleConnections()
	eventually(t, "all connections are closed", func() bool { return one.open.Load() == 0 })
}

// An origin that is forgotten while a request uses it leaves no connection behind.
func TestEndpoints_MaxUnderLoad(t *testing.T) {
	all := serveReplicas(t, 2)
	e := choose(t, nil, fixed(all.addresses()...))
	e.Max, e.Every = 2, time.Millisecond
	hammer(t, 4, 200, func(i int) {
		fetch(t, e, "http://host-"+strings.Repeat("x", i%7))
	})
	fetch(t, e, "http://last") // nothing else is in flight
	if n := len(setsOf(e)); n > e.Max {
		t.Errorf("%d origins, want at most %d", n, e.Max)
	}
	e.CloseIdleConnections()
	for _, r := range all {
		eventually(t, "all connections are closed", func() bool { return r.open.Load() == 0 })
	}
}
