package httpmw_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/internal/testkit"
	"github.com/resilience-go/resilience/stack"
)

// ranking is a policy that calls Next.Rank a number of times, and stores what it returned.
// It allocates nothing.
type ranking struct {
	times    int
	priority resilience.Priority
	caller   string
}

func (r *ranking) Apply(ctx context.Context, next resilience.Next) error {
	for range r.times {
		r.priority, r.caller = next.Rank()
	}
	return next.Run(ctx)
}

var silent = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})

// The policies get the priority and the caller that the functions of the Server return.
// However many policies need them, each function is called once for a request, with the
// server's request.
func TestServer_rank(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	for times, want := range []int32{0, 1, 1, 1} {
		first, second := &ranking{times: min(times, 1)}, &ranking{times: max(0, times-1)}
		var priorities, callers atomic.Int32
		h := httpmw.Server{
			Policy: resilience.Compose(first, second),
			Priority: func(own *http.Request) resilience.Priority {
				if own != r {
					t.Error("Priority gets another request")
				}
				priorities.Add(1)
				return resilience.Critical
			},
			Caller: func(own *http.Request) string {
				if own != r {
					t.Error("Caller gets another request")
				}
				callers.Add(1)
				return "tenant"
			},
		}.Wrap(silent)
		h.ServeHTTP(httptest.NewRecorder(), r)
		if priorities.Load() != want || callers.Load() != want {
			t.Errorf("%d calls of Rank: %d of Priority and %d of Caller, want %d", times, priorities.Load(), callers.Load(), want)
		}
		for i, p := range []*ranking{first, second} {
			if p.times > 0 && (p.priority != resilience.Critical || p.caller != "tenant") {
				t.Errorf("policy %d gets %v and %q", i, p.priority, p.caller)
			}
		}
	}
}

// Without functions all requests are alike, whatever their headers say.
func TestServer_rankIgnoresHeaders(t *testing.T) {
	p := &ranking{times: 1}
	r := httptest.NewRequest("GET", "/", nil)
	for _, name := range []string{"Priority", "Importance", "X-Priority", "Grpc-Priority"} {
		r.Header.Set(name, "u=0, critical")
	}
	r.SetBasicAuth("tenant", "secret")
	httpmw.Server{Policy: p}.Wrap(silent).ServeHTTP(httptest.NewRecorder(), r)
	if p.priority != resilience.Normal || p.caller != "" {
		t.Errorf("%v and %q", p.priority, p.caller)
	}
}

// The functions are not called for a request that is exempt, nor while the limit has room.
func TestServer_rankOnlyIfNeeded(t *testing.T) {
	for name, exempt := range map[string]bool{"exempt": true, "room": false} {
		h := httpmw.Server{
			Policy:   stack.Server("orders"),
			Exempt:   func(*http.Request) bool { return exempt },
			Priority: func(*http.Request) resilience.Priority { t.Errorf("%s: Priority is called", name); return 0 },
			Caller:   func(*http.Request) string { t.Errorf("%s: Caller is called", name); return "" },
		}.Wrap(silent)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
}

// A function that panics or calls runtime.Goexit ends the request as a handler would that
// does. Policies outside release what they hold, and the handler does not run.
func TestServer_rankUnwinds(t *testing.T) {
	for how, end := range testkit.Aborts("boom") {
		for name, s := range map[string]httpmw.Server{
			"Priority": {Priority: func(*http.Request) resilience.Priority { end.Abort(); return 0 }},
			"Caller":   {Caller: func(*http.Request) string { end.Abort(); return "" }},
		} {
			outside := newSlots(resilience.Answered)
			s.Policy = resilience.Compose(outside, &ranking{times: 1})
			h := s.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Errorf("%s: the handler ran", name) }))
			got := testkit.Unwind(func() error {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
				return nil
			})
			if got != end {
				t.Errorf("%s, %s: ended with %+v", name, how, got)
			}
			if held := outside.held.Load(); held != 0 {
				t.Errorf("%s, %s: %d slots are held", name, how, held)
			}
		}
	}
}
