package httpmw_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/timeout"
)

// everything is a policy of each kind there is for a client, with one slot.
func everything() (resilience.Policy, *bulkhead.Bulkhead) {
	slots := newBulkhead(1)
	return resilience.Compose(newRetry(), newBreaker(9), slots, newTimeout(time.Minute, resilience.Answered)), slots
}

// free reports slots that are not free.
func free(t *testing.T, slots *bulkhead.Bulkhead) {
	t.Helper()
	if n := slots.Stats().InFlight; n != 0 {
		t.Errorf("%d slots are held", n)
	}
}

// 1xx responses of each attempt reach the httptrace.
func TestTransport_informationalResponses(t *testing.T) {
	h := httpmw.Server{Policy: newBulkhead(9)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		if r.Header.Get("Retry-Attempt") == "" {
			w.WriteHeader(503)
		}
		io.WriteString(w, "body")
	}))
	serve(t, h.ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
		hints := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				if hints++; code != http.StatusEarlyHints || h.Get("Link") != "</style.css>; rel=preload" {
					t.Errorf("got %d %v", code, h)
				}
				return nil
			},
		})
		policy, slots := everything()
		resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(newRequest(t, "GET", url, nil).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); resp.StatusCode != 200 || got != "body" || hints != 2 {
			t.Errorf("got %d %q after %d hints", resp.StatusCode, got, hints)
		}
		free(t, slots)
	})
}

// Responses without a body are net/http's.
func TestTransport_bodilessResponses(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("First") != "" && r.Header.Get("Retry-Attempt") == "" {
			w.WriteHeader(503)
			return
		}
		if r.Method == "HEAD" {
			w.Header().Set("Content-Length", "100000")
		}
		code, _ := strconv.Atoi(r.URL.Path[1:])
		w.WriteHeader(code)
	}, func(t *testing.T, url string, base *http.Transport) {
		for _, method := range []string{"GET", "HEAD"} {
			for _, code := range []int{200, 204, 304} {
				bare, err := base.RoundTrip(newRequest(t, method, fmt.Sprint(url, "/", code), nil))
				if err != nil {
					t.Fatal(err)
				}
				bare.Body.Close()
				policy, slots := everything()
				req := newRequest(t, method, fmt.Sprint(url, "/", code), nil)
				req.Header.Set("First", "503")
				resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode != code || resp.ContentLength != bare.ContentLength || read(t, resp) != "" {
					t.Errorf("%s, %d: status %d, length %d, want %d", method, code, resp.StatusCode, resp.ContentLength, bare.ContentLength)
				}
				if (bare.Body == http.NoBody) != (resp.Body == http.NoBody) {
					t.Errorf("%s, %d: the body is a %T, was a %T", method, code, resp.Body, bare.Body)
				}
				free(t, slots)
			}
		}
	})
}

// A response to HEAD is returned whatever its Content-Length: the body does not come.
func TestTransport_headResponse(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		w.WriteHeader(503)
	}, func(t *testing.T, url string, base *http.Transport) {
		tr := &httpmw.Transport{Base: base, Policy: resilience.Compose(again(3), after(1))}
		resp, err := tr.RoundTrip(newRequest(t, "HEAD", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); resp.StatusCode != 503 || resp.ContentLength != 100000 || got != "" {
			t.Errorf("status %d, length %d, body %q", resp.StatusCode, resp.ContentLength, got)
		}
	})
}

// A decompressed response is returned unchanged.
func TestTransport_decompressedResponse(t *testing.T) {
	var page bytes.Buffer
	w := gzip.NewWriter(&page)
	io.WriteString(w, "busy")
	w.Close()
	for name, sent := range map[string][]byte{"whole": page.Bytes(), "cut": page.Bytes()[:page.Len()-4]} {
		serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "gzip" {
				t.Errorf("Accept-Encoding is %q", r.Header.Get("Accept-Encoding"))
			}
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(503)
			w.Write(sent)
		}, func(t *testing.T, url string, base *http.Transport) {
			s := newSlots(resilience.Ended)
			tr := &httpmw.Transport{Base: base, Policy: resilience.Compose(again(3), after(1), s)}
			resp, err := tr.RoundTrip(newRequest(t, "GET", url, nil))
			if name == "cut" { // what came is not what the server meant to say
				if _, ok := errors.AsType[*httpmw.StatusError](err); !ok {
					t.Errorf("response %v, error %v", resp, err)
				}
			} else if err != nil {
				t.Fatal(err)
			} else if got := read(t, resp); got != "busy" || !resp.Uncompressed || resp.ContentLength != -1 || resp.Header.Get("Content-Encoding") != "" {
				t.Errorf("got %q, uncompressed %v, length %d, header %v", got, resp.Uncompressed, resp.ContentLength, resp.Header)
			}
			if s.held.Load() != 0 || len(s.settled) != 1 {
				t.Errorf("%d slots held, settled %d times", s.held.Load(), len(s.settled))
			}
		})
	}
}

// Request and response stream at the same time.
func TestTransport_fullDuplex(t *testing.T) {
	outcomes := make(chan resilience.Outcome, 1)
	h := httpmw.Server{Policy: judged(outcomes)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.EnableFullDuplex(); err != nil && r.ProtoMajor == 1 { // HTTP/2 need not be asked
			t.Error(err)
		}
		if err := rc.Flush(); err != nil {
			t.Error(err)
		}
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "%s\n", lines.Text())
			if err := rc.Flush(); err != nil {
				t.Error(err)
			}
		}
		if err := lines.Err(); err != nil {
			t.Error(err)
		}
	}))
	serve(t, h.ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
		for _, until := range []resilience.Moment{resilience.Answered, resilience.Ended} {
			slots := newBulkhead(1)
			policy := resilience.Compose(newRetry(), newBreaker(1), slots, newTimeout(time.Minute, until))
			pr, pw := io.Pipe()
			resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(newRequest(t, "PUT", url, pr))
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(resp.Body)
			for i := range 3 {
				fmt.Fprintf(pw, "line %d\n", i)
				if !lines.Scan() || lines.Text() != fmt.Sprintf("line %d", i) {
					t.Fatalf("got %q and %v", lines.Text(), lines.Err())
				}
			}
			if slots.Stats().InFlight != 1 {
				t.Error("the slot is free while the streams go on")
			}
			pw.Close()
			if lines.Scan() || lines.Err() != nil {
				t.Errorf("then %q and %v", lines.Text(), lines.Err())
			}
			free(t, slots)
			resp.Body.Close()
			if got := <-outcomes; got != resilience.Success {
				t.Errorf("counted as a %v", got)
			}
		}
	})
}

// A Read after a cancel or a Close returns what it returns without a Transport.
func TestTransport_readAfterEnd(t *testing.T) {
	mine := errors.New("mine")
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // or the client may see a proper end of the body
	}, func(t *testing.T, url string, base *http.Transport) {
		for name, test := range map[string]struct {
			end func(context.CancelCauseFunc, io.Closer)
			is  error
		}{
			"canceled":              {func(cancel context.CancelCauseFunc, _ io.Closer) { cancel(nil) }, context.Canceled},
			"canceled with a cause": {func(cancel context.CancelCauseFunc, _ io.Closer) { cancel(mine) }, nil},
			"closed":                {func(_ context.CancelCauseFunc, b io.Closer) { b.Close() }, nil},
		} {
			try := func(rt http.RoundTripper) error {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				resp, err := rt.RoundTrip(newRequest(t, "GET", url, nil).WithContext(ctx))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				test.end(cancel, resp.Body)
				_, err = resp.Body.Read(make([]byte, 1))
				return err
			}
			policy, slots := everything()
			bare, got := try(base), try(&httpmw.Transport{Base: base, Policy: policy})
			if got != bare || !errors.Is(got, test.is) && test.is != nil {
				t.Errorf("%s: got %v, net/http says %v", name, got, bare)
			}
			free(t, slots)
		}
	})
}

// A body may be closed while another goroutine reads it.
func TestTransport_concurrentClose(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}, func(t *testing.T, url string, base *http.Transport) {
		for range 20 {
			policy, slots := everything()
			resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(newRequest(t, "GET", url, nil))
			if err != nil {
				t.Fatal(err)
			}
			over := make(chan struct{})
			go func() {
				defer close(over)
				_, _ = io.ReadAll(resp.Body)
			}()
			resp.Body.Close()
			<-over
			free(t, slots)
		}
	})
}

// A timeout until the end of the body is a timeout.Error.
func TestTransport_bodyTimeout(t *testing.T) {
	serveStill(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}, func(t *testing.T, url string, base *http.Transport) {
		slots := newBulkhead(1)
		policy := resilience.Compose(slots, newTimeout(time.Second, resilience.Ended))
		client := &http.Client{Transport: &httpmw.Transport{Base: base, Policy: policy}}
		resp, err := client.Do(newRequest(t, "GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(resp.Body)
		if late, ok := err.(interface{ Timeout() bool }); !ok || !late.Timeout() || !errors.Is(err, timeout.ErrExceeded) {
			t.Errorf("the body ended with %v", err)
		}
		free(t, slots)
		resp.Body.Close()
	})
}

// A slot is free, however the body ends.
func TestTransport_bodyEndFreesSlot(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		io.WriteString(w, "body")
		w.(http.Flusher).Flush()
		if r.URL.Path == "/broken" {
			panic(http.ErrAbortHandler)
		}
	}, func(t *testing.T, url string, base *http.Transport) {
		for name, test := range map[string]struct {
			path string
			end  func(io.ReadCloser) error
		}{
			"at its end": {"/", func(b io.ReadCloser) error { _, err := io.Copy(io.Discard, b); return err }},
			"broken":     {"/broken", func(b io.ReadCloser) error { _, err := io.Copy(io.Discard, b); return err }},
			"closed":     {"/", io.ReadCloser.Close},
		} {
			policy, slots := everything()
			s := newSlots(resilience.Ended)
			resp, err := (&httpmw.Transport{Base: base, Policy: resilience.Compose(policy, s)}).RoundTrip(newRequest(t, "GET", url+test.path, nil))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = resp.Body.Read(make([]byte, 1))
			if slots.Stats().InFlight != 1 || s.held.Load() != 1 {
				t.Errorf("%s: the slot was free before", name)
			}
			end := test.end(resp.Body)
			if free(t, slots); s.held.Load() != 0 || (end != nil) != (name == "broken") {
				t.Errorf("%s: %d held after %v", name, s.held.Load(), end)
			}
			resp.Body.Close()
			resp.Body.Close()
			if n := len(s.settled); n != 1 {
				t.Fatalf("%s: settled %d times", name, n)
			}
			if err := <-s.settled; err != end {
				t.Errorf("%s: settled with %v, want %v", name, err, end)
			}
		}
	})
}

// Cookies and redirects of http.Client work.
func TestTransport_cookiesAndRedirects(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Retry-Attempt") == "":
			w.WriteHeader(503)
		case r.URL.Path == "/old":
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "7"})
			http.Redirect(w, r, "/new", http.StatusFound)
		default:
			c, err := r.Cookie("session")
			fmt.Fprint(w, c, err)
		}
	}, func(t *testing.T, url string, base *http.Transport) {
		for _, follow := range []bool{true, false} {
			policy, slots := everything()
			client := &http.Client{Transport: &httpmw.Transport{Base: base, Policy: policy}, Jar: resilience.Must(cookiejar.New(nil))}
			if !follow {
				client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			}
			resp, err := client.Do(newRequest(t, "GET", url+"/old", nil))
			if err != nil {
				t.Fatal(err)
			}
			got := read(t, resp)
			if follow && (got != "session=7 <nil>" || resp.Request.URL.Path != "/new") ||
				!follow && (resp.StatusCode != http.StatusFound || !strings.Contains(got, "/new") || resp.Request.URL.Path != "/old") {
				t.Errorf("follow %v: %d %q of %v", follow, resp.StatusCode, got, resp.Request.URL)
			}
			if len(client.Jar.Cookies(resp.Request.URL)) != 1 {
				t.Error("the cookie is lost")
			}
			free(t, slots)
		}
	})
}

// Response.Request is the caller's request, also after a retry.
func TestTransport_responseRequest(t *testing.T) {
	serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Retry-Attempt") == "" {
			w.WriteHeader(503)
		}
		fmt.Fprint(w, r.Proto)
	}, func(t *testing.T, url string, base *http.Transport) {
		policy, _ := everything()
		req := newRequest(t, "GET", url, nil)
		resp, err := (&httpmw.Transport{Base: base, Policy: policy}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); got != resp.Proto || resp.Request != req || resp.TLS == nil || len(req.Header) != 0 {
			t.Errorf("got %q by %s, TLS %v, request %v", got, resp.Proto, resp.TLS != nil, resp.Request)
		}
	})
}

// No retry begins that cannot end before http.Client.Timeout.
func TestTransport_clientTimeout(t *testing.T) {
	serveStill(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(503)
		io.WriteString(w, "busy")
	}, func(t *testing.T, url string, base *http.Transport) {
		policy, slots := everything()
		client := &http.Client{Transport: &httpmw.Transport{Base: base, Policy: policy}, Timeout: 2 * time.Second}
		start := time.Now()
		resp, err := client.Do(newRequest(t, "GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); resp.StatusCode != 503 || got != "busy" || time.Since(start) != 0 {
			t.Errorf("got %d %q after %v", resp.StatusCode, got, time.Since(start))
		}
		free(t, slots)
	})
}
