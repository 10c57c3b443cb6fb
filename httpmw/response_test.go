package httpmw_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// A response of Base may have a nil body.
func TestTransport_responseWithoutBody(t *testing.T) {
	noBody := roundTripper(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 200}, nil })
	resp, err := (&httpmw.Transport{Base: noBody, Policy: newSlots(resilience.Ended)}).RoundTrip(newRequest(t, "GET", "http://x", nil))
	if err != nil || resp.Body != nil {
		t.Errorf("response %v, error %v", resp, err)
	}
}

// The context of an attempt lives until the body is closed.
func TestTransport_contextLivesWithBody(t *testing.T) {
	proceed := make(chan struct{})
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-proceed
		io.WriteString(w, "body")
	}, func(t *testing.T, url string, base *http.Transport) {
		// The policy cancels its context when the operation has ended.
		var attempt context.Context
		policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			ctx, cancel := context.WithCancel(ctx)
			attempt = ctx
			err := resilience.ErrAborted
			defer func() { next.Settle(resilience.Ended, err, cancelFunc(cancel), 0) }()
			err = next.Run(ctx)
			return err
		})
		for _, toTheEnd := range []bool{true, false} {
			resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(newRequest(t, "GET", url, nil))
			if err != nil {
				t.Fatal(err)
			}
			proceed <- struct{}{}
			if attempt.Err() != nil {
				t.Error("the context ended before the body")
			}
			if toTheEnd {
				if b, err := io.ReadAll(resp.Body); string(b) != "body" || err != nil {
					t.Errorf("got %q and %v", b, err)
				}
			} else {
				resp.Body.Close()
			}
			if attempt.Err() == nil {
				t.Error("the context lives on")
			}
			resp.Body.Close()
		}
	})
}

type cancelFunc context.CancelFunc

func (f cancelFunc) Settle(uint64, error) { f() }

// Trailers of a response arrive.
func TestTransport_trailers(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		io.WriteString(w, "body")
		w.Header().Set("Sum", "4")
	}, func(t *testing.T, url string, base *http.Transport) {
		resp, err := (&httpmw.Transport{Base: base, Policy: newSlots(resilience.Ended)}).RoundTrip(newRequest(t, "GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); got != "body" || resp.Trailer.Get("Sum") != "4" {
			t.Errorf("body %q, trailer %v", got, resp.Trailer)
		}
	})
}

// The body of a response with status 101 is an io.ReadWriteCloser.
func TestTransport_upgradeBodyIsWriter(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		echo(rw)
		_, _ = io.Copy(io.Discard, rw) // to the end that CloseWrite makes
	}))
	defer s.Close()
	sl := newSlots(resilience.Ended)
	for _, policy := range []resilience.Policy{pass, sl} {
		resp, err := (&httpmw.Transport{Base: s.Client().Transport, Policy: policy}).RoundTrip(upgrade(t, s.URL))
		if err != nil {
			t.Fatal(err)
		}
		rwc, ok := resp.Body.(io.ReadWriteCloser)
		if !ok {
			t.Fatalf("the body is a %T", resp.Body)
		}
		io.WriteString(rwc, "hello\n")
		r := bufio.NewReader(rwc)
		if line, err := r.ReadString('\n'); line != "hello\n" || err != nil {
			t.Errorf("got %q and %v", line, err)
		}
		if policy == resilience.Policy(sl) && sl.held.Load() != 1 {
			t.Error("the slot is free while the connection is in use")
		}
		if err := rwc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
		rwc.Close()
		if sl.held.Load() != 0 {
			t.Error("the slot is held")
		}
	}
}

// The body is the one of Base if no policy waits for its end.
func TestTransport_keepsBodyIfNotHeld(t *testing.T) {
	b := &body{Reader: strings.NewReader("body")}
	base := roundTripper(func(*http.Request) (*http.Response, error) {
		resp := response(200, "")
		resp.Body = b
		return resp, nil
	})
	for _, policy := range []resilience.Policy{resilience.Compose(), pass, newSlots(resilience.Answered)} {
		resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(newRequest(t, "GET", "http://x", nil))
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body != io.ReadCloser(b) {
			t.Errorf("the body is a %T", resp.Body)
		}
	}
}

type failing struct{ err error }

func (r *failing) Read([]byte) (int, error) { return 0, r.err }

// During the backoff, no slot is held.
func TestTransport_backoffHoldsNoSlot(t *testing.T) {
	s := newSlots(resilience.Ended)
	waiting := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		_ = next.Run(ctx)
		if s.held.Load() != 1 {
			t.Error("the slot was free before")
		}
		next.Discard()
		if s.held.Load() != 0 {
			t.Error("the slot is held during the backoff")
		}
		return next.Run(resilience.WithAttempt(ctx, 2))
	})
	resp, err := (&httpmw.Transport{Base: answer(503, 200), Policy: resilience.Compose(waiting, s)}).RoundTrip(newRequest(t, "GET", "http://x", nil))
	if err != nil {
		t.Fatal(err)
	}
	if s.held.Load() != 1 {
		t.Error("the slot of the response is free before its body is closed")
	}
	resp.Body.Close()
	if s.held.Load() != 0 || len(s.settled) != 2 {
		t.Errorf("settled %d times", len(s.settled))
	}
}

// The outcome of a response is StatusOutcome's, or Classify's.
func TestTransport_classify(t *testing.T) {
	for code := 200; code < 600; code++ {
		want := resilience.Success
		if code >= 500 && code != 501 && code != 505 {
			want = resilience.Failure
		}
		for _, method := range []string{"GET", "POST"} {
			if got := judge(t, &httpmw.Transport{Base: answer(code)}, newRequest(t, method, "http://x", nil)); got != want {
				t.Errorf("%s, %d: %v", method, code, got)
			}
		}
	}
	for _, want := range []resilience.Outcome{resilience.Success, resilience.Failure, resilience.Ignored} {
		tr := &httpmw.Transport{Base: answer(404), Classify: func(*http.Response) resilience.Outcome { return want }}
		if got := judge(t, tr, newRequest(t, "GET", "http://x", nil)); got != want {
			t.Errorf("Status said %v: %v", want, got)
		}
	}
	boom := roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("boom") })
	if got := judge(t, &httpmw.Transport{Base: boom}, newRequest(t, "GET", "http://x", nil)); got != resilience.Failure {
		t.Errorf("error of Base: %v", got)
	}
}

// A cancel by the caller is not a failure.
func TestTransport_cancelIsIgnored(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // or the client may see a response
	}, func(t *testing.T, url string, base *http.Transport) {
		for cause, want := range map[error]resilience.Outcome{
			nil: resilience.Ignored, context.DeadlineExceeded: resilience.Ignored,
			testkit.TimedOut{Err: context.DeadlineExceeded}: resilience.Failure,
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			tr := &httpmw.Transport{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				go cancel(cause)
				return base.RoundTrip(r)
			})}
			if got := judge(t, tr, newRequest(t, "GET", url, nil).WithContext(ctx)); got != want {
				t.Errorf("canceled because of %v: %v", cause, got)
			}
		}
	})
}

// errors.Is finds a rejection through http.Client.
func TestTransport_rejectionThroughClient(t *testing.T) {
	client := &http.Client{Transport: &httpmw.Transport{Base: answer(200), Policy: after(0)}}
	_, err := client.Get("http://x")
	if !errors.Is(err, resilience.ErrRejected) || !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("got %v", err)
	}
}

// limitError is an error that is a deadline by its Is method.
type limitError struct{ error }

func (limitError) Is(target error) bool { return target == context.DeadlineExceeded }
func (limitError) Timeout() bool        { return true }

var errLimit = testkit.TimedOut{Err: limitError{errors.New("limit")}}

// cutOff is a policy that ends its context with a cause, without a deadline that
// the transport could see.
func cutOff(d time.Duration) testkit.Policy {
	return func(ctx context.Context, next resilience.Next) (err error) {
		ctx, cancel := context.WithCancelCause(ctx)
		timer := time.AfterFunc(d, func() { cancel(errLimit) })
		defer func() {
			next.Settle(resilience.Ended, err, cancelFunc(func() { timer.Stop(); cancel(nil) }), 0)
		}()
		return next.Run(ctx)
	}
}

// An attempt timeout is a timeout.Error over both protocols.
func TestTransport_attemptTimeoutError(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // or the client may see a proper end of the body
	}, func(t *testing.T, base string, tr *http.Transport) {
		silent := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			err := next.Run(ctx)
			if err != nil {
				return fmt.Errorf("wrapped: %w", err) // without a method Timeout
			}
			return nil
		})
		client := &http.Client{Transport: &httpmw.Transport{Base: tr, Policy: resilience.Compose(silent, cutOff(20*time.Millisecond))}}
		_, err := client.Get(base)
		ue, ok := errors.AsType[*url.Error](err)
		if !ok || !ue.Timeout() || !errors.Is(err, errLimit) {
			t.Errorf("got %v", err)
		}
		s := newSlots(resilience.Ended)
		var end context.CancelCauseFunc
		client.Transport.(*httpmw.Transport).Policy = resilience.Compose(s, testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			ctx, end = context.WithCancelCause(ctx)
			return next.Run(ctx)
		}))
		resp, err := client.Get(base + "/body")
		if err != nil {
			t.Fatal(err)
		}
		end(errLimit)
		_, err = io.ReadAll(resp.Body)
		if !errors.Is(err, errLimit) {
			t.Errorf("the body ended with %v", err)
		}
		resp.Body.Close()
		if err := <-s.settled; !errors.Is(err, errLimit) {
			t.Errorf("settled with %v", err)
		}
	})
}

// CloseIdleConnections calls Base's method if it has one.
func TestTransport_closeIdleConnections(t *testing.T) {
	b := &closer{}
	(&http.Client{Transport: &httpmw.Transport{Base: b}}).CloseIdleConnections()
	if b.n != 1 {
		t.Error("it did not")
	}
	(&http.Client{Transport: &httpmw.Transport{Base: answer(200)}}).CloseIdleConnections()
}

type closer struct {
	http.RoundTripper
	n int
}

func (c *closer) CloseIdleConnections() { c.n++ }

// A nil Base is http.DefaultTransport.
func TestTransport_nilBase(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "body") }))
	defer s.Close()
	client := &http.Client{Transport: &httpmw.Transport{Policy: resilience.Compose()}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if read(t, resp) != "body" {
		t.Error("another body")
	}
}

// If a policy returns neither an error nor a response, RoundTrip returns an error.
func TestTransport_policyWithoutResponse(t *testing.T) {
	policy := testkit.Policy(func(context.Context, resilience.Next) error { return nil })
	resp, err := (&httpmw.Transport{Base: answer(200), Policy: policy}).RoundTrip(newRequest(t, "GET", "http://x", nil))
	if resp != nil || err == nil {
		t.Errorf("response %v, error %v", resp, err)
	}
	boom := errors.New("boom")
	light := testkit.Policy(func(ctx context.Context, next resilience.Next) error { _ = next.Run(ctx); return nil })
	failing := roundTripper(func(*http.Request) (*http.Response, error) { return nil, boom })
	if _, err := (&httpmw.Transport{Base: failing, Policy: light}).RoundTrip(newRequest(t, "GET", "http://x", nil)); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}

// Classify is called for each response, also for one that looks good.
func TestTransport_classifiesGoodResponse(t *testing.T) {
	for _, code := range []int{200, 304, 400} {
		tr := &httpmw.Transport{Base: answer(code), Classify: func(*http.Response) resilience.Outcome { return resilience.Failure }}
		if outcome := judge(t, tr, newRequest(t, "GET", "http://x", nil)); outcome != resilience.Failure {
			t.Errorf("%d: counted as a %v", code, outcome)
		}
	}
}

// A response that asks for a wait is an error for the policies, also if it is not retried,
// so that they see the wait.
func TestTransport_unsafeRequestKeepsWait(t *testing.T) {
	base := roundTripper(func(*http.Request) (*http.Response, error) {
		resp := response(429, "")
		resp.Header.Set("Retry-After", "7")
		return resp, nil
	})
	policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		err := next.Run(ctx)
		status, ok := errors.AsType[*httpmw.StatusError](err)
		if !ok || status.RetryAfter() != 7*time.Second || status.Retryable() || status.Outcome() != resilience.Success {
			t.Errorf("the policy got %v", err)
		}
		return err
	})
	resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(newRequest(t, "POST", "http://x", nil))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// A response that the caller does not get because of a policy is still a success.
func TestTransport_abandonedResponseIsSuccess(t *testing.T) {
	s := newSlots(resilience.Ended)
	failing := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		_ = next.Run(ctx)
		return errors.New("boom")
	})
	if _, err := (&httpmw.Transport{Base: answer(200), Policy: resilience.Compose(failing, s)}).RoundTrip(newRequest(t, "GET", "http://x", nil)); err == nil {
		t.Error("no error")
	}
	if err := <-s.settled; err != nil {
		t.Errorf("settled with %v", err)
	}
}

// alike is an error around another that is a third one as well.
type alike struct {
	error
	also error
}

func (a alike) Unwrap() error        { return a.error }
func (a alike) Is(target error) bool { return target == a.also }

// several errors, as errors.Join makes them of none.
type joined []error

func (j joined) Error() string   { return "joined" }
func (j joined) Unwrap() []error { return j }

// The caller gets the error and not the response if the error says more.
func TestTransport_errorThatSaysMore(t *testing.T) {
	for name, wrap := range map[string]func(error) error{
		"deadline": func(err error) error { return alike{err, context.DeadlineExceeded} },
		"canceled": func(err error) error { return alike{err, context.Canceled} },
		"nothing":  func(error) error { return joined{} },
	} {
		policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error { return wrap(next.Run(ctx)) })
		if resp, err := (&httpmw.Transport{Base: answer(503), Policy: policy}).RoundTrip(newRequest(t, "GET", "http://x", nil)); err == nil {
			t.Errorf("%s: got %v", name, resp)
		}
	}
}
