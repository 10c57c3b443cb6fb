package httpmw_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// pooled is a client with one connection to a server whose time stands still.
type pooled struct {
	base  *http.Transport
	hangs atomic.Bool // whether dials hang
}

func newPooled(t *testing.T) *pooled {
	t.Helper()
	l := testkit.NewListener()
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		if r.URL.Path == "/download" {
			<-r.Context().Done()
		}
	})}
	go s.Serve(l)
	p, closed := &pooled{}, make(chan struct{})
	p.base = &http.Transport{MaxConnsPerHost: 1, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if p.hangs.Load() {
			select {
			case <-closed:
			case <-time.After(time.Hour):
			}
			return nil, errors.New("hung")
		}
		return l.Dial(ctx)
	}}
	t.Cleanup(func() {
		close(closed)
		p.base.CloseIdleConnections()
		s.Close()
	})
	return p
}

// hold makes a response hold the connection and returns a function that releases it.
func (p *pooled) hold(t *testing.T) (release func()) {
	t.Helper()
	resp, err := p.base.RoundTrip(newRequest(t, "GET", "http://example.test/download", nil))
	if err != nil {
		t.Fatal(err)
	}
	return func() { resp.Body.Close() }
}

// send sends a request that has one second, by the timeout of an attempt or by the
// caller's deadline, and returns the outcome as a breaker sees it.
func (p *pooled) send(t *testing.T, tr *httpmw.Transport, method string, byDeadline bool) (outcome resilience.Outcome, err error) {
	t.Helper()
	ctx, limit := t.Context(), resilience.Policy(newTimeout(time.Second, resilience.Answered))
	if byDeadline {
		deadline, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		ctx, limit = deadline, resilience.Compose()
	}
	tr.Policy = resilience.Compose(judging(&outcome), limit)
	resp, err := tr.RoundTrip(newRequest(t, method, "http://example.test", strings.NewReader("content")).WithContext(ctx))
	if err == nil {
		resp.Body.Close()
	}
	return outcome, err
}

// A wait for a connection of a full pool is no evidence about the server, whatever ends it.
func TestTransport_poolWaitIsIgnored(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		for _, byDeadline := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				p := newPooled(t)
				release := p.hold(t)
				tr := &httpmw.Transport{Base: p.base}
				outcome, err := p.send(t, tr, method, byDeadline)
				if outcome != resilience.Ignored || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s, deadline %v: counted as a %v, error %v", method, byDeadline, outcome, err)
				}
				release()
				if outcome, err = p.send(t, tr, method, byDeadline); err != nil {
					t.Errorf("%s, deadline %v, free: counted as a %v, error %v", method, byDeadline, outcome, err)
				}
			})
		}
	}
}

// A wait for a full pool is ignored if the caller has hooks of its own, which are called.
func TestTransport_poolWaitWithHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPooled(t)
		defer p.hold(t)()
		wanted := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GetConn: func(string) { wanted++ }})
		hooked := testkit.Policy(func(_ context.Context, next resilience.Next) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return next.Run(ctx)
		})
		var outcome resilience.Outcome
		tr := &httpmw.Transport{Base: p.base, Policy: resilience.Compose(judging(&outcome), hooked)}
		if _, err := tr.RoundTrip(newRequest(t, "GET", "http://example.test", nil)); outcome != resilience.Ignored || wanted != 1 {
			t.Errorf("counted as a %v, the hook was called %d times, error %v", outcome, wanted, err)
		}
	})
}

// A request that waited for a full pool is not retried, as after a wait for a bulkhead: it
// would wait for the same connections.
func TestTransport_poolWaitIsNotRetried(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		synctest.Test(t, func(t *testing.T) {
			p := newPooled(t)
			defer p.hold(t)()
			begin := time.Now()
			tr := &httpmw.Transport{Base: p.base, Policy: resilience.Compose(again(3), slowly(time.Second))}
			_, err := tr.RoundTrip(newRequest(t, method, "http://example.test", strings.NewReader("content")))
			if took := time.Since(begin); took != time.Second || err == nil || err.Error() != "no free connection in time" {
				t.Errorf("%s: took %v, error %v", method, took, err)
			}
		})
	}
}

// slowly is a timeout that adds nothing to the error of an attempt.
func slowly(d time.Duration) testkit.Policy {
	return func(ctx context.Context, next resilience.Next) error {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		if err := next.Run(ctx); err != nil {
			return fmt.Errorf("%w", err)
		}
		return nil
	}
}

// A dial that hangs is a failure, and so is a wait for a pool that is full of such dials.
func TestTransport_hangingDialIsFailure(t *testing.T) {
	for _, byDeadline := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newPooled(t)
			p.hangs.Store(true)
			tr := &httpmw.Transport{Base: p.base}
			for i := range 3 { // the first one dials, and the others wait for it
				if outcome, err := p.send(t, tr, "GET", byDeadline); outcome != resilience.Failure || err == nil {
					t.Errorf("deadline %v, call %d: counted as a %v, error %v", byDeadline, i+1, outcome, err)
				}
			}
			time.Sleep(time.Hour)
			p.hangs.Store(false)
			if outcome, err := p.send(t, tr, "GET", byDeadline); err != nil {
				t.Errorf("counted as a %v, error %v", outcome, err)
			}
			defer p.hold(t)()
			if outcome, err := p.send(t, tr, "GET", byDeadline); outcome != resilience.Ignored {
				t.Errorf("after a connection was made: counted as a %v, error %v", outcome, err)
			}
		})
	}
}

// A dial that the caller cancels does not make waits for the pool count as failures.
func TestTransport_canceledDialIsNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPooled(t)
		p.hangs.Store(true)
		tr := &httpmw.Transport{Base: p.base, Policy: resilience.Compose()}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := tr.RoundTrip(newRequest(t, "GET", "http://example.test", nil).WithContext(ctx)); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if outcome, err := p.send(t, tr, "GET", false); outcome != resilience.Ignored {
			t.Errorf("counted as a %v, error %v", outcome, err)
		}
	})
}

// A dial that hangs is a failure of its host only.
func TestTransport_hangingDialOfOtherHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPooled(t)
		defer p.hold(t)()
		p.hangs.Store(true)
		tr := &httpmw.Transport{Base: p.base, Policy: newTimeout(time.Second, resilience.Answered)}
		if _, err := tr.RoundTrip(newRequest(t, "GET", "http://other.test", nil)); err == nil {
			t.Fatal("no error")
		}
		if outcome, err := p.send(t, tr, "GET", false); outcome != resilience.Ignored {
			t.Errorf("counted as a %v, error %v", outcome, err)
		}
	})
}

// A server that does not answer on the connection is a failure.
func TestTransport_hangingServerIsFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := testkit.NewListener()
		go func() {
			for {
				if _, err := l.Accept(); err != nil {
					return
				}
			}
		}()
		defer l.Close()
		base := &http.Transport{MaxConnsPerHost: 1, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.Dial(ctx) }}
		defer base.CloseIdleConnections()
		if outcome, err := (&pooled{}).send(t, &httpmw.Transport{Base: base}, "GET", false); outcome != resilience.Failure {
			t.Errorf("counted as a %v, error %v", outcome, err)
		}
	})
}

// A Transport sees the pool of its Base, and not the pool of a transport inside another.
func TestTransport_poolWaitInsideOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPooled(t)
		defer p.hold(t)()
		tr := &httpmw.Transport{Base: roundTripper(p.base.RoundTrip)}
		for _, method := range []string{"GET", "POST"} {
			if outcome, err := p.send(t, tr, method, false); outcome != resilience.Failure {
				t.Errorf("%s: counted as a %v, error %v", method, outcome, err)
			}
		}
	})
}

// A request without a URL is an error, also if connections are bounded.
func TestTransport_noURLWithBoundedConns(t *testing.T) {
	req := newRequest(t, "GET", "http://x", nil)
	req.URL = nil
	tr := &httpmw.Transport{Base: &http.Transport{MaxConnsPerHost: 1}, Policy: resilience.Compose()}
	if _, err := tr.RoundTrip(req); err == nil {
		t.Error("no error")
	}
}
