package httpmw_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
)

// answerSlots holds something of each request until its answer, as a limit does, and
// remembers how each one was settled.
type answerSlots struct {
	held, most atomic.Int32
	settled    chan error
}

func newAnswerSlots() *answerSlots { return &answerSlots{settled: make(chan error, 100)} }

func (p *answerSlots) Apply(ctx context.Context, next resilience.Next) (err error) {
	p.most.Store(max(p.most.Load(), p.held.Add(1)))
	if next.Await(p, 1) {
		return next.Run(ctx)
	}
	err = resilience.ErrAborted
	defer func() { next.Settle(resilience.Answered, err, p, 2) }()
	err = next.Run(ctx)
	return err
}

func (p *answerSlots) Settle(_ uint64, err error) {
	p.held.Add(-1)
	p.settled <- err
}

// free checks that one slot was taken and released, and returns how.
func (p *answerSlots) free(t *testing.T) (err error) {
	t.Helper()
	select {
	case err = <-p.settled:
	default:
		t.Error("the slot was not released")
	}
	if p.held.Load() != 0 || len(p.settled) != 0 {
		t.Errorf("%d are held, and %d more were given back", p.held.Load(), len(p.settled))
	}
	return err
}

// wrapped is the writer of a middleware that offers nothing but Unwrap.
type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// unwrapping is a middleware that is only seen through by http.ResponseController.
func unwrapping(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(wrapped{w}, r) })
}

// A stream is answered at its first flush.
func TestServer_flushIsAnswer(t *testing.T) {
	same := func(h http.Handler) http.Handler { return h }
	control := func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() }
	for name, test := range map[string]struct {
		outside, inside func(http.Handler) http.Handler
		flush           func(w http.ResponseWriter) error
	}{
		"Flush":                            {same, same, func(w http.ResponseWriter) error { w.(http.Flusher).Flush(); return nil }},
		"a controller":                     {same, same, control},
		"a middleware inside":              {same, unwrapping, control},
		"a middleware outside":             {unwrapping, same, control},
		"a middleware outside, and inside": {unwrapping, unwrapping, control},
	} {
		t.Run(name, func(t *testing.T) {
			p, bulk := newAnswerSlots(), newSlots(resilience.Ended)
			seen := make(chan struct{})
			guard := httpmw.Server{Policy: resilience.Compose(bulk, p)}
			h := test.outside(guard.Wrap(test.inside(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for i := range 3 {
					if held := p.held.Load(); i == 0 && held != 1 || i > 0 && held != 0 {
						t.Errorf("before event %d, %d are held", i, held)
					}
					fmt.Fprintf(w, "data: %d\n", i)
					if err := test.flush(w); err != nil {
						t.Error(err)
					}
					if i == 0 {
						if err := p.free(t); err != nil {
							t.Errorf("the policy got %v", err)
						}
					}
					<-seen
				}
				if bulk.held.Load() != 1 {
					t.Error("what is held to the end was not")
				}
				w.WriteHeader(500) // too late
			}))))
			serve(t, h.ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
				resp, err := base.RoundTrip(newRequest(t, "GET", url, nil))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				for lines, i := bufio.NewScanner(resp.Body), 0; i < 3; i++ {
					if !lines.Scan() {
						t.Fatal(lines.Err())
					}
					seen <- struct{}{}
				}
				<-bulk.settled
				if len(p.settled) != 0 {
					t.Error("it was given back once more")
				}
			})
		})
	}
}

// An upgrade is answered when the handler takes the connection over.
func TestServer_hijackIsAnswer(t *testing.T) {
	for name, hijack := range map[string]func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error){
		"Hijack": func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) { return w.(http.Hijacker).Hijack() },
		"a controller": func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
			return http.NewResponseController(w).Hijack()
		},
		"a middleware inside": func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
			return http.NewResponseController(wrapped{w}).Hijack()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newAnswerSlots()
			over := make(chan struct{}) // no server waits for a connection that was taken over
			h := httpmw.Server{Policy: p}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, rw, err := hijack(w)
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				if err := p.free(t); err != nil {
					t.Errorf("the policy got %v", err)
				}
				echo(rw)
			}))
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(over)
				h.ServeHTTP(w, r)
			}))
			defer s.Close()
			resp, err := s.Client().Transport.RoundTrip(upgrade(t, s.URL))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			io.WriteString(resp.Body.(io.Writer), "hello\n")
			if b, err := io.ReadAll(resp.Body); string(b) != "hello\n" || err != nil {
				t.Errorf("got %q and %v", b, err)
			}
			<-over
			if len(p.settled) != 0 {
				t.Error("it was given back once more")
			}
		})
	}
}

// A body without a flush is work to its end: a limit has to pace it.
func TestServer_unflushedBodyIsWork(t *testing.T) {
	large := strings.Repeat("x", 1<<20)
	for name, write := range map[string]func(w http.ResponseWriter){
		"Write":       func(w http.ResponseWriter) { w.Write([]byte(large)) },
		"WriteString": func(w http.ResponseWriter) { io.WriteString(w, large) },
		"Copy":        func(w http.ResponseWriter) { io.Copy(w, strings.NewReader(large)) },
		"the status":  func(w http.ResponseWriter) { w.WriteHeader(200) },
		"early hints": func(w http.ResponseWriter) { w.WriteHeader(103) },
		"nothing":     func(w http.ResponseWriter) {},
	} {
		t.Run(name, func(t *testing.T) {
			p, over := newAnswerSlots(), make(chan struct{}, 2)
			h := httpmw.Server{Policy: p}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				write(w)
				if p.held.Load() != 1 {
					t.Error("the slot was released")
				}
			}))
			serve(t, func(w http.ResponseWriter, r *http.Request) {
				h.ServeHTTP(w, r)
				over <- struct{}{}
			}, func(t *testing.T, url string, base *http.Transport) {
				resp, err := base.RoundTrip(newRequest(t, "GET", url, nil))
				if err != nil {
					t.Fatal(err)
				}
				read(t, resp)
				<-over
				if err := p.free(t); err != nil {
					t.Errorf("the policy got %v", err)
				}
			})
		})
	}
}

// A policy that waits for the answer gets the outcome of the handler.
func TestServer_answerError(t *testing.T) {
	status := &httpmw.StatusError{}
	gone, leave := context.WithCancel(t.Context())
	leave()
	for name, test := range map[string]struct {
		ctx    context.Context
		handle func()
		status int
		answer error // nil, or as errors.Is or errors.As has it
	}{
		"returns":                       {t.Context(), func() {}, 200, nil},
		"fails":                         {t.Context(), func() {}, 500, status},
		"panics":                        {t.Context(), func() { panic("no") }, 0, resilience.ErrAborted},
		"panics with nil":               {t.Context(), func() { panic(nil) }, 0, resilience.ErrAborted},
		"Goexit":                        {t.Context(), testkit.Ending{Goexit: true}.Abort, 0, resilience.ErrAborted},
		"aborts":                        {t.Context(), func() { panic(http.ErrAbortHandler) }, 0, errAborts},
		"returns, the client left":      {gone, func() {}, 200, context.Canceled},
		"fails, the client left":        {gone, func() {}, 500, context.Canceled},
		"aborts, for the client left":   {gone, func() { panic(http.ErrAbortHandler) }, 0, context.Canceled},
		"has no time, and says nothing": {t.Context(), func() {}, -1, errAborts},
	} {
		for _, flush := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, flushed %t", name, flush), func(t *testing.T) {
				p := newAnswerSlots()
				var inner resilience.Policy
				if test.status < 0 {
					inner = cutOff(0)
				}
				h := httpmw.Server{Policy: resilience.Compose(p, inner)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if flush {
						w.(http.Flusher).Flush()
						if p.held.Load() != 0 {
							t.Error("the slot was not released")
						}
					}
					if test.status > 0 {
						w.WriteHeader(test.status)
					}
					if test.status < 0 {
						<-r.Context().Done()
					}
					test.handle()
				}))
				testkit.Unwind(func() error {
					h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(test.ctx))
					return nil
				})
				err, want := p.free(t), test.answer
				if flush && want != context.Canceled {
					want = nil
				}
				switch {
				case want == status:
					if s, ok := errors.AsType[*httpmw.StatusError](err); !ok || s.StatusCode != test.status {
						t.Errorf("the policy got %v", err)
					}
				case want == errAborts:
					if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || resilience.OutcomeOf(t.Context(), err, nil) != resilience.Ignored {
						t.Errorf("the policy got %v", err)
					}
				case want == nil && err != nil, want != nil && !errors.Is(err, want):
					t.Errorf("the policy got %v, want %v", err, want)
				}
			})
		}
	}
}

// errAborts stands for an error that counts as nothing.
var errAborts = errors.New("aborts")

// A policy that waits for the answer gets the error of a client that left.
func TestServer_answerOfLeftClient(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter){
		"returns":  func(http.ResponseWriter) {},
		"answers":  func(w http.ResponseWriter) { w.WriteHeader(500) },
		"flushes":  func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
		"gives up": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newAnswerSlots()
			started, left := make(chan struct{}), make(chan struct{})
			h := httpmw.Server{Policy: p}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				started <- struct{}{}
				<-r.Context().Done()
				<-left
				answer(w)
			}))
			serve(t, h.ServeHTTP, func(t *testing.T, url string, base *http.Transport) {
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					<-started
					cancel()
				}()
				if _, err := base.RoundTrip(newRequest(t, "GET", url, nil).WithContext(ctx)); err == nil {
					t.Error("the client got a response")
				}
				left <- struct{}{}
				if err := <-p.settled; !errors.Is(err, context.Canceled) {
					t.Errorf("the policy got %v", err)
				}
			})
		})
	}
}

// A policy that waits for the answer is settled if the handler never runs.
func TestServer_answerWithoutRun(t *testing.T) {
	for name, test := range map[string]struct {
		inside testkit.Policy
		answer error
	}{
		"rejected":     {after(0), resilience.ErrRejected},
		"panics":       {func(context.Context, resilience.Next) error { panic("no") }, resilience.ErrAborted},
		"Goexit":       {func(context.Context, resilience.Next) error { testkit.Ending{Goexit: true}.Abort(); return nil }, resilience.ErrAborted},
		"does nothing": {func(context.Context, resilience.Next) error { return nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p, q := newAnswerSlots(), newAnswerSlots()
			h := httpmw.Server{
				Policy: resilience.Compose(p, q, test.inside),
				ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
					if p.held.Load() != 0 || q.held.Load() != 0 {
						t.Error("slots are held while the rejection is written")
					}
				},
			}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") }))
			testkit.Unwind(func() error {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
				return nil
			})
			for _, p := range []*answerSlots{p, q} {
				if err := p.free(t); err == nil || test.answer != nil && !errors.Is(err, test.answer) {
					t.Errorf("the policy got %v", err)
				}
			}
		})
	}
}

// All policies that wait for the answer are settled if a policy runs the handler twice.
func TestServer_answerOfSecondRun(t *testing.T) {
	for name, test := range map[string]struct {
		policy func(p, q *answerSlots) resilience.Policy
		flush  bool
		want   int   // how often each of them took one
		most   int32 // how many at once
	}{
		"one in the other":                {func(p, q *answerSlots) resilience.Policy { return resilience.Compose(p, q) }, false, 1, 1},
		"one in the other, of a stream":   {func(p, q *answerSlots) resilience.Policy { return resilience.Compose(p, q) }, true, 1, 1},
		"a retry around":                  {func(p, q *answerSlots) resilience.Policy { return resilience.Compose(stubborn(3), p, q) }, false, 3, 1},
		"a retry around, of a stream":     {func(p, q *answerSlots) resilience.Policy { return resilience.Compose(stubborn(3), p, q) }, true, 3, 1},
		"a retry around what is rejected": {func(p, q *answerSlots) resilience.Policy { return resilience.Compose(stubborn(3), p, q, after(0)) }, false, 3, 3},
	} {
		t.Run(name, func(t *testing.T) {
			p, q := newAnswerSlots(), newAnswerSlots()
			httpmw.Server{Policy: test.policy(p, q)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(500)
				if test.flush {
					w.(http.Flusher).Flush()
				}
			})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			for _, p := range []*answerSlots{p, q} {
				if p.held.Load() != 0 || len(p.settled) != test.want || p.most.Load() != test.most {
					t.Fatalf("%d are held, %d were given back; %d were held at once", p.held.Load(), len(p.settled), p.most.Load())
				}
				if first := <-p.settled; test.flush != (first == nil) {
					t.Errorf("the first policy got %v", first)
				}
			}
		})
	}
}

// flusherOf is an unflushable that is an http.Flusher.
type flusherOf struct{ unflushable }

func (flusherOf) Flush() {}

// Status 101 is an answer.
func TestServer_status101IsAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		before, held int
	}{"as the first": {0, 0}, "after another status": {200, 1}} {
		p := newAnswerSlots()
		httpmw.Server{Policy: p}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if test.before != 0 {
				w.WriteHeader(test.before)
			}
			w.WriteHeader(http.StatusSwitchingProtocols)
			if held := int(p.held.Load()); held != test.held {
				t.Errorf("%s: %d are held", name, held)
			}
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		p.free(t)
	}
}
