package httpmw_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// The request body is closed exactly once on every path.
func TestTransport_closesRequestBodyOnce(t *testing.T) {
	boom := errors.New("boom")
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, test := range map[string]struct {
		ctx    context.Context
		policy resilience.Policy
		base   http.RoundTripper
		get    error // of GetBody; http.ErrBodyNotAllowed stands for no GetBody
		bodies int
	}{
		"success":                      {bodies: 1},
		"rejected":                     {policy: after(0), bodies: 1},
		"context done":                 {ctx: canceled, bodies: 1},
		"policy runs nothing":          {policy: testkit.Policy(func(context.Context, resilience.Next) error { return nil }), bodies: 1},
		"policy panics":                {policy: testkit.Policy(func(context.Context, resilience.Next) error { panic(boom) }), bodies: 1},
		"policy panics afterwards":     {policy: testkit.Policy(func(ctx context.Context, n resilience.Next) error { _ = n.Run(ctx); panic(boom) }), bodies: 1},
		"base panics":                  {base: roundTripper(func(*http.Request) (*http.Response, error) { panic(boom) }), bodies: 1},
		"base fails":                   {base: roundTripper(func(r *http.Request) (*http.Response, error) { consume(r); return nil, boom }), bodies: 1},
		"base answers nothing":         {base: roundTripper(func(r *http.Request) (*http.Response, error) { consume(r); return nil, nil }), bodies: 1},
		"three attempts":               {base: answer(503), policy: again(3), bodies: 3},
		"second attempt rejected":      {base: answer(503), policy: resilience.Compose(again(3), after(1)), bodies: 1},
		"GetBody fails":                {base: answer(503), policy: again(3), get: boom, bodies: 1},
		"no GetBody":                   {base: answer(503), policy: again(3), get: http.ErrBodyNotAllowed, bodies: 1},
		"no GetBody, run all the same": {base: answer(503), policy: stubborn(3), get: http.ErrBodyNotAllowed, bodies: 1},
	} {
		t.Run(name, func(t *testing.T) {
			if test.base == nil {
				test.base = answer(200)
			}
			if test.ctx == nil {
				test.ctx = t.Context()
			}
			var made []*body
			first := &body{}
			req := newRequest(t, "PUT", "http://x", first).WithContext(test.ctx)
			req.GetBody = replayable(first, "content", &made)
			switch test.get {
			case nil:
			case http.ErrBodyNotAllowed:
				req.GetBody = nil
			default:
				req.GetBody = func() (io.ReadCloser, error) { return nil, test.get }
			}
			func() {
				defer func() { _ = recover() }()
				resp, err := (&httpmw.Transport{Base: test.base, Policy: test.policy}).RoundTrip(req)
				if resp == nil && err == nil {
					t.Error("neither a response nor an error")
				}
			}()
			if len(made) != test.bodies {
				t.Errorf("%d bodies, want %d", len(made), test.bodies)
			}
			for i, b := range made {
				if n := b.closed.Load(); n != 1 {
					t.Errorf("body %d was closed %d times", i+1, n)
				}
			}
		})
	}
}

// The caller's request is never changed.
func TestTransport_keepsRequest(t *testing.T) {
	type key struct{}
	policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
		return next.Run(context.WithValue(ctx, key{}, 1))
	})
	var sent []string
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		consume(r)
		sent = append(sent, r.Header.Get("Retry-Attempt"))
		if r.Context().Value(key{}) == nil {
			t.Error("the attempt has not the context of the policy")
		}
		return response(503, ""), nil
	})
	req := newRequest(t, "PUT", "http://x/path?q", strings.NewReader("content"))
	req.Header.Set("A", "b")
	before := *req
	headers := maps.Clone(req.Header)
	resp, err := (&httpmw.Transport{Base: base, Policy: resilience.Compose(again(3), policy)}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if want := []string{"", "2", "3"}; !slices.Equal(sent, want) {
		t.Errorf("Retry-Attempt was %q, want %q", sent, want)
	}
	before.GetBody, req.GetBody = nil, nil
	if !reflect.DeepEqual(req, &before) || !reflect.DeepEqual(req.Header, headers) {
		t.Errorf("the request is now %+v, was %+v", req, &before)
	}
	if resp.Request != req {
		t.Error("Response.Request is not the request of the caller")
	}
}

// The first attempt sends the caller's request itself if it needs no change.
func TestTransport_firstAttemptIsRequest(t *testing.T) {
	req := newRequest(t, "GET", "http://x", nil)
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		if r != req {
			t.Error("the request was copied")
		}
		return response(200, ""), nil
	})
	resp, err := (&httpmw.Transport{Base: base, Policy: pass}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// A context of an uncomparable type does not panic.
func TestTransport_uncomparableContext(t *testing.T) {
	type odd struct {
		context.Context
		_ []int
	}
	req := newRequest(t, "GET", "http://x", nil).WithContext(odd{Context: t.Context()})
	resp, err := (&httpmw.Transport{Base: answer(200), Policy: pass}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// The number of an upstream attempt is sent in Retry-Attempt.
func TestTransport_forwardsRetryAttempt(t *testing.T) {
	for _, policy := range []resilience.Policy{resilience.Compose(), pass} {
		base := roundTripper(func(r *http.Request) (*http.Response, error) {
			if got := r.Header.Get("Retry-Attempt"); got != "2" {
				t.Errorf("Retry-Attempt is %q", got)
			}
			return response(200, ""), nil
		})
		req := newRequest(t, "GET", "http://x", nil)
		req = req.WithContext(resilience.WithAttempt(req.Context(), 2))
		resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if len(req.Header) != 0 {
			t.Errorf("the request of the caller has the header %v", req.Header)
		}
	}
}

// The first attempt streams the body without a buffer.
func TestTransport_streamsRequestBody(t *testing.T) {
	got := make(chan string)
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 5)
		_, _ = io.ReadFull(r.Body, b)
		got <- string(b)
		io.Copy(io.Discard, r.Body)
	}, func(t *testing.T, url string, base *http.Transport) {
		pr, pw := io.Pipe()
		go func() {
			io.WriteString(pw, "first")
			// The rest is not there before the server has seen the start.
			if s := <-got; s != "first" {
				t.Errorf("the server got %q", s)
			}
			io.WriteString(pw, "second")
			pw.Close()
		}()
		resp, err := (&httpmw.Transport{Base: base, Policy: again(3)}).RoundTrip(newRequest(t, "PUT", url, pr))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	})
}

// Later attempts take the body from GetBody only.
func TestTransport_retriesWithGetBody(t *testing.T) {
	var bodies []string
	var n atomic.Int32
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(b))
		if n.Add(1)%3 != 0 {
			w.WriteHeader(503)
		}
	}, func(t *testing.T, url string, base *http.Transport) {
		bodies = nil
		req := newRequest(t, "PUT", url, strings.NewReader("content"))
		gets := 0
		get := req.GetBody
		req.GetBody = func() (io.ReadCloser, error) { gets++; return get() }
		resp, err := (&httpmw.Transport{Base: base, Policy: again(3)}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 || gets != 2 || !slices.Equal(bodies, []string{"content", "content", "content"}) {
			t.Errorf("status %d, %d times GetBody, bodies %q", resp.StatusCode, gets, bodies)
		}
	})
}

// Without GetBody, a request with a body is sent once.
func TestTransport_noGetBodyMeansOnce(t *testing.T) {
	boom := errors.New("boom")
	for _, policy := range []resilience.Policy{again(3), stubborn(3)} {
		var n int
		base := roundTripper(func(r *http.Request) (*http.Response, error) {
			consume(r)
			if n++; r.Header.Get("Fail") != "" {
				return nil, boom
			}
			return response(503, "busy"), nil
		})
		req := newRequest(t, "PUT", "http://x", io.MultiReader(strings.NewReader("content")))
		resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(req)
		if err != nil || resp.StatusCode != 503 || read(t, resp) != "busy" || n != 1 {
			t.Errorf("%d attempts, error %v", n, err)
		}

		n = 0
		req = newRequest(t, "PUT", "http://x", io.MultiReader(strings.NewReader("content")))
		req.Header.Set("Fail", "yes")
		if _, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(req); !errors.Is(err, boom) || n != 1 {
			t.Errorf("%d attempts, error %v", n, err)
		}
	}
}

// An error of GetBody is no evidence about the server.
func TestTransport_getBodyErrorIsIgnored(t *testing.T) {
	for name, get := range map[string]func() (io.ReadCloser, error){
		"no GetBody":    nil,
		"GetBody fails": func() (io.ReadCloser, error) { return nil, errors.New("gone") },
	} {
		policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			for i := range 2 {
				err := next.Run(ctx)
				if (err == nil) != (i == 0) {
					t.Errorf("%s, run %d: error %v", name, i+1, err)
				}
				if o := resilience.OutcomeOf(ctx, err, nil); err != nil && (o != resilience.Ignored || retryable(err) || err.Error() == "") {
					t.Errorf("%s: outcome %v of %v", name, o, err)
				}
			}
			return next.Run(ctx)
		})
		req := newRequest(t, "PUT", "http://x", io.MultiReader(strings.NewReader("content")))
		req.GetBody = get
		if resp, err := (&httpmw.Transport{Base: answer(200), Policy: policy}).RoundTrip(req); resp != nil || err == nil {
			t.Errorf("%s: response %v, error %v", name, resp, err)
		}
	}
}

// http.NoBody stays http.NoBody in each attempt.
func TestTransport_keepsNoBody(t *testing.T) {
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Body != http.NoBody {
			t.Errorf("the request body is %T", r.Body)
		}
		resp := response(503, "")
		resp.Body = http.NoBody
		return resp, nil
	})
	req := newRequest(t, "PUT", "http://x", http.NoBody)
	req.GetBody = nil
	s := newSlots(resilience.Ended)
	resp, err := (&httpmw.Transport{Base: base, Policy: resilience.Compose(again(3), s)}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body != http.NoBody {
		t.Errorf("the response body is %T", resp.Body)
	}
	if len(s.settled) != 3 || s.held.Load() != 0 {
		t.Errorf("%d attempts, %d slots held", len(s.settled), s.held.Load())
	}
}

// A request whose body cannot be replayed is never retryable.
func TestTransport_sentBodyIsNotRetryable(t *testing.T) {
	failing := roundTripper(func(r *http.Request) (*http.Response, error) { consume(r); return nil, errors.New("boom") })
	for _, base := range []roundTripper{answer(503), failing} {
		policy := testkit.Policy(func(ctx context.Context, next resilience.Next) error {
			err := next.Run(ctx)
			if err == nil || retryable(err) {
				t.Errorf("%v may be retried", err)
			}
			return err
		})
		req := newRequest(t, "PUT", "http://x", io.MultiReader(strings.NewReader("content")))
		if resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(req); err == nil {
			resp.Body.Close()
		}
	}
}

// A policy that runs an attempt again under the same context sends the whole body again.
func TestTransport_rerunSendsBodyAgain(t *testing.T) {
	var bodies []string
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(b))
		return response(503, ""), nil
	})
	resp, err := (&httpmw.Transport{Base: base, Policy: stubborn(3)}).RoundTrip(newRequest(t, "PUT", "http://x", strings.NewReader("content")))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if want := []string{"content", "content", "content"}; !slices.Equal(bodies, want) {
		t.Errorf("sent %q", bodies)
	}
}

// Each attempt has a request of its own, because Base may still use the last one.
func TestTransport_requestOfEachAttempt(t *testing.T) {
	seen := map[*http.Request]bool{}
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		seen[r] = true
		return response(503, ""), nil
	})
	req := newRequest(t, "PUT", "http://x", io.MultiReader(strings.NewReader("content")))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("content")), nil }
	resp, err := (&httpmw.Transport{Base: base, Policy: again(3)}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if len(seen) != 3 || seen[req] {
		t.Errorf("%d requests in 3 attempts, the caller's among them: %v", len(seen), seen[req])
	}
}
