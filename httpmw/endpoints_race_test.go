package httpmw_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/stack"
)

// Addresses that change on every resolution, under load, cost no call and leave neither an
// attempt in flight nor a connection.
func TestEndpoints_addressesChangeUnderLoad(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		all := serveReplicas(t, 6)
		addresses := all.addresses()
		var changes atomic.Int32
		a := newAnswers()
		a.do(func() ([]string, error) {
			switch changes.Add(1) % 5 {
			case 1:
				return nil, errors.New("down")
			case 2:
				return nil, nil
			}
			var some []string
			for _, i := range rand.Perm(len(addresses))[:1+rand.IntN(len(addresses))] {
				some = append(some, addresses[i])
			}
			return some, nil
		})
		base := &http.Transport{MaxIdleConnsPerHost: 10}
		if http2 {
			base.Protocols = new(http.Protocols)
			base.Protocols.SetUnencryptedHTTP2(true)
		}
		e := choose(t, base, a.resolve)
		e.Every = time.Millisecond
		eventually(t, "the first resolution", func() bool {
			_, err := roundTrip(t, e, "GET", "http://service", "")
			return err == nil
		})
		client := &http.Client{Transport: &httpmw.Transport{Base: e, Policy: stack.Client("service")}}
		hammer(t, 8, 100, func(i int) {
			var resp *http.Response
			var err error
			if i%2 == 0 {
				resp, err = client.Get("http://service/")
			} else {
				resp, err = client.Post("http://service/", "text/plain", strings.NewReader("content"))
			}
			if err != nil {
				t.Error(err)
				return
			}
			switch i % 3 {
			case 0:
				io.Copy(io.Discard, resp.Body)
			case 1:
				resp.Body.Close()
			default:
				readAndClose(resp)
			}
		})
		if n := changes.Load(); n < 10 {
			t.Errorf("the addresses changed only %d times", n)
		}
		if n := inFlight(e); n != 0 {
			t.Errorf("%d in flight", n)
		}
		for _, r := range all {
			eventually(t, "all connections are closed", func() bool {
				e.CloseIdleConnections() // to the last addresses, when they are idle
				return r.open.Load() == 0
			})
		}
	}
}

// Under load, one of three replicas that refuses, breaks off, fails or restarts costs a client
// with the default policies hardly a call.
func TestEndpoints_oneOfThree(t *testing.T) {
	for name, fault := range map[string]func(w http.ResponseWriter, r *http.Request){
		"503":    status(503),
		"breaks": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"closes": nil,
	} {
		all := serveReplicas(t, 3)
		e := choose(t, nil, fixed(all.addresses()...))
		client := &httpmw.Transport{Base: e, Policy: stack.Client("service")}
		var calls, failed atomic.Int32
		load := func() {
			hammer(t, 4, 50, func(int) {
				calls.Add(1)
				resp, err := client.RoundTrip(newRequest(t, "GET", "http://service", nil))
				if err != nil || resp.StatusCode != 200 {
					failed.Add(1)
				}
				if err == nil {
					resp.Body.Close()
				}
			})
		}
		load()
		if fault != nil {
			all[0].handle(fault)
		} else {
			all[0].Close()
		}
		load()
		// Four calls at a time bring up to seven attempts to the replica before its four
		// failures in a row are counted. The budget of a new client pays for four retries.
		if n := failed.Load(); n > 3 {
			t.Errorf("%s: %d of %d calls failed", name, n, calls.Load())
		}
		if n := inFlight(e); n != 0 {
			t.Errorf("%s: %d in flight", name, n)
		}
		e.CloseIdleConnections()
	}
}

// Endpoints that are no longer used leave no goroutine, whatever their hosts and addresses
// were.
func TestEndpoints_goroutines(t *testing.T) {
	one := serveReplicas(t, 1)[0]
	before := runtime.NumGoroutine()
	for range 20 {
		a := newAnswers(one.address(), refusing(t))
		e := &httpmw.Endpoints{Base: &http.Transport{}, Resolve: a.resolve, Every: time.Millisecond, Max: 3}
		for i := range 10 {
			fetch(t, e, "http://host-"+strings.Repeat("x", i))
		}
		e.CloseIdleConnections()
	}
	eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before+2 })
}
