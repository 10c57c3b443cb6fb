package httpmw_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// cancelable returns a request and a function that closes its Cancel.
func cancelable(t *testing.T, url string) (*http.Request, func()) {
	t.Helper()
	c := make(chan struct{})
	req := newRequest(t, "GET", url, nil)
	req.Cancel = c //lint:ignore SA1019 older callers cancel with it, and net/http obeys it
	return req, func() { close(c) }
}

// A request that its caller cancels with Request.Cancel is ignored and not retried.
func TestTransport_requestCancelIsIgnored(t *testing.T) {
	arrived := make(chan struct{}, 3)
	serve(t, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	}, func(t *testing.T, url string, base *http.Transport) {
		req, cancel := cancelable(t, url)
		go func() {
			<-arrived
			cancel()
		}()
		n, outcome, err := attempt(t, base, req)
		if n != 1 || outcome != resilience.Ignored || err == nil || err.Error() != "net/http: request canceled" {
			t.Errorf("%d attempts, counted as a %v, error %v", n, outcome, err)
		}
	})
}

// A request that its caller has canceled is not sent again.
func TestTransport_requestCancelEndsRetries(t *testing.T) {
	for _, policy := range []resilience.Policy{again(3), stubborn(3)} {
		req, cancel := cancelable(t, "http://x")
		n := 0
		base := roundTripper(func(*http.Request) (*http.Response, error) {
			if n++; n == 1 {
				cancel()
			}
			return response(503, "busy"), nil
		})
		resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); n != 1 || got != "busy" {
			t.Errorf("%d attempts, body %q", n, got)
		}
	}
}

// A response that its caller cuts off with Request.Cancel is ignored.
func TestTransport_requestCancelOfBody(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // or the response may end properly
	}, func(t *testing.T, url string, base *http.Transport) {
		req, cancel := cancelable(t, url)
		s := newSlots(resilience.Ended)
		resp, err := (&httpmw.Transport{Base: base, Policy: s}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		cancel()
		_, err = io.ReadAll(resp.Body)
		settled := <-s.settled
		if outcome := resilience.OutcomeOf(t.Context(), settled, nil); err == nil || outcome != resilience.Ignored {
			t.Errorf("counted as a %v, error %v", outcome, err)
		}
	})
}

// behind is a context that is not done yet although its deadline has passed.
type behind struct{ context.Context }

func (behind) Deadline() (time.Time, bool) { return time.Now().Add(-time.Nanosecond), true }

// http.Client.Timeout closes Request.Cancel, and may do so before the context is done. It
// is a deadline and not a cancellation.
func TestTransport_clientTimeoutIsNoCancel(t *testing.T) {
	req, cancel := cancelable(t, "http://x")
	cancel()
	base := roundTripper(func(*http.Request) (*http.Response, error) {
		return nil, errors.New("net/http: request canceled")
	})
	if _, outcome, _ := attempt(t, base, req.WithContext(behind{t.Context()})); outcome != resilience.Failure {
		t.Errorf("counted as a %v", outcome)
	}
	serveStill(t, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	}, func(t *testing.T, url string, base *http.Transport) {
		b := newBreaker(9)
		client := &http.Client{Transport: &httpmw.Transport{Base: base, Policy: b}, Timeout: time.Second}
		if _, err := client.Do(newRequest(t, "GET", url, nil)); err == nil || b.Stats().Failures != 1 {
			t.Errorf("counted %d failures, error %v", b.Stats().Failures, err)
		}
	})
}

// A deadline that is still to come does not make a closed Cancel a timeout.
func TestTransport_requestCancelBeforeDeadline(t *testing.T) {
	req, cancel := cancelable(t, "http://x")
	cancel()
	ctx, stop := context.WithTimeout(t.Context(), time.Hour)
	defer stop()
	base := roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("net/http: request canceled") })
	if n, outcome, _ := attempt(t, base, req.WithContext(ctx)); n != 1 || outcome != resilience.Ignored {
		t.Errorf("%d attempts, counted as a %v", n, outcome)
	}
}

// A body that was read to its end is a success, whatever the caller closes then.
func TestTransport_requestCancelAfterBody(t *testing.T) {
	req, cancel := cancelable(t, "http://x")
	cancel()
	s := newSlots(resilience.Ended)
	discarding := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		_ = next.Run(ctx)
		next.Discard()
		return errors.New("discarded")
	})
	if _, err := (&httpmw.Transport{Base: answer(200), Policy: resilience.Compose(discarding, s)}).RoundTrip(req); err == nil {
		t.Error("no error")
	}
	if err := <-s.settled; err != nil {
		t.Errorf("settled with %v", err)
	}
}
