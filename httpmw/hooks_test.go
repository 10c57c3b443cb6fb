package httpmw_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/breaker"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/keyed"
)

// probing returns a breaker that admits one probe now, and the bulkhead in it.
func probing(t *testing.T) (resilience.Policy, *breaker.Breaker, *bulkhead.Bulkhead, *clock.Mock) {
	t.Helper()
	now := clock.NewMock()
	b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Second, Clock: now}))
	slots := newBulkhead(1)
	policy := resilience.Compose(b, slots)
	_ = resilience.Run(t.Context(), b, func(context.Context) error { return errors.New("down") })
	now.Add(time.Minute)
	if b.State() != breaker.HalfOpen {
		t.Fatalf("the breaker is %v", b.State())
	}
	return policy, b, slots, now
}

// A hook of a Transport that panics or calls runtime.Goexit leaks nothing.
func TestTransport_hooksThatUnwind(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/busy" {
			w.WriteHeader(503)
		}
		io.WriteString(w, "body")
	}, func(t *testing.T, url string, base *http.Transport) {
		for name, how := range testkit.Aborts("boom") {
			for hook, set := range map[string]func(*httpmw.Transport){
				"Status": func(tr *httpmw.Transport) {
					tr.Classify = func(*http.Response) resilience.Outcome { how.Abort(); return 0 }
				},
				"Retryable": func(tr *httpmw.Transport) {
					tr.Retryable = func(*http.Request, *http.Response, error) bool { how.Abort(); return false }
				},
				"Key": func(tr *httpmw.Transport) { tr.Key = func(*http.Request) string { how.Abort(); return "" } },
				"Base, after it": func(tr *httpmw.Transport) {
					rt := tr.Base
					tr.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
						resp, err := rt.RoundTrip(r)
						if err == nil {
							resp.Body.Close()
						}
						how.Abort()
						return nil, nil
					})
				},
				"GetBody": func(tr *httpmw.Transport) { tr.Policy = resilience.Compose(tr.Policy, again(2)) },
			} {
				policy, b, slots, now := probing(t)
				var bodies []*body
				watched := roundTripper(func(r *http.Request) (*http.Response, error) {
					resp, err := base.RoundTrip(r)
					if err == nil {
						bodies = append(bodies, &body{Reader: resp.Body})
						resp.Body = closing{bodies[len(bodies)-1], resp.Body}
					}
					return resp, err
				})
				tr := &httpmw.Transport{Base: watched, Policy: policy}
				if hook == "Key" {
					tr.Policy = resilience.Must(keyed.New(resilience.Compose(policy), keyed.Config{Max: 9}))
				}
				set(tr)
				upload := newUpload("content", nil)
				req := newRequest(t, "PUT", url+"/busy", upload)
				req.GetBody = func() (io.ReadCloser, error) { how.Abort(); return nil, nil }
				if end := testkit.Unwind(func() error { _, err := tr.RoundTrip(req); return err }); end != how {
					t.Errorf("%s, %s: ended with %+v", hook, name, end)
				}
				if <-upload.closed; slots.Stats().InFlight != 0 {
					t.Errorf("%s, %s: a slot is held", hook, name)
				}
				for _, b := range bodies {
					if n := b.closed.Load(); n != 1 {
						t.Errorf("%s, %s: the response was closed %d times", hook, name, n)
					}
				}
				now.Add(time.Minute)
				resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(newRequest(t, "GET", url, nil))
				if err != nil {
					t.Fatalf("%s, %s: no probe after it: %v", hook, name, err)
				}
				resp.Body.Close()
				if hook != "Key" && b.Stats().Failures != 2 {
					t.Errorf("%s, %s: %d failures", hook, name, b.Stats().Failures)
				}
			}
		}
	})
}

// closing is a response body whose Close is counted too.
type closing struct {
	*body
	inner io.Closer
}

func (c closing) Close() error {
	c.body.Close()
	return c.inner.Close()
}

// A Base that breaks its contract leaks nothing.
func TestTransport_brokenBase(t *testing.T) {
	boom := errors.New("boom")
	for name, base := range map[string]func(b io.ReadCloser) (*http.Response, error){
		"both":    func(b io.ReadCloser) (*http.Response, error) { return &http.Response{StatusCode: 200, Body: b}, boom },
		"neither": func(b io.ReadCloser) (*http.Response, error) { b.Close(); return nil, nil },
		"panic":   func(b io.ReadCloser) (*http.Response, error) { b.Close(); panic(boom) },
		"Goexit": func(b io.ReadCloser) (*http.Response, error) {
			b.Close()
			testkit.Ending{Goexit: true}.Abort()
			return nil, nil
		},
	} {
		for attempt := 1; attempt <= 2; attempt++ {
			var responses []*body
			tr := &httpmw.Transport{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				if fails := len(responses)+1 == attempt; !fails || name != "panic" && name != "Goexit" {
					consume(r) // one that has closed the body and panics then has it closed twice
				}
				responses = append(responses, &body{Reader: strings.NewReader("body")})
				b := responses[len(responses)-1]
				if len(responses) == attempt {
					return base(b)
				}
				return &http.Response{StatusCode: 503, Header: http.Header{}, Body: b, ContentLength: -1}, nil
			})}
			answered, ended := newSlots(resilience.Answered), newSlots(resilience.Ended)
			tr.Policy = resilience.Compose(again(attempt), answered, ended)
			var made []*body
			first := &body{}
			req := newRequest(t, "PUT", "http://x", first)
			req.GetBody = replayable(first, "content", &made)
			end := testkit.Unwind(func() error {
				resp, err := tr.RoundTrip(req)
				if resp != nil {
					t.Errorf("%s: a response", name)
				}
				return err
			})
			if (end.Err == nil) != (name == "panic" || name == "Goexit") {
				t.Errorf("%s: ended with %+v", name, end)
			}
			for _, s := range []*slots{answered, ended} {
				if s.held.Load() != 0 || len(s.settled) != attempt {
					t.Fatalf("%s in attempt %d: %d slots held, settled %d times", name, attempt, s.held.Load(), len(s.settled))
				}
				for i := range attempt {
					if err := <-s.settled; err == nil {
						t.Errorf("%s in attempt %d: attempt %d was settled as a success", name, attempt, i+1)
					}
				}
			}
			for _, b := range append(made, responses...) {
				if n := b.closed.Load(); n != 1 {
					t.Errorf("%s in attempt %d: a body was closed %d times", name, attempt, n)
				}
			}
		}
	}
}

// A hook of a Server that panics or calls runtime.Goexit leaks nothing.
func TestServer_hooksThatUnwind(t *testing.T) {
	for name, how := range testkit.Aborts("boom") {
		for hook, set := range map[string]func(*httpmw.Server){
			"Status": func(s *httpmw.Server) {
				s.Classify = func(*http.Request, int) resilience.Outcome { how.Abort(); return 0 }
			},
			"Key":    func(s *httpmw.Server) { s.Key = func(*http.Request) string { how.Abort(); return "" } },
			"Exempt": func(s *httpmw.Server) { s.Exempt = func(*http.Request) bool { how.Abort(); return false } },
			"ErrorHandler": func(s *httpmw.Server) {
				s.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { how.Abort() }
				s.Policy = resilience.Compose(s.Policy, testkit.Policy(func(context.Context, resilience.Next) error { return errors.New("no") }))
			},
		} {
			policy, b, slots, now := probing(t)
			s := httpmw.Server{Policy: policy}
			if hook == "Key" {
				s.Policy = resilience.Must(keyed.New(resilience.Compose(policy), keyed.Config{Max: 9}))
			}
			set(&s)
			h := s.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			end := testkit.Unwind(func() error {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
				return nil
			})
			if end != how {
				t.Errorf("%s, %s: ended with %+v", hook, name, end)
			}
			if slots.Stats().InFlight != 0 {
				t.Errorf("%s, %s: a slot is held", hook, name)
			}
			now.Add(time.Minute)
			if err := resilience.Run(t.Context(), policy, func(context.Context) error { return nil }); err != nil {
				t.Errorf("%s, %s: no probe after it: %v", hook, name, err)
			}
			if hook == "Status" && b.Stats().Failures != 2 {
				t.Errorf("%s: %d failures", name, b.Stats().Failures)
			}
		}
	}
}

// Retry-After of the 503 that opens a breaker is how long the breaker stays open.
func TestTransport_retryAfterOpensBreaker(t *testing.T) {
	serveStill(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(map[string]int{"/busy": 503, "/later": 429}[r.URL.Path])
	}, func(t *testing.T, url string, base *http.Transport) {
		for path, want := range map[string]time.Duration{"/busy": 7 * time.Second, "/later": 0} {
			b := resilience.Must(breaker.New(breaker.Config{Trip: []breaker.Rule{breaker.Consecutive{Failures: 1}}, OpenFor: time.Second}))
			tr := &httpmw.Transport{Base: base, Policy: b}
			resp, err := tr.RoundTrip(newRequest(t, "GET", url+path, nil))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			resp, err = tr.RoundTrip(newRequest(t, "GET", url+path, nil))
			if err == nil {
				resp.Body.Close()
			}
			var open time.Duration
			if refused, ok := errors.AsType[*resilience.Rejection](err); ok {
				open = time.Until(refused.RetryAt)
			}
			if open != want {
				t.Errorf("%s: open for %v, want %v", path, open, want)
			}
		}
	})
}
