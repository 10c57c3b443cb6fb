package limit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/resilience-go/resilience"
	"github.com/resilience-go/resilience/httpmw"
	"github.com/resilience-go/resilience/keyed"
	"github.com/resilience-go/resilience/limit"
	"github.com/resilience-go/resilience/stack"
)

func ExampleNew() {
	l, err := limit.New(limit.Config{Name: "orders"})
	if err != nil {
		fmt.Println(err)
		return
	}
	orders := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "two books") })
	mux := http.NewServeMux()
	mux.Handle("/orders", httpmw.Server{Policy: l}.Wrap(orders))

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/orders", nil))
	fmt.Println(w.Body, l.Stats().Useful)
	// Output: two books 1
}

// Max protects a resource that each request holds, such as a database connection.
func ExampleConfig_max() {
	c := stack.DefaultServer("orders")
	c.Limit.Max = 200 // connections that the database has
	fmt.Println(c)
	// Output:
	// limit "orders": set by trials in an overload, 200 in flight at most
	//   operation
}

// In shadow mode a limit rejects nothing and counts what it would have rejected.
func ExampleConfig_shadow() {
	c := stack.DefaultServer("orders")
	c.Limit.Shadow = true
	p := resilience.Must(c.New())

	_ = resilience.Run(context.Background(), p, func(context.Context) error { return nil })
	for n := range resilience.Walk(p) {
		if l, ok := n.Policy.(*limit.Limit); ok {
			s := l.Stats()
			fmt.Printf("%d overloads; of %d requests %d would have been rejected\n", s.Overloads, s.Useful+s.Abandoned, s.Shed+s.QueueFull)
		}
	}
	// Output: 0 overloads; of 1 requests 0 would have been rejected
}

// A rejected request has not run. A server of your own protocol reports that to its client,
// so that the client does not retry at once.
func ExampleLimit() {
	l := resilience.Must(limit.New(limit.Config{Name: "orders", Max: 1, MaxQueue: -1}))
	err := resilience.Run(context.Background(), l, func(ctx context.Context) error {
		return resilience.Run(ctx, l, func(context.Context) error { return nil }) // there is one slot
	})
	if r, ok := errors.AsType[*resilience.Rejection](err); ok && errors.Is(err, limit.ErrLimited) {
		fmt.Printf("%s is busy: %s\n", r.Name, r.Detail)
	}
	// Output: orders is busy: queue is full
}

// alarm prints each begin and end of an overload.
type alarm struct{}

func (alarm) Observe(_ context.Context, e resilience.Event) {
	fmt.Printf("%s %s: %s\n", e.Policy, e.Name, e.To)
}

// The Observer is called at each begin and end of an overload. resilience.LogObserver logs
// them.
func ExampleConfig_observer() {
	l, err := limit.New(limit.Config{Name: "orders", Observer: alarm{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(l.Stats().Overload)
	// The events when the load exceeds the handler's capacity and falls again:
	for _, state := range []string{"OVERLOAD", "NORMAL"} {
		alarm{}.Observe(context.Background(), resilience.Event{Policy: "limit", Name: l.Name(), To: state})
	}
	// Output:
	// false
	// limit orders: OVERLOAD
	// limit orders: NORMAL
}

// With one limit for all routes, quick requests wait behind slow ones. A limit for each
// route prevents that. Routes with about the same service time may share one.
func Example_routes() {
	routes, err := keyed.New(resilience.Must(limit.New(limit.Config{Name: "shop"})), keyed.Config{
		Name: "shop",
		Keys: map[string]resilience.Policy{
			"/report": resilience.Must(limit.New(limit.Config{Name: "report", Max: 8})),
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	guarded := httpmw.Server{Policy: routes} // the key is the pattern of the route
	handle := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "done") }
	mux := http.NewServeMux()
	for _, pattern := range []string{"/order", "/search", "/report"} {
		mux.Handle(pattern, guarded.Wrap(http.HandlerFunc(handle)))
	}

	for _, path := range []string{"/order", "/search", "/report"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Println(path, w.Code)
	}
	fmt.Println(routes.Stats().Keys, "limits besides the one for reports")
	// Output:
	// /order 200
	// /search 200
	// /report 200
	// 2 limits besides the one for reports
}
