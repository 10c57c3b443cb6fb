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
)

// A limit needs no numbers. It belongs into the server, in front of the handler.
func ExampleNew() {
	l, err := limit.New(limit.Config{Name: "orders"})
	if err != nil {
		fmt.Println(err)
		return
	}
	orders := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%d in flight of %d", l.Stats().InFlight, l.Stats().Limit)
	})
	mux := http.NewServeMux()
	mux.Handle("/orders", httpmw.Server{Policy: l}.Wrap(orders))

	server := httptest.NewServer(mux)
	defer server.Close()
	resp, err := http.Get(server.URL + "/orders")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(string(body), err)
	// Output: 1 in flight of 64 <nil>
}

// Max is for a service that would run out of something else: here there are two
// connections to the database. Who comes meanwhile waits, or not.
func ExampleConfig() {
	l := resilience.Must(limit.New(limit.Config{Name: "reports", Max: 2, MaxQueue: -1}))
	ctx := context.Background()
	report := func(inside func()) error {
		return resilience.Run(ctx, l, func(context.Context) error { inside(); return nil })
	}
	err := report(func() {
		_ = report(func() {
			third := report(func() {})
			fmt.Println(third)
			fmt.Println(errors.Is(third, limit.ErrLimited))
		})
	})
	fmt.Println(err)
	// Output:
	// resilience: rejected by limit "reports": limited, queue is full
	// true
	// <nil>
}

// In shadow mode a limit refuses nobody, but counts whom it would have refused: to be
// seen for some days before it is trusted.
func ExampleConfig_shadow() {
	l := resilience.Must(limit.New(limit.Config{Name: "reports", Max: 1, MaxQueue: -1, Shadow: true}))
	ctx := context.Background()
	err := resilience.Run(ctx, l, func(ctx context.Context) error {
		return resilience.Run(ctx, l, func(context.Context) error {
			fmt.Println(l.Stats().InFlight, "in flight of", l.Stats().Limit)
			return nil
		})
	})
	fmt.Println(err)
	fmt.Println(l.Stats().Useful, "answered,", l.Stats().QueueFull, "would have been refused")
	// Output:
	// 2 in flight of 1
	// <nil>
	// 2 answered, 1 would have been refused
}

// alarm tells somebody of an overload, and that it is over.
type alarm struct{}

func (alarm) Observe(_ context.Context, e resilience.Event) {
	fmt.Printf("%s %s: %s\n", e.Policy, e.Name, e.To)
}

// An Observer hears of each begin and end of an overload. resilience.LogObserver logs
// them.
func ExampleConfig_observer() {
	l, err := limit.New(limit.Config{Name: "orders", Observer: alarm{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(l.Stats().Overload)
	// What it is told when there is more load than the handler is capable of, and then
	// no more:
	for _, state := range []string{"OVERLOAD", "NORMAL"} {
		alarm{}.Observe(context.Background(), resilience.Event{Policy: "limit", Name: l.Name(), To: state})
	}
	// Output:
	// false
	// limit orders: OVERLOAD
	// limit orders: NORMAL
}

// Quick requests wait behind slow ones if both have the same limit. With a limit for
// each route they do not. Routes that take about as long may share one.
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
	fmt.Println(routes.Stats().Keys, "limits besides that of reports")
	// Output:
	// /order 200
	// /search 200
	// /report 200
	// 2 limits besides that of reports
}
