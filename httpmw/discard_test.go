package httpmw_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// If all attempts end with 503, the caller gets the last response.
func TestTransport_exhaustedReturnsLastResponse(t *testing.T) {
	var n atomic.Int32
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("A", "b")
		w.WriteHeader(503)
		fmt.Fprintf(w, "answer %d", n.Add(1))
	}, func(t *testing.T, url string, base *http.Transport) {
		n.Store(0)
		wrap := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			if err := next.Run(ctx); err != nil {
				return fmt.Errorf("gave up: %w", errors.Join(err))
			}
			return nil
		})
		client := &http.Client{Transport: &httpmw.Transport{Base: base, Policy: resilience.Compose(wrap, again(3))}}
		resp, err := client.Do(newRequest(t, "GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); resp.StatusCode != 503 || got != "answer 3" || resp.Header.Get("A") != "b" {
			t.Errorf("got %d %q", resp.StatusCode, got)
		}
	})
}

// A failed response that is not retried is returned as it is.
func TestTransport_failureWithoutRetryIsReturned(t *testing.T) {
	for _, code := range []int{500, 501, 404, 429} {
		resp, err := (&httpmw.Transport{Base: answer(code), Policy: again(3)}).RoundTrip(newRequest(t, "POST", "http://x", nil))
		if err != nil || resp.StatusCode != code || read(t, resp) != "body" {
			t.Errorf("%d: error %v", code, err)
		}
	}
}

// A response before a retry is drained, so that its connection is used again.
func TestTransport_drainReusesConnection(t *testing.T) {
	attempts := 0
	serveStill(t, func(w http.ResponseWriter, r *http.Request) {
		if attempts++; attempts%3 != 0 {
			w.WriteHeader(503)
			w.Write(bytes.Repeat([]byte("x"), 60<<10))
		}
	}, func(t *testing.T, url string, base *http.Transport) {
		attempts = 0
		var reused []bool
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(c httptrace.GotConnInfo) { reused = append(reused, c.Reused) },
		})
		policy := resilience.Compose(newRetry(), newTimeout(time.Minute, resilience.Ended))
		resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(newRequest(t, "GET", url, nil).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp)
		if attempts != 3 || !slices.Equal(reused, []bool{false, true, true}) {
			t.Errorf("%d attempts on connections that were used before: %v", attempts, reused)
		}
	})
}

// endless is a body that never ends: it blocks, or it dribbles.
type endless struct {
	pause  time.Duration // 0 blocks
	closed chan struct{}
	read   atomic.Int64
	closes atomic.Int32
}

func (b *endless) Read(p []byte) (int, error) {
	var tick <-chan time.Time
	if b.pause > 0 {
		tick = time.After(b.pause)
	}
	select {
	case <-tick:
		b.read.Add(1)
		p[0] = 'x'
		return 1, nil
	case <-b.closed:
		return 0, errors.New("read on a closed body")
	}
}

func (b *endless) Close() error {
	if b.closes.Add(1) == 1 {
		close(b.closed)
	}
	return nil
}

// Draining a response takes at most a bounded time.
func TestTransport_drainIsBoundedInTime(t *testing.T) {
	for name, pause := range map[string]time.Duration{"blocks": 0, "dribbles": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &endless{pause: pause, closed: make(chan struct{})}
				n := 0
				base := roundTripper(func(r *http.Request) (*http.Response, error) {
					if n++; n > 1 {
						return response(200, ""), nil
					}
					resp := response(503, "")
					resp.Body, resp.ContentLength = b, -1
					return resp, nil
				})
				s := newSlots(resilience.Ended)
				start := time.Now()
				resp, err := (&httpmw.Transport{Base: base, Policy: resilience.Compose(again(2), s)}).RoundTrip(newRequest(t, "GET", "http://x", nil))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if took := time.Since(start); took != 50*time.Millisecond {
					t.Errorf("took %v", took)
				}
				if b.closes.Load() != 1 {
					t.Errorf("the body was closed %d times", b.closes.Load())
				}
				if _, ok := errors.AsType[*httpmw.StatusError](<-s.settled); !ok {
					t.Error("the policy did not get its own verdict")
				}
			})
		})
	}
}

// Draining a body that hangs leaves no goroutine behind.
func TestTransport_drainOfHangingBody(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Retry-Attempt") != "" {
			return
		}
		w.WriteHeader(503)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}, func(t *testing.T, url string, base *http.Transport) {
		resp, err := (&httpmw.Transport{Base: base, Policy: again(2)}).RoundTrip(newRequest(t, "GET", url, nil))
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("response %v, error %v", resp, err)
		}
		resp.Body.Close()
	})
}

// Draining reads at most 64 KiB.
func TestTransport_drainIsBoundedInBytes(t *testing.T) {
	for _, known := range []bool{true, false} {
		var b *bounded
		base := roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("Retry-Attempt") != "" {
				return response(200, ""), nil
			}
			b = &bounded{left: 1 << 20}
			resp := response(503, "")
			resp.Body, resp.ContentLength = b, -1
			if known {
				resp.ContentLength = 1 << 20
			}
			return resp, nil
		})
		resp, err := (&httpmw.Transport{Base: base, Policy: again(2)}).RoundTrip(newRequest(t, "GET", "http://x", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if b.read > 64<<10+1 || known && b.read > 0 || b.closed != 1 {
			t.Errorf("length known %v: read %d bytes, closed %d times", known, b.read, b.closed)
		}
	}
}

type bounded struct{ left, read, closed int }

func (b *bounded) Read(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left, b.read = b.left-n, b.read+n
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (b *bounded) Close() error { b.closed++; return nil }

// A drained response is returned if the next attempt is rejected.
func TestTransport_keepsDrainedResponse(t *testing.T) {
	boom := errors.New("boom")
	ctx, cancel := context.WithCancel(context.Background())
	// canceling is a retry whose caller cancels while it waits.
	canceling := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		err := next.Run(ctx)
		next.Discard()
		cancel()
		return errors.Join(err, resilience.ContextError(ctx))
	})
	for name, test := range map[string]struct {
		policy resilience.Policy
		size   int
		next   error // of Base at the second attempt
		ok     func(*http.Response, error) bool
	}{
		"is handed over when the next attempt is rejected": {policy: resilience.Compose(again(3), after(1)), size: 64 << 10,
			ok: func(resp *http.Response, err error) bool { return err == nil && resp.StatusCode == 503 }},
		"is not when it was too long": {policy: resilience.Compose(again(3), after(1)), size: 64<<10 + 1,
			ok: func(_ *http.Response, err error) bool { _, ok := errors.AsType[*httpmw.StatusError](err); return ok }},
		"is not when the caller canceled": {policy: canceling, size: 10,
			ok: func(_ *http.Response, err error) bool { return errors.Is(err, context.Canceled) }},
		"is not when the next attempt failed": {policy: again(2), size: 10, next: boom,
			ok: func(_ *http.Response, err error) bool { return errors.Is(err, boom) }},
		"is handed over when a fallback drops the error": {size: 10,
			policy: testkit.Policy(func(ctx context.Context, next resilience.Next) error { _ = next.Run(ctx); next.Discard(); return nil }),
			ok:     func(resp *http.Response, err error) bool { return err == nil && resp.StatusCode == 503 }},
		"is not when another error replaced it": {size: 10,
			policy: testkit.Policy(func(ctx context.Context, next resilience.Next) error {
				err := next.Run(ctx)
				next.Discard()
				return errors.Join(err, boom)
			}),
			ok: func(_ *http.Response, err error) bool { return errors.Is(err, boom) }},
	} {
		t.Run(name, func(t *testing.T) {
			content := strings.Repeat("x", test.size)
			n := 0
			var b *body
			base := roundTripper(func(r *http.Request) (*http.Response, error) {
				if n++; n > 1 && test.next != nil {
					return nil, test.next
				}
				resp := response(503, "")
				b = &body{Reader: strings.NewReader(content)}
				resp.Body, resp.ContentLength = b, -1
				return resp, nil
			})
			req := newRequest(t, "GET", "http://x", nil)
			if name == "is not when the caller canceled" {
				req = req.WithContext(ctx)
			}
			resp, err := (&httpmw.Transport{Base: base, Policy: test.policy}).RoundTrip(req)
			if !test.ok(resp, err) || (resp == nil) == (err == nil) {
				t.Errorf("response %v, error %v", resp, err)
			}
			if resp != nil && (read(t, resp) != content || resp.Request != req) {
				t.Error("it is not the response that it was")
			}
			if b.closed.Load() != 1 {
				t.Errorf("the body was closed %d times", b.closed.Load())
			}
		})
	}
}

// If the caller gets an error, the response is closed.
func TestTransport_errorClosesResponse(t *testing.T) {
	boom := errors.New("boom")
	for name, policy := range map[string]testkit.Policy{
		"policy fails a failure": func(ctx context.Context, next resilience.Next) error { _ = next.Run(ctx); return boom },
		"policy panics":          func(ctx context.Context, next resilience.Next) error { _ = next.Run(ctx); panic(boom) },
	} {
		for _, code := range []int{200, 503} {
			b := &body{Reader: strings.NewReader("body")}
			s := newSlots(resilience.Ended)
			base := roundTripper(func(r *http.Request) (*http.Response, error) {
				resp := response(code, "")
				resp.Body = b
				return resp, nil
			})
			func() {
				defer func() { _ = recover() }()
				resp, err := (&httpmw.Transport{Base: base, Policy: resilience.Compose(policy, s)}).RoundTrip(newRequest(t, "GET", "http://x", nil))
				if resp != nil || err != boom {
					t.Errorf("%s: response %v, error %v", name, resp, err)
				}
			}()
			if b.closed.Load() != 1 || s.held.Load() != 0 {
				t.Errorf("%s, %d: closed %d times, %d slots held", name, code, b.closed.Load(), s.held.Load())
			}
		}
	}
}

// The next attempt discards a response that the policy did not discard.
func TestTransport_nextAttemptDiscards(t *testing.T) {
	forgetful := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		_ = next.Run(ctx)
		return next.Run(resilience.WithAttempt(ctx, 2))
	})
	b := &body{Reader: strings.NewReader("body")}
	s := newSlots(resilience.Ended)
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		resp := response(503, "")
		if resp.Body = b; r.Header.Get("Retry-Attempt") != "" {
			if b.closed.Load() != 1 || s.held.Load() != 1 {
				t.Errorf("closed %d times, %d slots held", b.closed.Load(), s.held.Load())
			}
			resp = response(200, "")
			resp.Body = http.NoBody // and so nothing goes on after the second attempt
		}
		return resp, nil
	})
	resp, err := (&httpmw.Transport{Base: base, Policy: resilience.Compose(forgetful, s)}).RoundTrip(newRequest(t, "GET", "http://x", nil))
	if err != nil || resp.Body != http.NoBody || s.held.Load() != 0 {
		t.Errorf("response %v, error %v, %d slots held", resp, err, s.held.Load())
	}
}

// A policy that discards after its call has ended does not take the caller's response.
func TestTransport_lateDiscard(t *testing.T) {
	var kept resilience.Next
	s := newSlots(resilience.Ended)
	policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		kept = next
		return next.Run(ctx)
	})
	resp, err := (&httpmw.Transport{Base: answer(200), Policy: resilience.Compose(policy, s)}).RoundTrip(newRequest(t, "GET", "http://x", nil))
	if err != nil {
		t.Fatal(err)
	}
	kept.Discard()
	if s.held.Load() != 1 {
		t.Error("the slot of the response is free")
	}
	if got := read(t, resp); got != "body" || s.held.Load() != 0 {
		t.Errorf("the body is %q, %d slots held", got, s.held.Load())
	}
}

// slowClose is a body that ends a Read when it is closed, and is slow to close, or panics.
type slowClose struct {
	*endless
	takes  time.Duration
	closed chan struct{}
	panics bool
}

func (b *slowClose) Close() error {
	b.endless.Close()
	time.Sleep(b.takes)
	close(b.closed)
	if b.panics {
		panic("closed badly")
	}
	return errors.New("closed badly")
}

// A body that hangs is closed before the next attempt, and its error, which Close causes, is
// not the server's. With a request body that may block, the wait for Close is bounded.
func TestTransport_drainWaitsForClose(t *testing.T) {
	for _, panics := range []bool{false, true} {
		for name, test := range map[string]struct {
			length int64
			upload io.Reader
			took   time.Duration
		}{
			"drained":                  {-1, nil, 50*time.Millisecond + time.Second},
			"drained during an upload": {-1, strings.NewReader("content"), 100 * time.Millisecond},
			"too long, with an upload": {1 << 20, strings.NewReader("content"), 50 * time.Millisecond},
		} {
			synctest.Test(t, func(t *testing.T) {
				b := &slowClose{&endless{closed: make(chan struct{})}, time.Second, make(chan struct{}), panics}
				base := roundTripper(func(*http.Request) (*http.Response, error) {
					resp := response(200, "")
					resp.Body, resp.ContentLength = b, test.length
					return resp, nil
				})
				s := newSlots(resilience.Ended)
				begin := time.Now()
				policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
					_ = next.Run(ctx)
					next.Discard()
					if took := time.Since(begin); took != test.took {
						t.Errorf("%s: took %v, want %v", name, took, test.took)
					}
					return errors.New("discarded")
				})
				tr := &httpmw.Transport{Base: base, Policy: resilience.Compose(policy, s)}
				if _, err := tr.RoundTrip(newRequest(t, "PUT", "http://x", test.upload)); err == nil {
					t.Error("no error")
				}
				if err := <-s.settled; err != nil {
					t.Errorf("%s: settled with %v", name, err)
				}
				<-b.closed
			})
		}
	}
}

// An upload does not make a quick Close wait.
func TestTransport_drainOfLongBodyIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bounded{left: 1 << 20}
		base := roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("Retry-Attempt") != "" {
				return response(200, ""), nil
			}
			resp := response(503, "")
			resp.Body, resp.ContentLength = b, 1<<20
			return resp, nil
		})
		begin := time.Now()
		resp, err := (&httpmw.Transport{Base: base, Policy: again(2)}).RoundTrip(newRequest(t, "PUT", "http://x", strings.NewReader("content")))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if took := time.Since(begin); took != 0 || b.closed != 1 {
			t.Errorf("took %v, closed %d times", took, b.closed)
		}
	})
}
