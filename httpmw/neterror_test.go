package httpmw_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/timeout"
)

// wantTimeout reports an error that is not a timeout in each of the ways in which programs
// ask for one.
func wantTimeout(t *testing.T, what string, err error) {
	t.Helper()
	asserted, ok := err.(net.Error)
	if !ok || !asserted.Timeout() {
		t.Errorf("%s: asserted: %T %v is no timeout", what, err, err)
	}
	if temporary, ok := err.(interface{ Temporary() bool }); !ok || !temporary.Temporary() {
		t.Errorf("%s: %v is not temporary, as the timeouts of net/http are", what, err)
	}
	if found, ok := errors.AsType[net.Error](err); !ok || !found.Timeout() {
		t.Errorf("%s: found: %v is no timeout", what, err)
	}
	if !os.IsTimeout(err) {
		t.Errorf("%s: os.IsTimeout: %v is no timeout", what, err)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: %v is not context.DeadlineExceeded", what, err)
	}
}

// A timeout is a net.Error, with and without http.Client.
func TestTransport_timeoutIsNetError(t *testing.T) {
	serveStill(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}, func(t *testing.T, url string, base *http.Transport) {
		for name, policy := range map[string]resilience.Policy{
			"timeout":            newTimeout(time.Second, resilience.Answered),
			"timeout to the end": newTimeout(time.Second, resilience.Ended),
			"retry":              resilience.Compose(newRetry(), newTimeout(time.Second, resilience.Answered)),
			"deadline":           slowly(time.Second),
			"deadline of caller": resilience.Compose(newRetry()),
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			tr := &httpmw.Transport{Base: base, Policy: policy}
			_, err := tr.RoundTrip(newRequest(t, "GET", url, nil).WithContext(ctx))
			wantTimeout(t, name, err)
			_, err = (&http.Client{Transport: tr}).Do(newRequest(t, "GET", url, nil).WithContext(ctx))
			wantTimeout(t, name+", client", err)
			cancel()
		}
	})
}

// A body that breaks off after a timeout ends with a net.Error.
func TestTransport_bodyTimeoutIsNetError(t *testing.T) {
	serveStill(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}, func(t *testing.T, url string, base *http.Transport) {
		tr := &httpmw.Transport{Base: base, Policy: newTimeout(time.Second, resilience.Ended)}
		for name, rt := range map[string]http.RoundTripper{
			"direct": tr,
			"client": roundTripper(func(r *http.Request) (*http.Response, error) { return (&http.Client{Transport: tr}).Do(r) }),
		} {
			resp, err := rt.RoundTrip(newRequest(t, "GET", url, nil))
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(resp.Body)
			wantTimeout(t, name, err)
			if late, ok := errors.AsType[*timeout.Error](err); !ok || late.Name != "test" {
				t.Errorf("%s: %v is no timeout.Error", name, err)
			}
			resp.Body.Close()
		}
	})
}

// An error that is no timeout does not become one.
func TestTransport_otherErrorIsNoTimeout(t *testing.T) {
	for name, policy := range map[string]resilience.Policy{"alone": resilience.Compose(), "retry": newRetry()} {
		base := roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") })
		_, err := (&http.Client{Transport: &httpmw.Transport{Base: base, Policy: policy}}).Do(newRequest(t, "GET", "http://x", nil))
		if late, ok := err.(net.Error); !ok || late.Timeout() {
			t.Errorf("%s: %v is a timeout", name, err)
		}
	}
}

// The error for the policies says "in time" only if the deadline of the attempt passed.
func TestTransport_textOfLateAttempt(t *testing.T) {
	passed, cancel := context.WithCancelCause(t.Context())
	cancel(errLimit)
	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(nil)
	for name, test := range map[string]struct {
		ctx  context.Context
		err  error
		want string
	}{
		"deadline of the attempt": {passed, context.Canceled, "no response in time"},
		"deadline of Base":        {t.Context(), context.DeadlineExceeded, "context deadline exceeded"},
		"canceled":                {canceled, context.Canceled, "context canceled"},
		"more than the deadline":  {passed, fmt.Errorf("read: %w", errors.Join(context.Canceled, errLimit)), "read: context canceled\nlimit"},
	} {
		text := ""
		policy := testkit.Policy(func(_ context.Context, next resilience.Next) error {
			err := next.Run(test.ctx)
			text = err.Error()
			return err
		})
		base := roundTripper(func(*http.Request) (*http.Response, error) { return nil, test.err })
		if _, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(newRequest(t, "GET", "http://x", nil)); err == nil || text != test.want {
			t.Errorf("%s: the policy saw %q", name, text)
		}
	}
}
