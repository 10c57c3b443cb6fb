package httpmw_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/bulkhead"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/stack"
	"github.com/resilience-go/resilience/timeout"
)

func ExampleServer_Wrap() {
	order := http.NotFoundHandler()

	mux := http.NewServeMux()
	mux.Handle("GET /orders/{id}", httpmw.Server{Policy: stack.Server("orders")}.Wrap(order))
}

// inJSON says in JSON why a request was not handled. err is for the log.
func inJSON(w http.ResponseWriter, _ *http.Request, err error) {
	w.Header().Set("Content-Type", "application/json")
	reason := "too slow"
	if errors.Is(err, resilience.ErrRejected) {
		reason = "busy"
		w.Header().Set("Retry-After", "1") // in seconds
	}
	if r, ok := errors.AsType[*resilience.Rejection](err); ok && r.Reason == resilience.Limited {
		w.Header().Set("Retry-Attempt", "0") // no further attempt is wanted
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprintf(w, `{"error": %q}`, reason)
}

func ExampleServer() {
	policy := resilience.Must(bulkhead.New(bulkhead.Config{Name: "orders", Slots: 1, MaxQueue: bulkhead.NoQueue}))
	busy, done := make(chan bool), make(chan bool)
	orders := httpmw.Server{
		Policy:       policy,
		Exempt:       func(r *http.Request) bool { return r.URL.Path == "/healthz" },
		ErrorHandler: inJSON,
	}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			busy <- true
			<-done
		}
	}))

	go func() {
		orders.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/slow", nil))
		close(busy)
	}()
	<-busy
	for _, path := range []string{"/orders", "/healthz"} {
		w := httptest.NewRecorder()
		orders.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		fmt.Println(path, w.Code, w.Header().Get("Retry-After"), w.Body)
	}
	close(done)
	<-busy
	// Output:
	// /orders 503 1 {"error": "busy"}
	// /healthz 200
}

// report stands for work that watches its context, such as a query.
func report(ctx context.Context) (string, error) {
	<-ctx.Done()
	return "", context.Cause(ctx)
}

// A handler has the limit as the deadline of its context. One that comes back with
// nothing written because of it need not answer.
func ExampleServer_timeout() {
	limit := resilience.Must(timeout.New(timeout.Config{Name: "reports", Timeout: 10 * time.Millisecond}))
	reports := httpmw.Server{Policy: limit}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := report(r.Context())
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return // it is answered with 503
		case err != nil:
			http.Error(w, "no report", http.StatusInternalServerError)
		default:
			io.WriteString(w, text)
		}
	}))

	w := httptest.NewRecorder()
	reports.ServeHTTP(w, httptest.NewRequest("GET", "/reports/7", nil))
	fmt.Print(w.Code, " ", w.Body)
	fmt.Println("in time:", limit.Stats().Calls-limit.Stats().Exceeded)
	// Output:
	// 503 Service Unavailable
	// in time: 0
}

// Each route has slots of its own: one that is slow does not close off the others.
func ExampleServer_routes() {
	busy, done := make(chan bool), make(chan bool)
	slots := resilience.Must(bulkhead.New(bulkhead.Config{Name: "api", Slots: 1, MaxQueue: bulkhead.NoQueue}))
	api := httpmw.Server{Policy: resilience.Must(keyed.New(slots, keyed.Config{Name: "api"}))}
	mux := http.NewServeMux()
	mux.Handle("GET /reports/{id}", api.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		busy <- true
		<-done
	})))
	mux.Handle("GET /users/{id}", api.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.PathValue("id"))
	})))

	go func() {
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/reports/7", nil))
		close(busy)
	}()
	<-busy
	for _, path := range []string{"/reports/8", "/users/8"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		fmt.Println(path, w.Code)
	}
	close(done)
	<-busy
	// Output:
	// /reports/8 503
	// /users/8 200
}

type accountKey struct{}

// authenticated stands for the middleware that checks who sends a request.
func authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		account, _, _ := r.BasicAuth()
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), accountKey{}, account)))
	})
}

func priority(r *http.Request) resilience.Priority {
	switch r.Pattern {
	case "POST /payments":
		return resilience.Critical
	case "GET /exports/{id}":
		return resilience.Low
	default:
		return resilience.Normal
	}
}

// account returns the name that the middleware for authentication has found.
func account(r *http.Request) string {
	name, _ := r.Context().Value(accountKey{}).(string)
	return name
}

// In an overload payments go first, and exports are rejected first. Each account gets a fair
// share.
func ExampleServer_priority() {
	policy := resilience.Compose(printRank, stack.Server("api"))
	api := httpmw.Server{
		Policy:   policy,
		Priority: priority,
		Caller:   account,
	}
	mux := http.NewServeMux()
	for _, pattern := range []string{"POST /payments", "GET /exports/{id}", "GET /users/{id}"} {
		mux.Handle(pattern, api.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	}

	for _, r := range []*http.Request{
		httptest.NewRequest("POST", "/payments", nil),
		httptest.NewRequest("GET", "/exports/7", nil),
		httptest.NewRequest("GET", "/users/7", nil),
	} {
		r.SetBasicAuth("acme", "secret")
		authenticated(mux).ServeHTTP(httptest.NewRecorder(), r)
	}
	// Output:
	// critical acme
	// low acme
	// normal acme
}

// printRank is a policy that prints the rank of each operation.
var printRank = resilience.PolicyFunc(func(ctx context.Context, next resilience.Next) error {
	fmt.Println(next.Rank())
	return next.Run(ctx)
})

// Events hold a slot of a limit until the first of them is sent.
func ExampleServer_events() {
	feed := slices.Values([]string{"created", "paid"})
	orders := httpmw.Server{Policy: resilience.Must(limit.New(limit.Config{Name: "orders"}))}
	events := orders.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		control := http.NewResponseController(w)
		for event := range feed {
			fmt.Fprintf(w, "data: %s\n\n", event)
			if err := control.Flush(); err != nil {
				return // the client is not there any more
			}
		}
	}))

	w := httptest.NewRecorder()
	events.ServeHTTP(w, httptest.NewRequest("GET", "/orders/7/events", nil))
	fmt.Print(w.Body)
	// Output:
	// data: created
	//
	// data: paid
}
